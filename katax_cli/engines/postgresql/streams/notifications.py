"""LISTEN on a connection of its own: what arrives, as it arrives."""

from __future__ import annotations

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
        arrived = connection.hear(_arrived(connection), seconds)
        return [Notified(each.channel, each.payload, each.pid) for each in arrived or ()]


def _arrived(connection: PostgresConnection) -> PQGen[list[psycopg.Notify]]:
    """psycopg keeps those that came with the replies to other statements."""
    pgconn = connection.pgconn
    found: list[psycopg.Notify] = []
    kept = connection._notifies_backlog
    while True:
        while kept:
            found.append(kept.popleft())
        while (notice := pgconn.notifies()) is not None:
            found.append(psycopg.Notify(notice.relname.decode(), notice.extra.decode(), notice.be_pid))
        if found:
            return found
        yield WAIT_R
        pgconn.consume_input()


create = Listening
