"""What processes told is read with care: it was written by other versions, on other machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from katax_cli.profiles.model.model import Profile
from katax_cli.services.dashboard.state_source import StateReading, StateWatch
from katax_cli.services.state.store import ALIVE_SECONDS, PoolSample, StateStore
from katax_cli.snapshot import PoolStats, Process, SlowCall, SocketServer, Traffic
from tests.fake_clock import FakeClock
from tests.services.profiles import profile

NOW = FakeClock.EPOCH
PROCESS = Process("p1", "app", "host", 7, NOW - 5, NOW)
TRAFFIC = {"connection": "main", "per_second": 1.5, "p95_ms": 20.0, "slow": 2, "failed": 1}
SLOW = {"connection": "main", "statement": "SELECT ?", "duration_ms": 120.5, "happened_at": NOW - 1}
SOCKETS = {
    "name": "news",
    "clients": 3,
    "rooms": 2,
    "received_per_second": 1.0,
    "emitted_per_second": None,
    "refused": 4,
    "trouble": "it is closing",
}


@pytest.fixture
def made(tmp_path: Path) -> Profile:
    return profile(tmp_path, {"main": "sqlite:///x.db"})


@pytest.fixture
def store(made: Profile, clock: FakeClock) -> Iterator[StateStore]:
    with StateStore(made, clock=clock) as opened:
        yield opened


@pytest.fixture
def watch(made: Profile, clock: FakeClock) -> Iterator[StateWatch]:
    watching = StateWatch(made, clock=clock)
    yield watching
    watching.close()


def look(watch: StateWatch) -> StateReading:
    watch.look(lambda: None)
    assert watch.reading is not None
    return watch.reading


def test_what_is_told_is_shown(store: StateStore, watch: StateWatch) -> None:
    store.report(
        PROCESS, parts={"traffic": [TRAFFIC], "slow": [SLOW], "sockets": [SOCKETS], "new": [{"a": 1}]}
    )

    told = look(watch)

    assert told.at == NOW
    assert told.traffic == (Traffic("main", "app host:7", 1.5, 20.0, 2, 1, (1.5,), NOW),)
    assert told.slow == (SlowCall("main", "app host:7", "SELECT ?", 120.5, NOW - 1),)
    assert told.sockets == (SocketServer("news", "app host:7", 3, 2, 1.0, None, 4, "it is closing", NOW),)


@pytest.mark.parametrize(
    ("part", "row"),
    [
        ("traffic", {key: value for key, value in TRAFFIC.items() if key != "failed"}),
        ("traffic", {**TRAFFIC, "connection": 7}),
        ("traffic", {**TRAFFIC, "per_second": "fast"}),
        ("traffic", {**TRAFFIC, "slow": 1.5}),
        ("slow", {**SLOW, "statement": None}),
        ("slow", {**SLOW, "duration_ms": None}),
        ("sockets", {**SOCKETS, "clients": None}),
        ("sockets", {**SOCKETS, "trouble": ["x"]}),
    ],
)
def test_a_row_that_is_none_is_left_out(
    part: str, row: dict[str, Any], store: StateStore, watch: StateWatch
) -> None:
    well = {"traffic": TRAFFIC, "slow": SLOW, "sockets": SOCKETS}
    store.report(PROCESS, parts={part: [row, well[part]]})

    assert len(getattr(look(watch), part)) == 1


def test_rates_are_remembered_for_each_report(store: StateStore, watch: StateWatch) -> None:
    for at, rate in ((0, 1.0), (5, None), (10, 3.0)):
        row = {**TRAFFIC, "per_second": rate}
        store.report(PROCESS._replace(seen_at=NOW + at), parts={"traffic": [row]})
        for _ in range(2):
            (seen,) = look(watch).traffic

    assert (seen.per_second, seen.trail, seen.seen_at) == (3.0, (1.0, 3.0), NOW + 10)


def test_what_is_remembered_has_limits(store: StateStore, watch: StateWatch, clock: FakeClock) -> None:
    for at in range(125):
        store.report(PROCESS._replace(seen_at=NOW + at), parts={"traffic": [{**TRAFFIC, "per_second": at}]})
        (seen,) = look(watch).traffic
    assert seen.trail == tuple(range(5, 125))

    clock.at = 125 + ALIVE_SECONDS
    look(watch)

    assert (watch._paces, watch._pools) == ({}, {})


def test_slow_calls_are_the_newest_first(store: StateStore, watch: StateWatch) -> None:
    other = Process("p2", "cron", "host", 8, NOW, NOW)
    store.report(PROCESS, parts={"slow": [SLOW, {**SLOW, "happened_at": NOW - 9}]})
    store.report(other, parts={"slow": [{**SLOW, "happened_at": NOW - 5}]})

    assert [call.happened_at - NOW for call in look(watch).slow] == [-1, -5, -9]


def test_pools_of_the_living(store: StateStore, watch: StateWatch, clock: FakeClock) -> None:
    samples = [PoolSample(NOW - at, "main", 20, at, 1, 2, 3, "p1") for at in (0, 599, 601)]
    dead = Process("p2", "cron", "host", 8, NOW, NOW - ALIVE_SECONDS - 1)
    store.report(PROCESS, samples=samples)
    store.report(dead, samples=[PoolSample(NOW, "main", 20, 1, 1, 2, 3, "p2")])

    (trail,) = look(watch).pools

    assert (trail.connection, trail.process, trail.seen_at) == ("main", "app host:7", NOW)
    assert trail.samples == (PoolStats(20, 599, 1, 2, 3), PoolStats(20, 0, 1, 2, 3))


def test_a_sample_that_was_written_late_finds_its_place(
    store: StateStore, watch: StateWatch, clock: FakeClock
) -> None:
    for written, happened in ((0, 0), (10, 10), (20, 5)):
        clock.at = float(written)
        process = PROCESS._replace(seen_at=NOW + written)
        store.report(process, samples=[PoolSample(NOW + happened, "main", 20, happened, 0, 0, 0, "p1")])
        told = look(watch)

    assert [sample.total for sample in told.pools[0].samples] == [0, 5, 10]
