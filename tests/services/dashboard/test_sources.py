"""Sources: one round at a time, in a thread with a name, and a failure is a value."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.errors import Unavailable
from katax_cli.services.dashboard.sources import LOGIN_EVERY, PINGS, Answered, ConnectionWatch, Source
from katax_cli.services.health.deep_probe import deep_prober
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.snapshot import Traffic
from tests.fake_clock import FakeClock
from tests.servers.fixtures import MakeProxy
from tests.services.profiles import profile
from tests.waiting import SECONDS, patiently

ENOUGH = SECONDS


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def ended(name: str) -> bool:
    end = time.monotonic() + ENOUGH
    while threads(name):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_a_round_runs_in_a_daemon_thread_with_a_name() -> None:
    seen: list[threading.Thread] = []
    source = Source("katax-t-1", lambda _: seen.append(threading.current_thread()), clock=FakeClock())
    assert (source.silence(0.0), source.answered) == (None, False)

    source.begin()

    assert source.silence(ENOUGH) is None
    assert (seen[0].name, seen[0].daemon, source.answered, source.trouble) == ("katax-t-1", True, True, None)


def test_who_hangs_is_left_alone_and_his_silence_is_known() -> None:
    gate, clock, rounds = threading.Event(), FakeClock(at=5.0), list[int]()

    def hang(_answered: Answered) -> None:
        rounds.append(1)
        gate.wait(ENOUGH)

    source = Source("katax-t-2", hang, clock=clock)
    for _ in range(3):
        source.begin()
        clock.at += 2.0

    assert source.silence(0.0) == 6.0
    assert (rounds, len(threads("katax-t-2"))) == ([1], 1)
    gate.set()
    assert source.silence(ENOUGH) is None
    source.begin()
    assert source.silence(ENOUGH) is None
    assert rounds == [1, 1]


def test_an_answer_is_heard_before_the_round_is_over() -> None:
    gate = threading.Event()

    def work(answered: Answered) -> None:
        answered()
        gate.wait(ENOUGH)

    source = Source("katax-t-3", work, clock=FakeClock())
    source.begin()

    assert source.silence(ENOUGH) is None
    assert len(threads("katax-t-3")) == 1
    gate.set()


def test_a_failure_is_said_until_it_is_over() -> None:
    failures: list[Exception | None] = [Unavailable("main", "gone"), KeyError("x"), None]

    def work(_answered: Answered) -> None:
        failure = failures.pop(0)
        if failure is not None:
            raise failure

    source = Source("katax-t-4", work, clock=FakeClock())
    said = []
    for _ in range(3):
        source.begin()
        assert source.silence(ENOUGH) is None
        said.append(source.trouble)

    assert said == ["'main' is not available: gone", "internal error: KeyError: 'x'", None]


def test_rounds_share_one_thread() -> None:
    seen: list[int] = []
    source = Source("katax-t-7", lambda _: seen.append(threading.get_ident()), clock=FakeClock())
    for _ in range(3):
        source.begin()
        assert source.silence(ENOUGH) is None

    assert len(seen) == 3
    assert len(set(seen)) == len(threads("katax-t-7")) == 1
    source.close()
    assert ended("katax-t-7")


class TestEnd:
    def test_one_that_never_began_is_cleaned_up(self) -> None:
        cleaned: list[int] = []
        Source("katax-t-8", lambda _: None, clock=FakeClock(), cleanup=lambda: cleaned.append(1)).close()

        assert cleaned == [1]

    def test_an_idle_one_is_cleaned_up_at_once_and_once(self) -> None:
        cleaned: list[int] = []
        source = Source("katax-t-5", lambda _: None, clock=FakeClock(), cleanup=lambda: cleaned.append(1))
        source.begin()
        assert source.silence(ENOUGH) is None

        source.close()
        source.close()
        source.begin()

        assert ended("katax-t-5")
        assert cleaned == [1]

    def test_a_busy_one_cleans_up_when_it_comes_back(self) -> None:
        gate, cleaned = threading.Event(), list[int]()

        def hang(_answered: Answered) -> None:
            gate.wait(ENOUGH)

        source = Source("katax-t-6", hang, clock=FakeClock(), cleanup=lambda: cleaned.append(1))
        source.begin()
        source.close()
        assert cleaned == []

        gate.set()

        assert ended("katax-t-6")
        assert cleaned == [1]


class Watch(Protocol):
    """`watch(url)`: a connection under observation, by the test's clock unless it is to be another."""

    def __call__(self, url: str, *, seconds: float = ..., by: Clock | None = None) -> ConnectionWatch: ...


