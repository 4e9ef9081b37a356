"""Migrations for other programs: `Migrator(db, directory="migrations", table="katax_migrations")`."""

from __future__ import annotations

from katax_cli.errors import ChangedAfterApply, StatementFailed, Unfinished
from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.migrate.values import Outcome, Standing

__all__ = ["ChangedAfterApply", "Migrator", "Outcome", "Standing", "StatementFailed", "Unfinished"]
