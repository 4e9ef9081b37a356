"""Decisions about circuits: recorded for everybody, known on this host at once."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from katax_cli.errors import Unavailable, UnknownConnection
from katax_cli.services.runtime.decisions import HostCopy
from katax_cli.services.state.circuits import circuits, decide
from katax_cli.services.state.store import Breaker, StateStore
from katax_cli.snapshot import Circuit, Process
from tests.fake_clock import FakeClock
from tests.services.profiles import profile

NOW = FakeClock.EPOCH


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds).astimezone()


def test_a_decision_is_in_the_database_and_in_the_copy(tmp_path: Path) -> None:
    made = profile(tmp_path, {"main": "sqlite:///x.db"})
    with StateStore(made) as store:
        row = decide(store, "main", "trip", seconds=60.0, reason="disk full", clock=FakeClock())
        stored = store.decisions()["main"]

    assert row == Circuit("main", "forced_open", 0, None, at(NOW + 60), "disk full", None)
    assert stored == HostCopy(made.home, made.name).decisions()["main"]
    assert (stored.action, stored.ends_at, stored.reason) == ("trip", NOW + 60, "disk full")
    assert stored.decided_by is not None
    assert "@" in stored.decided_by


def test_an_unknown_connection(tmp_path: Path) -> None:
    made = profile(tmp_path, {"main": "sqlite:///x.db"})
    with StateStore(made) as store, pytest.raises(UnknownConnection):
        decide(store, "man", "trip")

    assert HostCopy(made.home, made.name).decisions() == {}


def test_without_its_database_a_decision_holds_on_this_host(closed_port: int, tmp_path: Path) -> None:
    """The server to keep off may be the one that holds the state."""
    url = f"postgresql://127.0.0.1:{closed_port}/x"
    made = profile(tmp_path, {"main": url, "other": url}, extra='[state]\nurl = "main"\n')
    with StateStore(made) as store:
        for name in ("main", "other"):
            with pytest.raises(Unavailable) as error:
                decide(store, name, "trip")

    assert str(error.value).startswith("'main' is not available: ")
    assert str(error.value).endswith("; the decision holds on this host only")
    assert sorted(HostCopy(made.home, made.name).decisions()) == ["main", "other"]


def test_the_next_decision_brings_the_copy_up_to_date(tmp_path: Path) -> None:
    made = profile(tmp_path, {"main": "sqlite:///x.db", "other": "sqlite:///y.db"})
    with StateStore(made) as store:
        decide(store, "main", "trip", clock=FakeClock())
        (Path(made.home) / "circuits.json").unlink()
        decide(store, "other", "disable", clock=FakeClock())

    assert {name: each.action for name, each in HostCopy(made.home, made.name).decisions().items()} == {
        "main": "trip",
        "other": "disable",
    }


def test_rows_of_decisions_and_of_living_processes(tmp_path: Path) -> None:
    clock = FakeClock()
    made = profile(tmp_path, {"main": "sqlite:///x.db", "other": "sqlite:///y.db", "third": "sqlite:///z.db"})
    with StateStore(made, clock=clock) as store:
        decide(store, "main", "trip", seconds=10.0, clock=clock)
        decide(store, "other", "disable", reason="tests", clock=clock)
        dead = Process("p2", "serve", "host", 8, NOW - 99, NOW - 99)
        store.report(dead, breakers=[Breaker("p2", "third", "open", 9, None, None, None)])
        store.report(
            Process("p1", "serve", "host", 7, NOW, NOW),
            breakers=[
                Breaker("p1", "third", "open", 5, NOW - 1, NOW + 59, "5 failures in a row"),
                Breaker("p1", "third/direct", "closed", 0, None, None, None),
            ],
        )
        found = circuits(store, clock=clock)

        (main, other, third, *reported) = found
        assert (main.state, main.next_probe_at, main.process) == ("forced_open", at(NOW + 10), None)
        assert main.reason is not None
        assert main.reason.startswith("trip by ")
        assert (other.state, other.reason) == ("disabled", "tests")
        assert third == Circuit("third", "closed", 0, None, None, None, None)
        assert reported == [
            Circuit("third", "open", 5, at(NOW - 1), at(NOW + 59), "5 failures in a row", "serve host:7"),
            Circuit("third/direct", "closed", 0, None, None, None, "serve host:7"),
        ]

        clock.at = 10.0
        assert circuits(store, clock=clock)[0] == Circuit("main", "closed", 0, None, None, None, None)
