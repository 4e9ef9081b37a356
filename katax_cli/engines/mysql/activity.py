"""The sessions of a MySQL or MariaDB server, their locks, and how to end them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import pymysql

from katax_cli.core.sql import redact
from katax_cli.engines.activity import (
    HIDDEN,
    MOST_SQL,
    ActivityList,
    LockWait,
    SessionActivity,
    rounded_seconds,
)
from katax_cli.engines.base import Engine
from katax_cli.engines.mysql.rows import rows_of
from katax_cli.engines.mysql.session import MysqlSession
from katax_cli.engines.mysql.sessions import if_told
from katax_cli.engines.parts import EnginePart
from katax_cli.errors import ConfigError

_UNSEEN = "sessions of other users and the age of transactions are hidden; GRANT PROCESS ON *.* to this user shows them"
_CANNOT_SEE = "{name!r} does not say who waits for a lock to this user; GRANT PROCESS ON *.* to it shows them"
# Seconds of MySQL are whole. Only MariaDB numbers statements in the list itself.
_SESSIONS = """
SELECT id, user, host, db, command, state, {age}, info, {number}, id = CONNECTION_ID()
FROM information_schema.processlist WHERE command NOT IN ('Daemon', 'Binlog Dump', 'Binlog Dump GTID')
    AND user NOT IN ('system user', 'event_scheduler')"""
_MARIADB = {"age": "time_ms / 1000", "number": "query_id"}
_MYSQL = {"age": "time", "number": "NULL"}
# The time of a transaction's start is the server's, whatever the session's time zone.
_TRANSACTIONS = """
SELECT trx_mysql_thread_id,
    timestampdiff(MICROSECOND, trx_started, CONVERT_TZ(NOW(6), @@session.time_zone, 'SYSTEM')) / 1e6
FROM information_schema.innodb_trx"""
_NUMBERS = """
SELECT t.processlist_id, min(s.event_id) FROM performance_schema.events_statements_current s
JOIN performance_schema.threads t USING (thread_id)
WHERE s.end_event_id IS NULL AND t.processlist_id IS NOT NULL GROUP BY 1"""
_WAITED = (
    "timestampdiff(MICROSECOND, r.trx_wait_started, CONVERT_TZ(NOW(6), @@session.time_zone, 'SYSTEM')) / 1e6"
)
_MARIADB_ROWS = f"""
SELECT r.trx_mysql_thread_id, b.trx_mysql_thread_id, concat(lower(l.lock_mode), ' ', lower(l.lock_type), ' lock on ',
    replace(l.lock_table, '`', '')), {_WAITED}
FROM information_schema.innodb_lock_waits w
JOIN information_schema.innodb_trx r ON r.trx_id = w.requesting_trx_id
JOIN information_schema.innodb_trx b ON b.trx_id = w.blocking_trx_id
LEFT JOIN information_schema.innodb_locks l ON l.lock_id = w.requested_lock_id"""
_MYSQL_ROWS = f"""
SELECT r.trx_mysql_thread_id, b.trx_mysql_thread_id, concat(lower(l.lock_mode), ' ', lower(l.lock_type), ' lock on ',
    l.object_schema, '.', l.object_name), {_WAITED}
FROM performance_schema.data_lock_waits w
JOIN information_schema.innodb_trx r ON r.trx_id = w.requesting_engine_transaction_id
JOIN information_schema.innodb_trx b ON b.trx_id = w.blocking_engine_transaction_id
LEFT JOIN performance_schema.data_locks l ON l.engine_lock_id = w.requesting_engine_lock_id"""
# Locks on definitions of tables, and of GET_LOCK: who holds one on the object that is waited for.
_MYSQL_OBJECTS = """
SELECT r.processlist_id, b.processlist_id,
    concat(lower(w.object_type), ' lock on ', concat_ws('.', w.object_schema, w.object_name))
FROM performance_schema.metadata_locks w JOIN performance_schema.threads r ON r.thread_id = w.owner_thread_id
JOIN performance_schema.metadata_locks h ON h.object_type = w.object_type AND h.object_schema <=> w.object_schema
    AND h.object_name <=> w.object_name AND h.lock_status = 'GRANTED' AND h.owner_thread_id <> w.owner_thread_id
JOIN performance_schema.threads b ON b.thread_id = h.owner_thread_id
WHERE w.lock_status = 'PENDING'"""
_ON_OBJECTS = ("Waiting for ", "User lock")
"""What the list says of a session that waits for the definition of a table, for all tables, or in GET_LOCK."""
_GONE = (1094, 1957)
"""No such thread, or no such statement."""
_NOT_ALLOWED = (1095, 1227, 1979)
"""The thread, or the statement, is another user's."""
_NO_PROCEDURE = (1044, 1305, 1370)


