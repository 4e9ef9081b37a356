"""Several statements in one round trip."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from katax_cli.core.sql import compile_query
from katax_cli.engines.base import Params
from katax_cli.engines.postgresql.session import PostgresConnection
from katax_cli.engines.postgresql.values import dumped
from katax_cli.engines.postgresql.wire import apply_timeout, check_alive, exchange, refusal


def together(
    connection: PostgresConnection, batch: Sequence[tuple[str, Params]]
) -> tuple[int, psycopg.Error] | None:
    """Sends statements without a time limit; after the first that is refused the server skips the rest.

    Returns which one that was, and its error. Raises what a broken connection raises.
    """
    bound = [compile_query(sql, "postgresql").bind_raw(params) for sql, params in batch]
    texts = [(sql.encode(), *dumped(connection, values)) for sql, values in bound]
    check_alive(connection)
    apply_timeout(connection, None)
    for sql, _ in batch:
        connection.note(sql)

    def queue(pgconn: PGconn) -> None:
        for text, values, types, formats in texts:
            pgconn.send_query_params(text, values, types, formats)
        pgconn.pipeline_sync()

    for index, results in enumerate(exchange(connection, queue, replies=len(batch) + 1)[:-1]):
        if results[0].status == ExecStatus.FATAL_ERROR:
            return index, refusal(connection, psycopg.errors.error_from_result(results[0]))
        connection.statement_done(results[0].command_status)
    return None
