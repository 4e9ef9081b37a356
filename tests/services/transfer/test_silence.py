"""A frozen server ends a transfer and says what is done; a slow one does not."""

from __future__ import annotations

import io
from threading import Event

import pytest

from katax_cli.errors import Unavailable
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.transfer import load, silence
from katax_cli.services.transfer.export import Wanted, export
from katax_cli.services.transfer.formats.files import FileKind
from katax_cli.services.transfer.formats.sources import RowFile
from katax_cli.services.transfer.load import Import, ImportPlan
from katax_cli.services.transfer.silence import SilenceWatch
from tests.servers.fixtures import MakeFresh, Throwaway
from tests.services.transfer.connections import open_sql
from tests.waiting import until

_DATA = b"id\n" + b"".join(b"%d\n" % number for number in range(3_000))


@pytest.mark.parametrize("engine_name", ["postgresql", "mysql"])
def test_a_frozen_server_ends_an_import_which_then_goes_on(
    engine_name: str, throwaway: Throwaway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is frozen behind the first batch; nothing ends it before, however busy the machine is."""
    monkeypatch.setattr(silence, "_ASK_AFTER", 0.2)
    monkeypatch.setattr(silence, "_ANSWER_WITHIN", 3600.0)
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
                monkeypatch.setattr(silence, "_ANSWER_WITHIN", 0.5)

        def run() -> load.LoadedRows:
            watch = SilenceWatch(database, progress=freeze, lasts=lambda: f"{frozen[0]} rows are in")
            source = RowFile("rows", io.BytesIO(_DATA), FileKind("csv", None))
            with watch as told:
                return Import(database, source, ImportPlan("t"), told).run()

        with pytest.raises(Unavailable) as error:
            run()
        server.resume()
        monkeypatch.setattr(silence, "_ANSWER_WITHIN", 3600.0)
        assert "no answer for 0.5 s, not even to a new connection" in str(error.value)
        assert str(error.value).endswith(f"; {frozen[0]} rows are in")
    with open_sql(server.url) as database:
        done = run()
        rows = database.run("select count(*), count(distinct id) from t").rows
    assert (done.imported, done.earlier, rows) == (3_000, frozen[0], [(3_000, 3_000)])


LOCKS = {
    "postgresql": ("select pg_advisory_lock(7)", "select pg_advisory_unlock(7)"),
    "mysql": ("select get_lock('slow', 600)", "select release_lock('slow')"),
}


@pytest.mark.parametrize("engine_name", LOCKS)
def test_a_server_that_is_slow_is_waited_for(
    engine_name: str, fresh: MakeFresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement waits until the server was asked twice whether it lives."""
    monkeypatch.setattr(silence, "_ASK_AFTER", 0.05)
    monkeypatch.setattr(silence, "_ANSWER_WITHIN", 3600.0)
    answered, asked, unlocked = silence._answered, 0, Event()
    lock, unlock = LOCKS[engine_name]
    url = fresh(engine_name).url
    with open_sql(url) as other, other.session() as session, open_sql(url) as database:
        session.run(lock)

        def counted(of: SqlDatabase) -> bool:
            nonlocal asked
            lives = answered(of)
            asked += 1
            if asked == 2:
                session.run(unlock)
                unlocked.set()
            return lives

        monkeypatch.setattr(silence, "_answered", counted)
        with SilenceWatch(database, progress=lambda _: None, lasts=str) as told:
            wanted = Wanted(None, lock, "jsonl")
            assert export(database, wanted, io.BytesIO(), on_rows=told).rows == 1
        # The other session answers the one that unlocked before it is closed.
        until(unlocked.is_set)
    assert asked >= 2
