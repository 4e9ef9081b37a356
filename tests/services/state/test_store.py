"""The state database on each SQL engine: what is written is read again, by whoever comes later."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from katax_cli.errors import KataxError
from katax_cli.profiles.model.model import Profile
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.decisions import OperatorDecision
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.store import (
    ALIVE_SECONDS,
    Breaker,
    HealthRecord,
    PoolSample,
    Report,
    StateStore,
    Transition,
    content_of,
)
from katax_cli.snapshot import Process
from tests.fake_clock import FakeClock
from tests.servers.fixtures import MakeProxy, Target
from tests.services.profiles import profile

NOW = FakeClock.EPOCH
PROCESS = Process("p1", "serve", "host", 7, NOW - 5, NOW)
BREAKER = Breaker("p1", "main", "open", 5, NOW - 1, NOW + 59, "5 failures in a row")


@pytest.fixture
def stored(sql_engine: Target, tmp_path: Path) -> Profile:
    """A profile whose state is in one of its own connections."""
    return profile(
        tmp_path, {"main": sql_engine.url, "other": "sqlite:///other.db"}, extra='[state]\nurl = "main"\n'
    )


@pytest.fixture
def store(stored: Profile, clock: FakeClock) -> Iterator[StateStore]:
    with StateStore(stored, clock=clock) as opened:
        yield opened


def decision(id: str, **changes: object) -> OperatorDecision:
    made = OperatorDecision(id, "main", "trip", NOW, NOW + 60, "disk full", "ann@host")
    return made._replace(**changes)  # type: ignore[arg-type]


def test_the_last_decision_counts_for_its_profile_only(store: StateStore, stored: Profile) -> None:
    store.decide(decision("1"))
    store.decide(decision("2", action="reset", decided_at=NOW + 1, ends_at=None, reason=None))
    store.decide(decision("3", connection="other"))

    with StateStore(stored) as again:
        found = again.decisions()

    assert found == {
        "main": decision("2", action="reset", decided_at=NOW + 1, ends_at=None, reason=None),
        "other": decision("3", connection="other"),
    }


def test_profiles_share_a_database_and_not_their_rows(
    sql_engine: Target, tmp_path: Path, store: StateStore
) -> None:
    store.decide(decision("1"))
    store.report(PROCESS, breakers=[BREAKER], health=[HealthRecord(NOW, "main", "healthy", 1.0, 2.0, None)])
    another = profile(tmp_path, {"main": sql_engine.url}, extra='[state]\nurl = "main"\n', name="another")

    with StateStore(another, clock=FakeClock()) as theirs:
        assert (theirs.decisions(), theirs.processes(), theirs.breakers(), theirs.health()) == (
            {},
            [],
            [],
            [],
        )


def test_a_report_is_read_again(store: StateStore) -> None:
    change = Transition(NOW - 1, "main", "closed", "open")
    sample = PoolSample(NOW, "main", 20, 3, 2, 1, 4, "p1")
    seen = [
        HealthRecord(NOW, "main", "unhealthy", None, None, "no answer"),
        HealthRecord(NOW, "other", "healthy", 0.25, 1.5, None),
    ]

    store.report(PROCESS, breakers=[BREAKER], transitions=[change], samples=[sample], health=seen)

    assert store.processes() == [PROCESS]
    assert store.breakers() == [BREAKER]
    assert store.transitions() == [change]
    assert store.pool_samples(since=NOW) == [sample]
    assert store.pool_samples(since=NOW + 1) == []
    assert store.health() == seen
    assert store.health(limit=1) == seen[:1]


def test_a_process_replaces_its_own_rows_and_leaves_others_alone(store: StateStore) -> None:
    second = Process("p2", "cron", "host", 8, NOW, NOW)
    theirs = Breaker("p2", "main", "open", 1, None, None, None)
    closed = Breaker("p1", "main", "closed", 0, None, None, None)
    store.report(second, breakers=[theirs])
    store.report(PROCESS, breakers=[BREAKER])
    store.report(PROCESS, breakers=[closed])
    assert sorted(store.breakers(), key=lambda each: each.process) == [closed, theirs]

    store.leave(PROCESS)

    assert [each.id for each in store.processes()] == ["p2"]
    assert [each.process for each in store.breakers()] == ["p2"]


TRAFFIC = {"connection": "main", "per_second": 1.5, "p95_ms": None, "statement": "é 🎉"}


def test_what_a_process_says_of_itself_is_read_again(store: StateStore) -> None:
    store.report(PROCESS, parts={"traffic": [TRAFFIC, TRAFFIC], "sockets": [{"name": "a"}]})

    assert store.reports() == [
        Report("p1", "sockets", NOW, [{"name": "a"}]),
        Report("p1", "traffic", NOW, [TRAFFIC, TRAFFIC]),
    ]


def test_it_is_stored_as_every_database_can_hold_it() -> None:
    assert content_of([{"a": "é 🎉"}]).isascii()


def test_each_report_replaces_all_parts_of_its_process(store: StateStore) -> None:
    second = Process("p2", "cron", "host", 8, NOW, NOW)
    store.report(second, parts={"traffic": [TRAFFIC]})
    store.report(PROCESS, parts={"traffic": [TRAFFIC], "sockets": [{"name": "a"}]})
    store.report(PROCESS._replace(seen_at=NOW + 5), parts={"traffic": []})
    assert store.reports() == [
        Report("p1", "traffic", NOW + 5, []),
        Report("p2", "traffic", NOW, [TRAFFIC]),
    ]

    store.leave(PROCESS)

    assert [each.process for each in store.reports()] == ["p2"]


def test_the_dead_say_nothing(store: StateStore, clock: FakeClock) -> None:
    store.report(PROCESS, parts={"traffic": [TRAFFIC]})
    clock.at = ALIVE_SECONDS
    assert len(store.reports()) == 1
    clock.at = ALIVE_SECONDS + 0.1
    assert store.reports() == []


@pytest.mark.parametrize("content", ["", "{", "7", '{"a": 1}', '["a", null]'])
def test_what_another_version_wrote_is_no_trouble(content: str, store: StateStore, stored: Profile) -> None:
    store.report(PROCESS, parts={"traffic": [TRAFFIC]})
    with Runtime(stored) as runtime:
        cast(SqlDatabase, runtime.database("main")).execute(
            "UPDATE katax_reports SET content = ?", (content,)
        )

    assert store.reports() == [Report("p1", "traffic", NOW, [])]


def test_what_was_decided_before_is_its_history(store: StateStore) -> None:
    made = [decision(str(number), decided_at=NOW + number) for number in range(4)]
    for each in made:
        store.decide(each)

    assert store.decided() == made[::-1]
    assert store.decided(limit=2) == [made[3], made[2]]


def test_a_report_that_is_written_again_changes_nothing(store: StateStore) -> None:
    """As after a COMMIT that was applied and not answered."""
    change = Transition(NOW + 0.1234567, "main", "closed", "open")
    sample = PoolSample(NOW + 0.1234567, "main", 20, 3, 2, 1, 4, "p1")
    seen = HealthRecord(NOW + 0.1234567, "main", "healthy", 0.25, 1.5, None)
    for _ in range(2):
        store.report(PROCESS, transitions=[change], samples=[sample], health=[seen])

    assert (store.transitions(), store.pool_samples(since=0), store.health()) == ([change], [sample], [seen])


def test_a_process_that_says_nothing_is_dead(store: StateStore, clock: FakeClock) -> None:
    store.report(PROCESS)
    clock.at = ALIVE_SECONDS
    assert store.processes() == [PROCESS]
    clock.at = ALIVE_SECONDS + 0.1
    assert store.processes() == []


def test_old_rows_go_and_decisions_that_count_stay(store: StateStore, clock: FakeClock) -> None:
    store.decide(decision("1"))
    store.decide(decision("2", decided_at=NOW + 1))
    store.report(
        PROCESS,
        breakers=[BREAKER],
        transitions=[Transition(NOW, "main", "closed", "open")],
        samples=[PoolSample(NOW, "main", 1, 1, 1, 0, 0, "p1")],
        health=[HealthRecord(NOW, "main", "healthy", 1.0, 1.0, None)],
        parts={"traffic": [TRAFFIC]},
    )
    store.prune()
    assert len(store.reports()) == 1
    assert len(store.health()) == len(store.transitions()) == len(store.pool_samples(since=0)) == 1

    clock.at = 365 * 86400.0
    store.prune()

    assert (store.health(), store.transitions(), store.pool_samples(since=0), store.breakers()) == (
        [],
        [],
        [],
        [],
    )
    with Runtime(store.profile) as runtime:
        assert cast(SqlDatabase, runtime.database("main")).query("SELECT * FROM katax_reports") == []
    assert list(store.decisions().values()) == [decision("2", decided_at=NOW + 1)]


class TestFile:
    """The default: `.katax/state.db`."""

    def test_asking_makes_no_file(self, tmp_path: Path) -> None:
        made = profile(tmp_path, {"main": "sqlite:///x.db"})
        with StateStore(made) as store:
            assert not store.exists
            assert (store.decisions(), store.processes(), store.health()) == ({}, [], [])

        assert not (tmp_path / ".katax").exists()

    def test_writing_makes_it_for_its_owner_alone(self, tmp_path: Path) -> None:
        made = profile(tmp_path, {"main": "sqlite:///x.db"})
        with StateStore(made) as store:
            store.decide(decision("1"))
            assert store.exists

        assert stat.S_IMODE((tmp_path / ".katax").stat().st_mode) == 0o700
        for file in (tmp_path / ".katax").glob("state.db*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_a_file_that_was_replaced_is_left_for_the_new_one(self, tmp_path: Path) -> None:
        """Whoever runs for weeks would else read and write what nobody else sees."""
        made = profile(tmp_path, {"main": "sqlite:///x.db"})
        with StateStore(made) as store:
            store.decide(decision("1"))
            for file in (tmp_path / ".katax").glob("state.db*"):
                file.unlink()
            store.decide(decision("2"))
            with StateStore(made) as other:
                other.decide(decision("3"))
                assert {each.id for each in other.decided()} == {"2", "3"}

            assert {each.id for each in store.decided()} == {"2", "3"}

    def test_what_is_no_database_is_said(self, tmp_path: Path) -> None:
        made = profile(tmp_path, {"main": "sqlite:///x.db"})
        (tmp_path / ".katax").mkdir(mode=0o700)
        (tmp_path / ".katax" / "state.db").write_text("this is no database" * 100)

        with StateStore(made) as store, pytest.raises(KataxError) as error:
            store.decisions()

        assert "'state'" in str(error.value)


def test_a_server_that_is_gone_costs_its_time_and_no_more(
    postgresql_url: str, proxy: MakeProxy, tmp_path: Path
) -> None:
    wire = proxy(postgresql_url)
    made = profile(tmp_path, {"main": wire.url}, extra='[state]\nurl = "main"\n')
    with StateStore(made) as store:
        store.decide(decision("1"))
        wire.refuse()
        wire.cut()
        with pytest.raises(KataxError):
            store.decisions()
