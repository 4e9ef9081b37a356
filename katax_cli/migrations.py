"""Migrations for other programs: `Migrator(db, directory="migrations", table="katax_migrations")`."""

from __future__ import annotations

from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.migrate.values import (
    ChangedAfterApply,
    Outcome,
    Standing,
    StatementFailed,
    Unfinished,
)

__all__ = ["ChangedAfterApply", "Migrator", "Outcome", "Standing", "StatementFailed", "Unfinished"]
