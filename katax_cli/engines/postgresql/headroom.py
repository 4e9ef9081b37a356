"""The role of a PostgreSQL server, and its limited resources."""

from __future__ import annotations

from katax_cli.engines.parts import SqlPart
from katax_cli.engines.postgresql.session import PostgresConnection
from katax_cli.engines.postgresql.sessions import IS_CLIENT
from katax_cli.snapshot import Headroom, ServerStanding

# A standby that has replayed all it received is not behind, however long nothing was written.
_STANDING = """
SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on',
    CASE WHEN NOT pg_is_in_recovery() THEN NULL
        WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0.0
        ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END,
    EXISTS (SELECT FROM pg_stat_wal_receiver)"""
# Without pg_read_all_stats the transactions of other users are not seen.
_LIMITS = f"""
SELECT (SELECT count(*) FROM pg_stat_activity WHERE {IS_CLIENT}),
    (SELECT sum(CASE name WHEN 'max_connections' THEN setting::int ELSE -setting::int END) FROM pg_settings
        WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')),
    (SELECT max(age(datfrozenxid)) FROM pg_database),
    (SELECT extract(epoch FROM clock_timestamp() - min(xact_start))::float8 FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
    (SELECT max(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
        ELSE pg_current_wal_lsn() END, restart_lsn))::float8 FROM pg_replication_slots),
    (SELECT nullif(setting::float8, -1) * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
    has_function_privilege('pg_ls_waldir()', 'EXECUTE')"""
_WAL = "SELECT sum(size)::float8 FROM pg_ls_waldir()"
# https://www.postgresql.org/docs/current/routine-vacuuming.html: no more transactions three million before.
_WRAPAROUND = 2.0**31 - 3_000_000


class PostgresHeadroom(SqlPart):
    """ReportsHeadroom."""

    def standing(self, connection: PostgresConnection, timeout: float | None = None) -> ServerStanding:
        """A primary whose sessions are read-only by default takes no writes either."""
        [(standby, read_only, lag, receives)] = self._rows(connection, _STANDING, timeout)
        if not standby:
            why = "default_transaction_read_only is on" if read_only else None
            return ServerStanding("primary", writable=not read_only, why=why)
        why = "pg_is_in_recovery() is true" if receives else "in recovery, and it receives nothing"
        return ServerStanding("standby", writable=False, lag_seconds=lag, why=why)

    def headroom(self, connection: PostgresConnection, timeout: float | None = None) -> list[Headroom]:
        """Connections, transaction ids, the oldest transaction, what slots hold back, the size of the WAL."""
        [(used, most, age, oldest, held, keep, may_list)] = self._rows(connection, _LIMITS, timeout)
        [(wal,)] = self._rows(connection, _WAL, timeout) if may_list else [(None,)]
        found = [
            Headroom("connections", used, most, "connections"),
            Headroom("wraparound_age", age, _WRAPAROUND, "transactions"),
            Headroom("oldest_transaction", oldest or 0.0, None, "seconds"),
        ]
        if held is not None:
            found.append(Headroom("replication_slots", held, keep, "bytes"))
        if wal is not None:
            found.append(Headroom("wal", wal, None, "bytes"))
        return found


create = PostgresHeadroom
