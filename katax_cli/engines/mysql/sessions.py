"""The sessions on a MySQL or MariaDB server, and the locks and transactions that they hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pymysql

from katax_cli.engines.base import Engine
from katax_cli.engines.mysql.rows import fetched
from katax_cli.engines.mysql.session import MysqlSession
from katax_cli.engines.sessions import Orphan, ServerLook, ServerSession

# The first word only: a statement may hold secrets.
_SESSIONS = """
SELECT id, host, command, upper(substring_index(trim(coalesce(info, '')), ' ', 1))
FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND command NOT IN ('Daemon', 'Binlog Dump')"""
_NAMES = """
SELECT processlist_id, attr_value FROM performance_schema.session_account_connect_attrs
WHERE attr_name = 'program_name'"""
_TRANSACTIONS = "SELECT trx_mysql_thread_id, trx_tables_locked FROM information_schema.innodb_trx"
_MYSQL_LOCKS = """
SELECT t.processlist_id, concat(lower(l.object_type), ' ', coalesce(l.object_name, ''))
FROM performance_schema.metadata_locks l JOIN performance_schema.threads t ON t.thread_id = l.owner_thread_id
WHERE l.lock_status = 'GRANTED' AND (l.object_type = 'USER LEVEL LOCK'
    OR l.object_type = 'TABLE' AND l.lock_type NOT IN ('SHARED_READ', 'SHARED_HIGH_PRIO'))"""
_MARIADB_LOCKS = """
SELECT thread_id, concat(lower(lock_type), ' ', coalesce(table_name, '')) FROM information_schema.metadata_lock_info
WHERE lock_type = 'User lock' OR lock_type = 'Table metadata lock'
    AND lock_mode NOT IN ('MDL_SHARED_READ', 'MDL_SHARED_HIGH_PRIO')"""


class Sessions:
    """ListsSessions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def look(self, connection: MysqlSession, timeout: float | None = None) -> ServerLook:
        """Of the whole server, as far as this user may see it (PROCESS).

        Locks are seen where the server lists them: MySQL with performance_schema, MariaDB with the plugin
        metadata_lock_info; else only those of transactions. A server does not say how a session ended. InnoDB tells
        of transactions as they were when it was last asked unless that is more than 0.1 s ago.
        """
        sessions = _rows(connection, _SESSIONS, timeout)
        names = dict(_if_told(connection, _NAMES, timeout) or ())
        writing = dict(_if_told(connection, _TRANSACTIONS, timeout) or ())
        locks = defaultdict(list)
        for id, lock in _if_told(connection, _locks_of(connection), timeout) or ():
            locks[id].append(str(lock).strip())
        for id, tables in writing.items():
            if tables and not locks[id]:
                locks[id].append(f"rows of {tables} tables")
        prepared = _if_told(connection, "XA RECOVER", timeout)
        return ServerLook(
            tuple(_session(row, names, writing, tuple(sorted(set(locks[row[0]])))) for row in sessions),
            frozenset(Orphan("transaction", _text(row[3])) for row in prepared or ()),
            untold=frozenset({"no_transactions_left"} if prepared is None else ()),
        )


def _session(
    row: tuple[Any, ...], names: Mapping[int, str], writing: Mapping[int, int], locks: tuple[str, ...]
) -> ServerSession:
    id, host, command, doing = row
    port = str(host or "").rpartition(":")[2]
    return ServerSession(
        str(id),
        names.get(id) or "",
        int(port) if port.isdecimal() else None,
        doing,
        command == "Query",
        id in writing,
        locks,
    )


def _text(gid: bytes | str) -> str:
    return gid.decode("utf-8", "replace") if isinstance(gid, bytes) else gid


def _locks_of(session: MysqlSession) -> str:
    return _MARIADB_LOCKS if session.is_mariadb else _MYSQL_LOCKS


def _if_told(session: MysqlSession, sql: str, timeout: float | None) -> list[tuple[Any, ...]] | None:
    """None where the server does not list this, or not to this user."""
    try:
        return _rows(session, sql, timeout)
    except (pymysql.ProgrammingError, pymysql.OperationalError) as error:
        if error.args and error.args[0] in _NOT_TOLD:
            return None
        raise


_NOT_TOLD = (1044, 1045, 1109, 1142, 1143, 1146, 1227, 1370, 3159)
"""No such table, or no right to it."""


def _rows(session: MysqlSession, sql: str, timeout: float | None) -> list[tuple[Any, ...]]:
    return fetched(session, sql, (), timeout).rows


def create(engine: Engine) -> Sessions:
    """The sessions of one connection's server."""
    return Sessions(engine)
