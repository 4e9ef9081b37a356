"""The sessions on a MySQL or MariaDB server, and the locks and transactions that they hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import pymysql

from katax_cli.engines.base import Engine
from katax_cli.engines.mysql.rows import rows_of
from katax_cli.engines.mysql.session import MysqlSession
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.sessions import OF_LOCKS, OF_TRANSACTIONS, Orphan, ServerLook, ServerSession

# The first word only: a statement may hold secrets.
_SESSIONS = """
SELECT id, host, command, upper(substring_index(trim(coalesce(info, '')), ' ', 1))
FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND command NOT IN ('Daemon', 'Binlog Dump')"""
_NAMES = """
SELECT processlist_id, attr_value FROM performance_schema.session_account_connect_attrs
WHERE attr_name = 'program_name'"""
_TRANSACTIONS = """
SELECT trx_mysql_thread_id, trx_tables_locked, trx_id, trx_rows_modified FROM information_schema.innodb_trx"""
_ROLLBACKS = "SHOW GLOBAL STATUS LIKE 'Handler_rollback'"
_CONNECTED = "SHOW GLOBAL STATUS LIKE 'Threads_connected'"
_MYSQL_LOCKS = """
SELECT t.processlist_id, concat(lower(l.object_type), ' ', coalesce(l.object_name, ''))
FROM performance_schema.metadata_locks l JOIN performance_schema.threads t ON t.thread_id = l.owner_thread_id
WHERE l.lock_status = 'GRANTED' AND (l.object_type = 'USER LEVEL LOCK'
    OR l.object_type = 'TABLE' AND l.lock_type NOT IN ('SHARED_READ', 'SHARED_HIGH_PRIO'))"""
_MARIADB_LOCKS = """
SELECT thread_id, concat(lower(lock_type), ' ', coalesce(table_name, '')) FROM information_schema.metadata_lock_info
WHERE lock_type = 'User lock' OR lock_type = 'Table metadata lock'
    AND lock_mode NOT IN ('MDL_SHARED_READ', 'MDL_SHARED_HIGH_PRIO')"""


def lock_name(engine: Engine, name: str) -> str:
    """Named locks are the server's, not the database's, and at most 64 characters long."""
    whole = f"{engine.settings.database}.{name}"
    return f"katax.{blake2b(whole.encode(), digest_size=16).hexdigest()}"


class MysqlSessions(EnginePart[Engine]):
    """ListsSessions and TracesWork.

    The server does not remember transactions, but it counts rollbacks, those of readers and of lost sessions too: what
    was open is committed when it is open no longer and nothing was rolled back since.
    """

    why_unknown = "the server counted rollbacks since, and does not say of which transactions"

    def look(self, connection: MysqlSession, timeout: float | None = None) -> ServerLook:
        """Of the whole server, as far as this user may see it (PROCESS).

        Locks are seen where the server lists them: MySQL with performance_schema, MariaDB with the plugin
        metadata_lock_info; else only those of transactions. A server does not say how a session ended. InnoDB tells
        of transactions as they were when it was last asked unless that is more than 0.1 s ago.
        """
        sessions = rows_of(connection, _SESSIONS, timeout)
        names = dict(if_told(connection, _NAMES, timeout) or ())
        rollbacks = _count(connection, _ROLLBACKS, timeout)
        transactions = if_told(connection, _TRANSACTIONS, timeout)
        writing = {row[0]: row for row in transactions or ()}
        locks = defaultdict(list)
        listed = if_told(connection, _locks_of(connection), timeout)
        for id, lock in listed or ():
            locks[id].append(str(lock).strip())
        for id, (_, tables, *_rest) in writing.items():
            if tables and not locks[id]:
                locks[id].append(f"rows of {tables} tables")
        # Who may not read the transactions sees no sessions of other users either.
        connected = 0 if transactions is not None else _count(connection, _CONNECTED, timeout)
        prepared = if_told(connection, "XA RECOVER", timeout)
        return ServerLook(
            tuple(
                _session(row, names, _work(writing.get(row[0]), rollbacks), tuple(sorted(set(locks[row[0]]))))
                for row in sessions
            ),
            frozenset(Orphan("transaction", _text(row[3])) for row in prepared or ()),
            untold=_untold(prepared=prepared, transactions=transactions, locks=listed),
            hidden=max(0, connected - len(sessions) - 1),
        )

    def fates(
        self, connection: MysqlSession, works: Sequence[str], timeout: float | None = None
    ) -> Mapping[str, str]:
        rollbacks = str(_count(connection, _ROLLBACKS, timeout))
        still_open = {str(row[2]) for row in rows_of(connection, _TRANSACTIONS, timeout)}
        fate_of: dict[str, str] = {}
        for work in works:
            id, _, before = work.partition("@")
            if id in still_open:
                fate_of[work] = "in progress"
            elif before == rollbacks:
                fate_of[work] = "committed"
        return fate_of


def _untold(**parts: list[tuple[Any, ...]] | None) -> frozenset[str]:
    """The checks that cannot be answered without these parts; prepared transactions have no session."""
    checks = {
        "prepared": "no_transactions_left",
        "transactions": OF_TRANSACTIONS,
        "locks": OF_LOCKS,
    }
    return frozenset(checks[name] for name, rows in parts.items() if rows is None)


def _work(transaction: tuple[Any, ...] | None, rollbacks: int) -> tuple[bool, str | None]:
    """Whether there is a transaction, and the number of one that has written, with the rollbacks before it."""
    if transaction is None:
        return False, None
    _, _, id, modified = transaction
    return True, f"{id}@{rollbacks}" if modified else None


def _count(session: MysqlSession, sql: str, timeout: float | None) -> int:
    [(_, value)] = rows_of(session, sql, timeout)
    return int(value)


def _session(
    row: tuple[Any, ...],
    names: Mapping[int, str],
    transaction: tuple[bool, str | None],
    locks: tuple[str, ...],
) -> ServerSession:
    id, host, command, doing = row
    port = str(host or "").rpartition(":")[2]
    return ServerSession(
        str(id),
        names.get(id) or "",
        int(port) if port.isdecimal() else None,
        doing,
        command == "Query",
        transaction[0],
        locks,
        transaction[1],
    )


def _text(gid: bytes | str) -> str:
    return gid.decode("utf-8", "replace") if isinstance(gid, bytes) else gid


def _locks_of(session: MysqlSession) -> str:
    return _MARIADB_LOCKS if session.is_mariadb else _MYSQL_LOCKS


def if_told(session: MysqlSession, sql: str, timeout: float | None) -> list[tuple[Any, ...]] | None:
    """None where the server does not list this, or not to this user."""
    try:
        return rows_of(session, sql, timeout)
    except (pymysql.ProgrammingError, pymysql.OperationalError) as error:
        if error.args and error.args[0] in _NOT_TOLD:
            return None
        raise


_NOT_TOLD = (1044, 1045, 1109, 1142, 1143, 1146, 1227, 1370, 3159)
"""No such table, or no right to it."""


create = MysqlSessions
