"""A database of SQLite is a file: it is created, listed and removed as files are."""

from __future__ import annotations

SQL = None
