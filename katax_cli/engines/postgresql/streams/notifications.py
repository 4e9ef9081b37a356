"""LISTEN on a connection of its own: what arrives, as it arrives."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import psycopg
from psycopg.abc import PQGen
from psycopg.generators import WAIT_R

from katax_cli.core.sql import quote_identifier
from katax_cli.engines.base import SqlEngine
from katax_cli.engines.messages import Notified
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.postgresql.session import PostgresConnection


class Listening(EnginePart[SqlEngine]):
    """ListensToNotifications."""

    def listen(self, connection: PostgresConnection, channels: Sequence[str], timeout: float | None) -> None:
        for channel in channels:
            self._engine.execute(
                connection, f"LISTEN {quote_identifier(channel, 'postgresql')}", None, timeout
            )

    def heard(self, connection: PostgresConnection, seconds: float) -> list[Notified]:
        kept = connection._notifies_backlog
        assert kept is not None  # as it is until a handler of psycopg's is added
        connection.hear(_arrival(connection, kept), seconds)
        arrived = [Notified(each.channel, each.payload, each.pid) for each in kept]
        kept.clear()
        return arrived


def _arrival(connection: PostgresConnection, kept: deque[psycopg.Notify]) -> PQGen[None]:
    """Keeps what arrives where psycopg keeps what came with replies: who is interrupted now gets it later."""
    pgconn = connection.pgconn
    while True:
        while (notice := pgconn.notifies()) is not None:
            kept.append(psycopg.Notify(notice.relname.decode(), notice.extra.decode(), notice.be_pid))
        if kept:
            return
        yield WAIT_R
        pgconn.consume_input()


create = Listening
