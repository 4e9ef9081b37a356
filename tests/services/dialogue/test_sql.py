"""One session for statements that are typed: what it keeps, and what becomes of a lost transaction."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from katax_cli.core.sql import statement_of
from katax_cli.errors import KataxError, OutcomeUnknown, QueryError
from katax_cli.services.calls.left_behind import start
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.dialogue.sql import SqlDialogue
from katax_cli.services.runtime.runtime import Runtime
from tests.fake_clock import AheadClock
from tests.servers.fixtures import MakeFresh, MakeProxy, Target
from tests.services.profiles import profile
from tests.waiting import until

SLEEP = {
    "postgresql": "select pg_sleep(600)",
    "mysql": "select sleep(600)",
    "sqlite": "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n",
}


class Typed:
    """A dialogue, with what it answered and remarked."""

    def __init__(self, database: SqlDatabase, clock: AheadClock | None = None) -> None:
        self.rows: list[Sequence[Any]] = []
        self.notes: list[str] = []
        self._database = database
        more = {} if clock is None else {"clock": clock}
        self.dialogue = SqlDialogue(database, seconds=60.0, note=self.notes.append, **more)

    def type(self, sql: str) -> int | None:
        def take(_columns: Sequence[str], batches: Iterable[Sequence[Any]]) -> None:
            self.rows = [row for batch in batches for row in batch]

        return self.dialogue.run(statement_of(sql, self._database.dialect), take, text=False)

    @property
    def state(self) -> str:
        return self.dialogue.state


def test_a_session_keeps_what_was_begun(sql_engine: Target, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        database = runtime.sql(runtime.profile.connection("main"))
        typed = Typed(database)
        typed.type("create table t (n int primary key)")
        typed.type("create temporary table own (n int)")
        typed.type("begin")

        assert (typed.state, typed.type("insert into t values (1), (2)")) == ("open", 2)
        assert [table.name for table in typed.dialogue.tables()][:1] in (["t"], ["own"])
        assert database.query("select n from t") == [], "another session sees nothing of it yet"
        with pytest.raises(QueryError):
            typed.type("insert into t values (1)")
        assert typed.state == ("failed" if sql_engine.engine == "postgresql" else "open")
        if typed.state == "failed":
            with pytest.raises(KataxError, match="rolled back: a statement in it had failed"):
                typed.type("commit")
            assert typed.state == "none"
            typed.type("begin")
        typed.type("insert into t values (3)")

        assert typed.dialogue.close(), "an open transaction is rolled back, and that is said"
        assert database.query("select n from t") == []
        assert not typed.dialogue.close()


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
@pytest.mark.parametrize("silent", [True, False], ids=["while idle", "under a statement"])
def test_a_statement_of_a_lost_transaction_never_runs_outside_it(
    engine: str, silent: bool, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    wire = proxy(fresh(engine))
    clock = AheadClock()
    with Runtime(profile(tmp_path, {"main": wire.url})) as runtime:
        database = runtime.sql(runtime.profile.connection("main"))
        typed = Typed(database, clock)
        typed.type("create table t (n int)")
        typed.type("begin")
        typed.type("insert into t values (1)")
        wire.cut()
        if silent:
            clock.lead += 60.0

        for attempt in ("insert into t values (2)", "insert into t values (3)", "commit"):
            with pytest.raises(KataxError):
                typed.type(attempt)
            assert typed.state == "lost"
        typed.type("rollback")
        assert typed.state == "none"
        typed.type("insert into t values (4)")

        typed.type("select n from t")
        assert typed.rows == [(4,)]


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_a_commit_without_an_answer_is_unknown(
    engine: str, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    wire = proxy(fresh(engine))
    with Runtime(profile(tmp_path, {"main": wire.url})) as runtime:
        typed = Typed(runtime.sql(runtime.profile.connection("main")))
        typed.type("create table t (n int)")
        typed.type("begin")
        typed.type("insert into t values (1)")
        wire.cut_after(b"commit", forward=True)

        with pytest.raises(OutcomeUnknown):
            typed.type("commit")

        assert typed.state == "none", "the one who typed it has ended the transaction"
        typed.type("select n from t")
        assert typed.rows == [(1,)]


def test_a_cancelled_statement_leaves_the_session(sql_engine: Target, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        typed = Typed(runtime.sql(runtime.profile.connection("main")))
        typed.type("create temporary table own (n int)")
        running = start("test-statement", lambda: typed.type(SLEEP[sql_engine.engine]))

        def cancelled() -> bool:
            typed.dialogue.cancel()
            return running.ended(0.05)

        until(cancelled)

        assert isinstance(running.outcome, KataxError)
        assert not isinstance(running.outcome, OutcomeUnknown)
        assert typed.dialogue.connected
        typed.type("insert into own values (1)")
        typed.type("select n from own")
        assert typed.rows == [(1,)]


def test_what_commits_by_itself_is_said(mysql_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": mysql_url})) as runtime:
        typed = Typed(runtime.sql(runtime.profile.connection("main")))
        typed.type("begin")
        typed.type("create table t (n int)")

    assert (typed.state, typed.notes) == ("none", ["CREATE committed the open transaction"])


def test_a_new_connection_after_a_loss_is_said(postgresql_url: str, proxy: MakeProxy, tmp_path: Path) -> None:
    wire = proxy(postgresql_url)
    clock = AheadClock()
    with Runtime(profile(tmp_path, {"main": wire.url})) as runtime:
        typed = Typed(runtime.sql(runtime.profile.connection("main")), clock)
        typed.type("select 1")
        wire.cut()
        clock.lead += 60.0

        typed.type("select 2")

    assert typed.rows == [(2,)]
    assert typed.notes == [
        "the connection was lost; its settings and temporary tables are gone, connecting again"
    ]
