"""The sessions of a PostgreSQL server, their locks, and how to end them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from katax_cli.core.sql import redact
from katax_cli.engines.activity import (
    HIDDEN,
    MOST_SQL,
    ActivityList,
    LockWait,
    Pid,
    SessionActivity,
    rounded_seconds,
)
from katax_cli.engines.parts import SqlPart
from katax_cli.engines.postgresql.session import PostgresConnection
from katax_cli.engines.postgresql.sessions import IS_CLIENT

_UNSEEN = (
    "sessions of other users show neither state nor statement; "
    "GRANT pg_read_all_stats (or pg_monitor) to this user shows them"
)
_SESSIONS = f"""
SELECT pid, usename, CASE WHEN client_port = -1 THEN '[local]' ELSE host(client_addr) END, datname,
    CASE WHEN backend_type IS NULL THEN NULL ELSE coalesce(state, backend_type) END,
    CASE WHEN state NOT LIKE 'idle%' THEN wait_event_type || ': ' || wait_event END,
    extract(epoch FROM clock_timestamp() - CASE WHEN state LIKE 'idle%' THEN state_change ELSE query_start END)::float8,
    extract(epoch FROM clock_timestamp() - xact_start)::float8,
    CASE WHEN state <> 'idle' THEN query END, coalesce(backend_start::text, ''),
    CASE WHEN state NOT LIKE 'idle%' THEN query_start::text END, pid = pg_backend_pid()
FROM pg_stat_activity
WHERE {IS_CLIENT} OR backend_type IN ('autovacuum worker', 'walsender', 'logical replication worker')
ORDER BY state IS NULL, state = 'idle', 8 DESC NULLS LAST, 7 DESC NULLS LAST, pid"""
# Rows are locked by waiting for the transaction that holds them, with a lock on the row as a place in the queue.
# Without the text of JSON this would not parse on a server before 14, which does not note the time.
_WAITS = """
WITH here AS (SELECT oid FROM pg_database WHERE datname = current_database()),
named AS (SELECT l.*, CASE WHEN l.database = here.oid OR l.database = 0 THEN l.relation::regclass::text
        ELSE 'relation ' || l.relation || ' of another database' END AS name FROM pg_locks l, here),
waits AS (SELECT l.*, (to_jsonb(l) ->> 'waitstart')::timestamptz AS since,
        (SELECT r.name FROM named r WHERE r.pid = l.pid AND r.locktype = 'tuple' AND r.granted LIMIT 1) AS row_of
    FROM named l WHERE NOT l.granted AND l.pid IS NOT NULL)
SELECT DISTINCT w.pid, holder, CASE
        WHEN w.locktype = 'transactionid' AND w.row_of IS NOT NULL THEN 'a row of ' || w.row_of
        WHEN w.locktype = 'transactionid' THEN 'a row or transaction'
        WHEN w.locktype = 'advisory' THEN 'advisory lock ' || CASE WHEN w.objsubid = 1
            THEN (w.classid::bigint << 32 | w.objid::bigint)::text ELSE w.classid || ', ' || w.objid END
        WHEN w.locktype = 'tuple' THEN 'a row of ' || w.name
        WHEN w.locktype = 'relation' THEN w.mode || ' on ' || w.name
        ELSE w.mode || ' on a ' || w.locktype || coalesce(' of ' || w.name, '') END,
    extract(epoch FROM clock_timestamp() - w.since)::float8
FROM waits w LEFT JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS holder ON true
ORDER BY 1, 2"""
_IS_SESSION = "FROM pg_stat_activity WHERE pid = $1 AND coalesce(backend_start::text, '') = $2"
_CANCEL = f"SELECT pg_cancel_backend(pid) {_IS_SESSION} AND coalesce(query_start::text, '') = $3"
_TERMINATE = f"SELECT pg_terminate_backend(pid) {_IS_SESSION}"


class PostgresActivity(SqlPart):
    """ListsActivity, ListsLockWaits and EndsSessions."""

    def activity(self, connection: PostgresConnection, timeout: float | None = None) -> ActivityList:
        """Of the whole server, those that do most first: clients, replication and autovacuum."""
        rows = self._rows(connection, _SESSIONS, timeout)
        sessions = tuple(_session(row) for row in rows if not row[-1])
        own = next((row[0] for row in rows if row[-1]), None)
        is_hidden = any(session.state == HIDDEN for session in sessions)
        return ActivityList(sessions, own, (_UNSEEN,) if is_hidden else ())

    def lock_waits(self, connection: PostgresConnection, timeout: float | None = None) -> list[LockWait]:
        """Seen by every user. A prepared transaction has no session: 0 stands for it."""
        return [
            LockWait(waiter, _holder(holder), lock, rounded_seconds(waiting))
            for waiter, holder, lock, waiting in self._rows(connection, _WAITS, timeout)
        ]

    def cancel(
        self, connection: PostgresConnection, target: SessionActivity, timeout: float | None = None
    ) -> bool:
        """Only the statement that was looked at: what its session began since is let alone."""
        values = (target.pid, target.session, target.work or "")
        return self._rows(connection, _CANCEL, timeout, values) == [(True,)]

    def terminate(
        self, connection: PostgresConnection, target: SessionActivity, timeout: float | None = None
    ) -> bool:
        return self._rows(connection, _TERMINATE, timeout, (target.pid, target.session)) == [(True,)]


def _session(row: Sequence[Any]) -> SessionActivity:
    pid, user, host, database, state, wait, age, transaction_age, sql, session, work, _own = row
    return SessionActivity(
        pid,
        user,
        host,
        database,
        HIDDEN if state is None else state,
        wait,
        rounded_seconds(age),
        rounded_seconds(transaction_age),
        None if state is None or sql is None else redact(sql, "postgresql", max_length=MOST_SQL),
        session,
        work,
    )


def _holder(pid: int | None) -> Pid | None:
    return "a prepared transaction" if pid == 0 else pid


create = PostgresActivity
