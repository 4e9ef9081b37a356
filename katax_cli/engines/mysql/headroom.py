"""The role of a MySQL or MariaDB server, and its limited resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pymysql

from katax_cli.engines.base import Engine
from katax_cli.engines.mysql.rows import fetched, rows_of
from katax_cli.engines.mysql.session import MysqlSession
from katax_cli.engines.parts import EnginePart
from katax_cli.snapshot import Headroom, ServerStanding

_CONNECTIONS = """
SELECT variable_value, @@GLOBAL.max_connections FROM {schema}.global_status
WHERE variable_name = 'Threads_connected'"""
_OLDEST = """
SELECT coalesce(max(timestampdiff(SECOND, trx_started, now())), 0) FROM information_schema.innodb_trx
WHERE trx_mysql_thread_id <> connection_id()"""
_NOT_ALLOWED = (1142, 1227)


class MysqlHeadroom(EnginePart[Engine]):
    """ReportsHeadroom."""

    def standing(self, connection: MysqlSession, timeout: float | None = None) -> ServerStanding:
        """A read-only server takes no writes of ordinary users; a replica that can be written to is one too."""
        [(read_only,)] = rows_of(connection, "SELECT @@GLOBAL.read_only", timeout)
        replica = _replica(connection, timeout)
        writable = not read_only
        why = None if writable else "read_only is on"
        if replica is None:
            return ServerStanding("primary" if writable else "replica", writable, None, why)
        lag = replica.get("seconds_behind_source", replica.get("seconds_behind_master"))
        return ServerStanding(
            "replica",
            writable,
            None if lag is None else float(lag),
            why if lag is not None else "it replicates nothing now",
        )

    def headroom(self, connection: MysqlSession, timeout: float | None = None) -> list[Headroom]:
        """Connections, and the oldest transaction where the user may see it (PROCESS)."""
        schema = "information_schema" if connection.is_mariadb else "performance_schema"
        [(used, most)] = rows_of(connection, _CONNECTIONS.format(schema=schema), timeout)
        rooms = [Headroom("connections", int(used), int(most), "connections")]
        oldest = _allowed(connection, _OLDEST, timeout)
        if oldest is not None:
            rooms.append(Headroom("oldest_transaction", float(oldest.rows[0][0]), None, "seconds"))
        return rooms


def _replica(session: MysqlSession, timeout: float | None) -> Mapping[str, Any] | None:
    """The state of its replication; None when the server is no replica, or the user may not ask."""
    # MariaDB and MySQL before 8.0.22 know the older word only, MySQL from 8.4 on the newer one only.
    statuses = _allowed(session, f"SHOW {'SLAVE' if session.is_mariadb else 'REPLICA'} STATUS", timeout)
    if statuses is None or not statuses.rows:
        return None
    return dict(zip((name.lower() for name in statuses.columns), statuses.rows[0], strict=True))


def _allowed(session: MysqlSession, sql: str, timeout: float | None) -> Any:
    """The result; None when the user lacks the privilege."""
    try:
        return fetched(session, sql, (), timeout)
    except pymysql.MySQLError as error:
        if error.args and error.args[0] in _NOT_ALLOWED:
            return None
        raise


create = MysqlHeadroom