class MysqlActivity(EnginePart[Engine]):
    """ListsActivity, ListsLockWaits and EndsSessions."""

    def activity(self, connection: MysqlSession, timeout: float | None = None) -> ActivityList:
        """Of the whole server with PROCESS, else of this user, with one row that stands for the others."""
        words = _MARIADB if connection.is_mariadb else _MYSQL
        rows = rows_of(connection, _SESSIONS.format(**words), timeout)
        transactions = if_told(connection, _TRANSACTIONS, timeout)
        numbers = None if connection.is_mariadb else if_told(connection, _NUMBERS, timeout)
        ages, events = dict(transactions or ()), dict(numbers or ())
        sessions = [_session(_Listed(*row), ages, events) for row in rows if not row[-1]]
        if transactions is None:
            sessions.append(SessionActivity(None, None, None, None, HIDDEN, None, None, None, None))
        own = next((row[0] for row in rows if row[-1]), None)
        return ActivityList(
            tuple(sorted(sessions, key=_idleness)), own, () if transactions is not None else (_UNSEEN,)
        )

    def lock_waits(self, connection: MysqlSession, timeout: float | None = None) -> list[LockWait]:
        """Waits for rows as InnoDB reports them; MariaDB does not report the holders of metadata locks."""
        on_rows = if_told(connection, _MARIADB_ROWS if connection.is_mariadb else _MYSQL_ROWS, timeout)
        if on_rows is None:
            raise ConfigError(_CANNOT_SEE.format(name=self._engine.settings.name))
        objects = None if connection.is_mariadb else if_told(connection, _MYSQL_OBJECTS, timeout)
        waits = {
            (row[0], row[1]): LockWait(row[0], row[1], str(row[2]), rounded_seconds(row[3]))
            for row in on_rows
        }
        for waiter, holder, lock in objects or ():
            waits.setdefault((waiter, holder), LockWait(waiter, holder, str(lock), None))
        known = {waiter for waiter, _ in waits}
        untold = [
            LockWait(session.pid, None, session.wait, session.age_seconds)
            for session in self.activity(connection, timeout).sessions
            if session.pid is not None and session.pid not in known and _waits_for_object(session)
            if session.wait is not None
        ]
        return [*waits.values(), *untold]

    def cancel(self, connection: MysqlSession, target: SessionActivity, timeout: float | None = None) -> bool:
        """Only the statement that was looked at, by its number on MariaDB; on MySQL it is looked at once more."""
        if connection.is_mariadb and target.work is not None:
            order = f"KILL QUERY ID {int(target.work)}"
        elif self._is_as_before(connection, target, timeout):
            order = f"KILL QUERY {int(target.session)}"
        else:
            return False
        return _ordered(connection, order, f"CALL mysql.rds_kill_query({int(target.session)})", timeout)

    def terminate(
        self, connection: MysqlSession, target: SessionActivity, timeout: float | None = None
    ) -> bool:
        id = int(target.session)
        return _ordered(connection, f"KILL {id}", f"CALL mysql.rds_kill({id})", timeout)

    def _is_as_before(self, connection: MysqlSession, target: SessionActivity, timeout: float | None) -> bool:
        now = self.activity(connection, timeout).sessions
        return any((one.session, one.work) == (target.session, target.work) for one in now)


class _Listed(NamedTuple):
    """A row of the list of processes."""

    id: int
    user: str
    host: str
    database: str | None
    command: str
    state: str | None
    age: Any
    sql: str | None
    number: int | None
    own: int


def _session(row: _Listed, ages: Mapping[int, Any], events: Mapping[int, int]) -> SessionActivity:
    is_idle = row.command == "Sleep"
    return SessionActivity(
        row.id,
        row.user,
        row.host.rpartition(":")[0] or row.host,
        row.database,
        _state(row.command, in_transaction=row.id in ages),
        None if is_idle else row.state or None,
        rounded_seconds(row.age),
        rounded_seconds(ages.get(row.id)),
        None if row.sql is None else redact(row.sql, "mysql", max_length=MOST_SQL),
        str(row.id),
        None if is_idle else _work(row, events.get(row.id)),
    )


def _state(command: str, *, in_transaction: bool) -> str:
    if command == "Sleep":
        return "idle in transaction" if in_transaction else "idle"
    return "active" if command in ("Query", "Execute") else command.lower()


def _work(row: _Listed, event: int | None) -> str:
    """The number of the statement; where the server has none, a hash of its text, which a later run shares."""
    number = row.number if row.number is not None else event
    return str(number) if number is not None else blake2b((row.sql or "").encode(), digest_size=8).hexdigest()


def _waits_for_object(session: SessionActivity) -> bool:
    wait = session.wait or ""
    return wait.startswith(_ON_OBJECTS) and (wait.endswith("lock") or wait == "User lock")


def _idleness(session: SessionActivity) -> tuple[bool, bool, float, float]:
    """Those that do most first."""
    return (
        session.state == HIDDEN,
        session.state == "idle",
        -(session.transaction_age_seconds or 0),
        -(session.age_seconds or 0),
    )


def _ordered(session: MysqlSession, order: str, hosted: str, timeout: float | None) -> bool:
    """False when it had ended before. On RDS a procedure may end what KILL may not."""
    try:
        rows_of(session, order, timeout)
    except pymysql.MySQLError as error:
        if error.args[0] in _GONE:
            return False
        if error.args[0] not in _NOT_ALLOWED:
            raise
        try:
            rows_of(session, hosted, timeout)
        except pymysql.MySQLError as missing:
            raise error if missing.args[0] in _NO_PROCEDURE else missing from None
    return True


create = MysqlActivity
