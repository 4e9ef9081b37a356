"""The sessions on a PostgreSQL server, their locks, and the outcome of their transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from katax_cli.engines.parts import SqlPart
from katax_cli.engines.postgresql.session import PostgresConnection
from katax_cli.engines.sessions import Orphan, ServerLook, ServerSession

# Of a session that this user may not look into even the type is hidden; those that have a database are somebody's.
IS_CLIENT = "(backend_type = 'client backend' OR backend_type IS NULL AND datid IS NOT NULL)"
# backend_xid has 32 bits, txid_status wants 64: of all numbers that end in these, the one that is nearest to the
# snapshot's xmax. Transactions that run may have numbers beyond it: it follows the last one that ended.
# A lock of reading is none that anybody waits for, but for those who change the table.
_SESSIONS = """
WITH next AS (SELECT txid_snapshot_xmax(txid_current_snapshot()) AS xid)
SELECT a.pid || '@' || coalesce(a.backend_start::text, ''), a.application_name, a.client_port,
    upper(substring(a.query from '^\\s*(\\w+)')), a.state = 'active',
    a.state LIKE 'idle in transaction%' OR a.backend_xid IS NOT NULL,
    ARRAY(SELECT DISTINCT CASE l.locktype WHEN 'relation' THEN l.mode || ' on ' || l.relation::regclass::text
            ELSE l.locktype || ' lock' END
        FROM pg_locks l WHERE l.pid = a.pid AND l.granted
            AND (l.locktype = 'advisory' OR l.locktype = 'relation' AND l.mode <> 'AccessShareLock')
            AND (l.database IS NULL OR l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))),
    next.xid + (a.backend_xid::text::bigint - (next.xid & 4294967295) + 6442450944) % 4294967296 - 2147483648,
    a.query = '<insufficient privilege>'
FROM pg_stat_activity a, next WHERE a.pid <> pg_backend_pid() AND (a.backend_type = 'client backend'
    OR a.query = '<insufficient privilege>' AND a.usesysid IS NOT NULL)"""
_PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
# Without the text of JSON this would not parse on a server before 14, which does not count them.
_DROPPED = """
SELECT (to_jsonb(d) ->> 'sessions_abandoned')::bigint FROM pg_stat_database d
WHERE datname = current_database()"""


class PostgresSessions(SqlPart):
    """ListsSessions and TracesWork."""

    why_unknown = "the server has forgotten it"

    def look(self, connection: PostgresConnection, timeout: float | None = None) -> ServerLook:
        """Of the whole server; prepared transactions and dropped sessions are those of this database.

        Sessions of other users show their name only without membership in pg_read_all_stats.
        """
        rows = self._rows(connection, _SESSIONS, timeout)
        prepared = self._rows(connection, _PREPARED, timeout)
        [(dropped,)] = self._rows(connection, _DROPPED, timeout)
        return ServerLook(
            tuple(_session(row) for row in rows),
            frozenset(Orphan("transaction", name) for (name,) in prepared),
            dropped,
            hidden=sum(bool(row[-1]) for row in rows),
        )

    def fates(
        self, connection: PostgresConnection, works: Sequence[str], timeout: float | None = None
    ) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for work in works:
            [(fate,)] = self._rows(connection, "SELECT txid_status($1)", timeout, (int(work),))
            if fate is not None:
                found[work] = fate
        return found


def _session(row: Sequence[Any]) -> ServerSession:
    id, name, port, doing, busy, in_transaction, locks, work, _ = row
    return ServerSession(
        id,
        name or "",
        port if port is not None and port > 0 else None,
        doing or "",
        bool(busy),
        bool(in_transaction),
        tuple(locks),
        None if work is None else str(work),
    )


create = PostgresSessions