@pytest.fixture
def watch(clock: FakeClock, tmp_path: Path) -> Iterator[Watch]:
    with ExitStack() as stack:

        def make(url: str, *, seconds: float = ENOUGH, by: Clock | None = None) -> ConnectionWatch:
            made = profile(tmp_path, {"main": url})
            database = stack.enter_context(Runtime(made, probing=True)).database("main")
            deep = deep_prober(made)(database)
            return ConnectionWatch(database, made.health, deep, seconds=seconds, clock=by or clock)

        yield make


def nothing() -> None:
    """Nobody waits."""


class TestConnection:
    def test_a_refused_login_is_not_tried_again_at_once(
        self, watch: Watch, clock: FakeClock, postgresql_url: str, proxy: MakeProxy
    ) -> None:
        """A server may lock an account that fails every second."""
        wire = proxy(postgresql_url)
        watched = watch(wire.url.replace(":s3cr3t-", ":wrong-"))
        watched.look(nothing)
        first, tried = watched.seen, wire.connections
        assert first is not None
        assert first.health.depth is not None
        assert first.health.depth.first_failing_layer == "auth"

        clock.at = LOGIN_EVERY - 1
        heard = list[int]()
        watched.look(lambda: heard.append(1))
        assert (watched.seen, wire.connections, heard) == (first, tried, [1])

        clock.at = LOGIN_EVERY
        watched.look(nothing)
        assert wire.connections > tried
        assert watched.seen is not first

    def test_health_is_known_before_the_load(self, watch: Watch, redis_url: str) -> None:
        watched = watch(redis_url)
        order: list[tuple[bool, Traffic | None]] = []

        watched.look(lambda: order.append((watched.seen is not None, watched.traffic)))

        assert order == [(True, None)]
        assert watched.traffic is not None

    def test_every_layer_is_tried_while_it_is_ill(self, watch: Watch, deaf_port: int) -> None:
        """The first ping waits until its time is over; the next look says where it ends."""
        url = f"postgresql://u@127.0.0.1:{deaf_port}/x?connect_timeout=60"

        def is_tried(seconds: float) -> bool:
            watched, layers = watch(url, seconds=seconds, by=SYSTEM), []
            for _ in range(2):
                watched.look(nothing)
                health = watched.health(None)
                assert health is not None
                layers.append(health.depth and health.depth.first_failing_layer)
            assert layers[0] is None
            return layers[1] == "auth"  # a busy machine came no further than another layer

        patiently(is_tried, shortest=1.0)

    def test_what_takes_long_is_asked_seldom(
        self, watch: Watch, clock: FakeClock, redis_url: str, proxy: MakeProxy
    ) -> None:
        asked: list[float] = []

        def take_a_second(chunk: bytes) -> None:
            if b"all" in chunk:
                asked.append(clock.at)
                clock.at += 1.0

        wire = proxy(redis_url)
        wire.on_client_bytes(take_a_second)
        watched = watch(wire.url)
        for at in (0.0, 4.0, 20.9, 21.0):
            clock.at = at
            watched.look(nothing)

        assert asked == [0.0, 21.0]

    def test_what_is_quick_is_asked_every_five_seconds(
        self, watch: Watch, clock: FakeClock, redis_url: str
    ) -> None:
        watched, seen = watch(redis_url), []
        for at in (0.0, 4.9, 5.0, 9.9, 10.0):
            clock.at = at
            watched.look(nothing)
            assert watched.traffic is not None
            seen.append(watched.traffic.seen_at - FakeClock.EPOCH)

        assert seen == [0.0, 0.0, 5.0, 5.0, 10.0]

    def test_the_last_pings_are_kept(self, watch: Watch, sqlite_url: str, clock: FakeClock) -> None:
        watched = watch(sqlite_url)
        for _ in range(PINGS + 5):
            watched.look(nothing)

        assert len(watched.watched(None).latencies_ms) == PINGS

    def test_one_that_is_ill_has_no_load(self, watch: Watch, redis_url: str, proxy: MakeProxy) -> None:
        wire = proxy(redis_url)
        watched = watch(wire.url)
        watched.look(nothing)
        traffic = [watched.traffic]
        wire.refuse()
        wire.cut()

        watched.look(nothing)
        traffic.append(watched.traffic)

        assert [row is None for row in traffic] == [False, True]
        assert watched.watched(None).latencies_ms[-1] is None
