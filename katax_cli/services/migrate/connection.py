"""The connection of a run of migrations on an SQL server."""

from __future__ import annotations

from katax_cli.services.databases.held import HeldConnection
from katax_cli.services.migrate.files.python import MigrationDb, Steps


class MigrationConnection(HeldConnection):
    """Also gives the functions of `.py` files what they work with."""

    def handle(self, steps: Steps) -> MigrationDb:
        """The argument of `up(db)` and `down(db)`."""
        return MigrationDb(self, steps)
