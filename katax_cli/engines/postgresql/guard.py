"""A read-only transaction that one statement cannot talk its way out of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise

import psycopg
from psycopg import generators
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn

from katax_cli.core.sql import Statement, code_tokens
from katax_cli.engines.postgresql.session import PostgresConnection
from katax_cli.engines.postgresql.wire import check_alive, exchange
from katax_cli.errors import Refused

# The SELECT fixes the snapshot: from then on the server refuses SET TRANSACTION READ WRITE. Whatever is read later,
# as the tables of a copy, is of that snapshot too.
_BEGIN = b"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_READ_BACK = b"SELECT current_setting('transaction_read_only')"
_INSIDE = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
# What a read-only transaction lets through: the server's files and programs.
_SERVER_FILES = frozenset({"lo_export", "pg_file_write", "pg_file_rename", "pg_file_unlink", "pg_file_sync"})
# And what takes effect at once, whatever becomes of the transaction: slots, WAL, statistics, sessions, the server,
# pages of a table or an index.
_NOT_UNDONE = frozenset(
    [
        "pg_create_physical_replication_slot",
        "pg_create_logical_replication_slot",
        "pg_copy_physical_replication_slot",
        "pg_copy_logical_replication_slot",
        "pg_drop_replication_slot",
        "pg_replication_slot_advance",
        "pg_logical_slot_get_changes",
        "pg_logical_slot_get_binary_changes",
        "pg_sync_replication_slots",
        "pg_replication_origin_advance",
        "pg_replication_origin_drop",
        "pg_logical_emit_message",
        "pg_log_standby_snapshot",
        "pg_switch_wal",
        "pg_create_restore_point",
        "pg_backup_start",
        "pg_backup_stop",
        "pg_start_backup",
        "pg_stop_backup",
        "pg_promote",
        "pg_wal_replay_pause",
        "pg_wal_replay_resume",
        "pg_reload_conf",
        "pg_rotate_logfile",
        "pg_terminate_backend",
        "pg_cancel_backend",
        "pg_stat_statements_reset",
        "pg_truncate_visibility_map",
        "heap_force_kill",
        "heap_force_freeze",
        "gin_clean_pending_list",
        "brin_summarize_new_values",
        "brin_summarize_range",
        "brin_desummarize_range",
    ]
)
_NOT_UNDONE_FAMILIES = ("pg_stat_reset",)
# What runs its text in another session, which is not read-only; all functions whose names begin so.
_OTHER_SESSIONS = ("dblink", "pg_background_")


@contextmanager
def read_only_transaction(
    connection: PostgresConnection, name: str, characteristics: str = ""
) -> Iterator[None]:
    """See `ReadOnlyGuard.read_only`: two round trips more than the statement."""
    check_alive(connection)
    if connection.status != TransactionStatus.IDLE:
        raise Refused(f"a transaction is open on {name!r}; a read-only one cannot begin inside it")
    if _begin(connection, characteristics) != b"on":
        connection.close()
        raise Refused(f"{name!r} did not confirm that the transaction is read-only")
    connection.guarded = True
    try:
        yield
    finally:
        connection.guarded = False
        _roll_back(connection)


def check_guarded(connection: PostgresConnection, statement: Statement) -> None:
    """Raises Refused for what the server's read-only transaction does not stop, or once it has ended."""
    if not connection.guarded:
        return
    if connection.status not in _INSIDE:
        raise Refused("the read-only transaction has ended; one statement runs in it")
    if (reason := _way_out(statement)) is not None:
        raise Refused(reason)


@lru_cache(maxsize=256)
def _way_out(statement: Statement) -> str | None:
    effect = statement.effect
    if effect.kind == "copy" or effect.verb == "DO":
        return f"{effect.verb} on a read-only connection: it can reach the server's files and programs"
    words = [token.text.strip('"').lower() for token in code_tokens(statement.text, "postgresql")]
    names = set(words)
    for name in sorted(names & _SERVER_FILES):
        return f"{name} on a read-only connection: it writes files of the server"
    for name in sorted(names & _NOT_UNDONE):
        return f"{name} on a read-only connection: it takes effect at once, and no rollback undoes it"
    # A column may be called so too.
    for name in (word for word, following in pairwise(words) if following == "("):
        if name.startswith(_NOT_UNDONE_FAMILIES):
            return f"{name} on a read-only connection: it takes effect at once, and no rollback undoes it"
        if name.startswith(_OTHER_SESSIONS):
            return f"{name} on a read-only connection: it works in another session, which may write"
    return None


def _begin(connection: PostgresConnection, characteristics: str) -> bytes | None:
    def queue(pgconn: PGconn) -> None:
        pgconn.send_query_params(b" ".join((_BEGIN, characteristics.encode())), None)
        pgconn.send_query_params(_READ_BACK, None)
        pgconn.pipeline_sync()

    begun, seen, _ = exchange(connection, queue, replies=3)
    for results in (begun, seen):
        if results[0].error_message:
            raise psycopg.errors.error_from_result(results[0])
    return seen[0].get_value(0, 0)


def _roll_back(connection: PostgresConnection) -> None:
    if connection.closed or connection.status == TransactionStatus.IDLE:
        return
    try:
        connection.pgconn.send_query(b"ROLLBACK")
        connection.wait(generators.execute(connection.pgconn))
    except psycopg.Error:
        # What was read is good; the connection is not, and says so to the pool.
        connection.close()
