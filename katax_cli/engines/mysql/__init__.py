"""MySQL and MariaDB through PyMySQL."""

from __future__ import annotations

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.mysql.engine import MysqlEngine


def create(settings: ConnectionSettings) -> MysqlEngine:
    """The engine of one connection; connects nowhere yet."""
    return MysqlEngine(settings)
