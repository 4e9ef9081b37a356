"""Abilities of a PostgreSQL connection that does nothing else meanwhile."""
