"""Several statements in one packet: eight times as fast as one by one, where each changes a single row.

PyMySQL has a flag for it that counts for the whole life of a connection; here the server is told for these
packets only (COM_SET_OPTION), so that no other statement of the session can be two.
https://mariadb.com/docs/server/reference/clientserver-protocol/2-text-protocol/com_set_option
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pymysql

from katax_cli.engines.mysql.session import MysqlSession

# The smallest packet that servers are set up for in practice takes 1 MiB.
_PACKET_CHARACTERS = 200_000


def run_script(session: MysqlSession, statements: Sequence[str]) -> tuple[int, pymysql.err.MySQLError] | None:
    """Runs statements in order, without a time limit; rows that they return are dropped.

    Returns which was refused, and its error; those behind it were not run. Raises what a broken connection raises.
    """
    session.check_alive()
    session.give(None)
    first = 0
    with _many_at_once(session):
        for packet in _packets(statements):
            refused = _sent(session, packet)
            if refused is not None:
                return first + refused[0], refused[1]
            first += len(packet)
    return None


def _packets(statements: Sequence[str]) -> Iterator[list[str]]:
    packet: list[str] = []
    size = 0
    for statement in statements:
        if packet and size + len(statement) > _PACKET_CHARACTERS:
            yield packet
            packet, size = [], 0
        packet.append(statement)
        size += len(statement)
    if packet:
        yield packet


def _sent(session: MysqlSession, packet: Sequence[str]) -> tuple[int, pymysql.err.MySQLError] | None:
    """The line break ends a comment that a statement may end with."""
    done = 0
    try:
        session.query("\n;".join(packet))
        while done < len(packet) - 1:
            done += 1
            session.next_result()
        session.drain()
    except pymysql.err.MySQLError as error:
        if session.has_hung_up():
            raise
        if isinstance(error, pymysql.err.OperationalError):
            session.note_rollback(error)
        return done, error
    return None


@contextmanager
def _many_at_once(session: MysqlSession) -> Iterator[None]:
    session.allow_scripts(allowed=True)
    try:
        yield
    finally:
        if not session.has_hung_up():
            session.allow_scripts(allowed=False)
