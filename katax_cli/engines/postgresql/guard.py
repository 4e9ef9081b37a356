"""A read-only transaction that one statement cannot talk its way out of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise

import psycopg
from psycopg import generators
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn

from katax_cli.core.sql import Statement, Token, code_tokens
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
        "pg_restore_relation_stats",
        "pg_clear_relation_stats",
        "autoprewarm_dump_now",
        "autoprewarm_start_worker",
    ]
)
_NOT_UNDONE_FAMILIES = ("pg_stat_reset",)
# What runs its text in another session, which is not read-only; all functions whose names begin so.
_OTHER_SESSIONS = ("dblink", "pg_background_", "run_command_on_", "master_run_on_worker")
# What runs a text of its arguments as SQL. The server's read-only transaction lets that call all of the above, too.
_RUN_TEXTS = frozenset(
    {"query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema", "ts_stat", "ts_rewrite"}
    | {"crosstab", "crosstab2", "crosstab3", "crosstab4", "connectby", "xpath_table"}
)
_CONSTANTS = frozenset({"true", "false", "null", "array"})
# format() quotes what it puts in place of these; a name that is called, or a part of one, may be any function's.
_FORMAT = re.compile(r"%(?:\d+\$)?[IL]|%%")
_CALLED = re.compile(r"""[\w$"]%(?:\d+\$)?I|%(?:\d+\$)?I(?:[\w$"%]|\s*(?:\(|/\*|--))""")


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
    return _way_out_of(statement.text)


def _way_out_of(text: str) -> str | None:
    """The reason to refuse SQL that a read-only transaction would run; None for what it holds."""
    code = list(code_tokens(text, "postgresql"))
    if any(token.text[:3].lower() == 'u&"' for token in code):
        return 'U&"…" on a read-only connection: it spells a name with escapes; write the name as it is'
    words = [token.text.strip('"').lower() for token in code]
    names = set(words)
    for name in sorted(names & _SERVER_FILES):
        return f"{name} on a read-only connection: it writes files of the server"
    for name in sorted(names & _NOT_UNDONE):
        return f"{name} on a read-only connection: it takes effect at once, and no rollback undoes it"
    # A column may be called so too.
    for at, (name, following) in enumerate(pairwise(words)):
        if following != "(":
            continue
        if name.startswith(_NOT_UNDONE_FAMILIES):
            return f"{name} on a read-only connection: it takes effect at once, and no rollback undoes it"
        if name.startswith(_OTHER_SESSIONS):
            return f"{name} on a read-only connection: it works in another session, which may write"
        if name in _RUN_TEXTS and (reason := _way_out_through(name, _arguments(code, at + 2))) is not None:
            return reason
    return None


def _arguments(code: Sequence[Token], start: int) -> list[Token]:
    """The tokens from `start` on, behind an opening bracket, up to the one that closes it."""
    depth, arguments = 1, []
    for token in code[start:]:
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0:
            break
        arguments.append(token)
    return arguments


def _way_out_through(name: str, arguments: Sequence[Token]) -> str | None:
    """The reason to refuse a call that runs a text: what the text holds, or that it is not known beforehand."""
    if name == "ts_rewrite" and len(_split_at_commas(arguments)) != 2:
        return None
    for argument in _split_at_commas(arguments):
        text = _known_text(argument)
        if text is None:
            return (
                f"{name} on a read-only connection: it runs a text that is not known beforehand; "
                "write it as one literal, or as format('…', …) with %I and %L alone"
            )
        if (reason := _way_out_of(text)) is not None:
            return reason
    return None


def _split_at_commas(arguments: Sequence[Token]) -> list[list[Token]]:
    depth = 0
    parts: list[list[Token]] = [[]]
    for token in arguments:
        depth += (token.text == "(") - (token.text == ")")
        if token.text == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _known_text(argument: Sequence[Token]) -> str | None:
    """The text of an argument, empty for one that is no text; None where only the server will know it."""
    if len(argument) > 2 and argument[1].text in ("=>", ":="):
        argument = argument[2:]
    if len(argument) > 2 and argument[-2].text == "::":
        argument = argument[:-2]
    words = [token.text.lower() for token in argument]
    if len(argument) == 1 and (argument[0].kind == "number" or words[0] in _CONSTANTS):
        return ""
    if len(argument) == 1 and argument[0].kind == "string":
        return _content(argument[0].text)
    if words[:2] == ["format", "("] and words[-1:] == [")"]:
        return _known_format(_split_at_commas(argument[2:-1])[0])
    return None


def _known_format(template: Sequence[Token]) -> str | None:
    text = _content(template[0].text) if len(template) == 1 and template[0].kind == "string" else None
    if text is None or "%" in _FORMAT.sub("", text) or _CALLED.search(text):
        return None
    return _FORMAT.sub("x", text)


def _content(literal: str) -> str | None:
    """The content of a literal; None of one with escapes, or of bits."""
    if literal.startswith("$"):
        tag = literal[: literal.index("$", 1) + 1]
        return literal.removeprefix(tag).removesuffix(tag)
    return literal[1:-1].replace("''", "'") if literal.startswith("'") else None


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
