"""What a session remembers of columns is what the server says of them each time."""

from __future__ import annotations

from datetime import date

import pytest

from katax_cli.core.sql import Residue
from katax_cli.engines.mysql import create
from katax_cli.engines.mysql.engine import MysqlEngine
from tests.engines.connections import settings_for

WIDE = ", ".join(f"{number} AS a_column_with_quite_a_long_name_{number}" for number in range(300))


@pytest.fixture
def engine(mysql_url: str) -> MysqlEngine:
    return create(settings_for(mysql_url))


def test_columns_are_those_of_this_result(engine: MysqlEngine) -> None:
    session, other = engine.connect(60.0), engine.connect(60.0)
    try:
        engine.execute(session, "CREATE TABLE t (id INT PRIMARY KEY, a DATE)")
        engine.execute(session, "INSERT INTO t VALUES (1, '2026-01-02')")
        for _ in range(3):
            assert engine.execute(session, "SELECT * FROM t")[:2] == (("id", "a"), [(1, date(2026, 1, 2))])
            with engine.stream(session, "SELECT * FROM t", text=True) as stream:
                assert (stream.columns, list(stream)) == (("id", "a"), [[("1", "2026-01-02")]])
            assert engine.execute(session, "SELECT a FROM t WHERE id = ?", [2])[:2] == (("a",), [])
            # More than the read buffer holds.
            assert engine.execute(session, f"SELECT {WIDE}").rows == [tuple(range(300))]
        assert session.known_columns

        engine.execute(other, "ALTER TABLE t MODIFY a VARCHAR(20), RENAME COLUMN id TO number")
        assert engine.execute(session, "SELECT * FROM t")[:2] == (("number", "a"), [(1, "2026-01-02")])

        # What a program's own hand on the connection makes of values is not remembered for others.
        session.decoders = {**session.decoders, 3: lambda _text: "an int"}
        assert engine.execute(session, "SELECT * FROM t").rows == [("an int", "2026-01-02")]

        session.mark(Residue.RESETTABLE)
        session.use_unicode = False
        assert engine.execute(session, "SELECT * FROM t").rows == [("an int", b"2026-01-02")]
        engine.reset(session)
        assert engine.execute(session, "SELECT * FROM t").rows == [(1, "2026-01-02")]

        for number in range(300):
            engine.execute(session, f"SELECT 1 AS a{number}")
        assert len(session.known_columns) <= 100
    finally:
        engine.close(session)
        engine.close(other)
