"""A frozen server ends a transfer and says what is done; a slow one does not."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import ExitStack
from threading import Event

import pytest

from katax_cli.errors import KataxError, OutcomeUnknown, Unavailable
from katax_cli.services.calls import silence
from katax_cli.services.calls.silence import Silence
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.transfer import checkpoint, load
from katax_cli.services.transfer.export import Wanted, export
from katax_cli.services.transfer.formats.files import FileKind
from katax_cli.services.transfer.formats.sources import RowFile
from katax_cli.services.transfer.import_run import ImportPlan, LoadedRows
from katax_cli.services.transfer.load import Import
from katax_cli.services.transfer.silence import SilenceWatch
from tests.servers import pgbouncer
from tests.servers.fixtures import Throwaway
from tests.servers.fleet import Fleet
from tests.servers.server import Server, reroute
from tests.services.transfer.connections import open_sql
from tests.waiting import SECONDS, until

_DATA = b"id\n" + b"".join(b"%d\n" % number for number in range(3_000))


@pytest.mark.parametrize("engine_name", ["postgresql", "mysql"])
def test_a_frozen_server_ends_an_import_which_then_goes_on(
    engine_name: str, throwaway: Throwaway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is frozen behind the first batch; nothing ends it before, however busy the machine is."""
    monkeypatch.setattr(silence, "ASK_AFTER", 0.2)
    monkeypatch.setattr(silence, "ANSWER_WITHIN", 0.5)
    # The lock of the run that was ended goes with its session, which a busy server ends in its own time.
    monkeypatch.setattr(checkpoint, "_PATIENCE", SECONDS)
    answered, stopped = Silence.answered, Event()

    def answered_once_stopped(watch: Silence[SqlDatabase], greets: Callable[[float], bool]) -> bool:
        return not stopped.is_set() or answered(watch, greets)

    monkeypatch.setattr(Silence, "answered", answered_once_stopped)
    for name in ("_READ", "_READ_AT_ONCE", "_COPIED"):
        monkeypatch.setattr(load, name, 2_000)
    server = throwaway(engine_name)
    with open_sql(server.url) as database:
        database.execute("create table t (id bigint)")
        frozen: list[int] = []

        def freeze(count: int) -> None:
            if not frozen:
                frozen.append(count)
                server.stop_signal()
                stopped.set()

        def run() -> LoadedRows:
            watch = SilenceWatch(database, progress=freeze, lasts=lambda: f"{frozen[0]} rows are in")
            source = RowFile("rows", io.BytesIO(_DATA), FileKind("csv", None))
            with watch as told:
                return Import(database, source, ImportPlan("t"), told).run()

        with pytest.raises(Unavailable) as error:
            run()
        server.resume()
        stopped.clear()
        assert "no answer for 0.5 s, not even to a new connection" in str(error.value)
        assert str(error.value).endswith(f"; {frozen[0]} rows are in")
    with open_sql(server.url) as database:
        done = run()
        rows = database.run("select count(*), count(distinct id) from t").rows
    assert (done.imported, done.earlier, rows) == (3_000, frozen[0], [(3_000, 3_000)])


LOCKS = {
    "postgresql": (
        "select pg_advisory_lock(7)",
        "select pg_advisory_xact_lock(7)",
        "select pg_advisory_unlock(7)",
    ),
    "mysql": (
        "select get_lock('slow', 600)",
        "select get_lock('slow', 600)",
        "select release_lock('slow')",
    ),
}


@pytest.mark.parametrize("engine_name", LOCKS)
def test_a_server_without_a_place_is_waited_for(
    engine_name: str, throwaway: Throwaway, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = throwaway(engine_name, settings={"max_connections": "12"})
    with open_sql(server.url) as other, open_sql(server.url) as database, ExitStack() as filling:
        for mine in (other, database):
            mine.connect()
        with pytest.raises(KataxError, match=r"(?i)too many|slots"):  # noqa: PT012
            for _ in range(50):
                filling.enter_context(open_sql(server.url)).connect()
        check_waited_for(database, other, monkeypatch)


def test_a_pooler_whose_only_session_is_the_transfers_is_waited_for(
    fleet: Fleet, postgresql: Server, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fleet.room.folder("narrow-bouncer")
    pooler = fleet.adopt(pgbouncer.launch(postgresql, folder, pool_size=1))
    through = reroute(postgresql_url, pooler.host, pooler.port)
    with open_sql(postgresql_url) as other, open_sql(through, pooler="transaction") as database:
        check_waited_for(database, other, monkeypatch)


def check_waited_for(database: SqlDatabase, other: SqlDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement waits for a lock of `other` until the server was asked twice whether it lives."""
    monkeypatch.setattr(silence, "ASK_AFTER", 0.05)
    monkeypatch.setattr(silence, "ANSWER_WITHIN", 3600.0)
    answered, asked, unlocked = Silence.answered, 0, Event()
    hold, lock, unlock = LOCKS[database.engine.name]
    with other.session() as session:
        session.run(hold)

        def counted(watch: Silence[SqlDatabase], greets: Callable[[float], bool]) -> bool:
            nonlocal asked
            lives = answered(watch, greets)
            asked += 1
            if asked == 2:
                session.run(unlock)
                unlocked.set()
            return lives

        monkeypatch.setattr(Silence, "answered", counted)
        with SilenceWatch(database, progress=lambda _: None, lasts=str) as told:
            wanted = Wanted(None, lock, "jsonl")
            assert export(database, wanted, io.BytesIO(), on_rows=told).rows == 1
        # The other session answers the one that unlocked before it is closed.
        until(unlocked.is_set)
    assert asked >= 2


def test_an_unknown_outcome_is_that_of_the_database_with_the_commit() -> None:
    with open_sql("postgresql://127.0.0.1/source") as source:
        watch = SilenceWatch(source, progress=lambda _: None, lasts=lambda: "7 rows are in")
        watch._silent = source
        with (
            pytest.raises(
                OutcomeUnknown, match=r"on 'target': 'main' gave no answer for 30 s.*7 rows are in"
            ),
            watch,
        ):
            raise OutcomeUnknown("target", "the connection was lost")
