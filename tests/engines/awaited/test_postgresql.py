"""A connection that tasks use, closed where no loop is left to do it."""

from __future__ import annotations

import asyncio
import gc

from psycopg.pq import ConnStatus

from katax_cli.engines.awaited.calls import call
from katax_cli.engines.awaited.postgresql import create
from tests.engines.connections import settings_for


def test_what_is_closed_as_its_loop_ends_is_closed(postgresql_url: str) -> None:
    engine = create(settings_for(postgresql_url))
    connection = engine.connect(60.0)
    pgconn = connection.pgconn
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(call(engine.execute, connection, "SELECT 1", None, 30.0)).rows == [(1,)]
    # The loop is asked to, and does nothing any more.
    engine.close(connection)
    loop.close()
    assert pgconn.status == ConnStatus.OK
    del connection, loop
    gc.collect()
    assert pgconn.status == ConnStatus.BAD
