"""Statements from calls, compiled by SQLAlchemy Core. Part of floor 2."""
