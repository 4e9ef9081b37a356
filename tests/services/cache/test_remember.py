"""One computation however many ask; early refresh; the last value in bad times."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from threading import Barrier, Event, Thread

import pytest

from katax_cli.services.cache.cache import Cache
from katax_cli.services.cache.remember import Remembering, due, note_key
from tests.fake_clock import FakeClock
from tests.services.crowd import crowd
from tests.services.redis_database import opened
from tests.waiting import SECONDS


@pytest.fixture
def cache(redis_url: str) -> Iterator[Cache]:
    with opened(redis_url, prefix="app:") as database:
        yield Cache(database)


def expire(cache: Cache) -> None:
    """The lifetime of `k` ends now."""
    assert cache.redis.redis("PEXPIRE", "app:k", 0)


def test_a_value_is_computed_once_and_expires(cache: Cache) -> None:
    calls = Counter[str]()

    def compute() -> dict[str, float]:
        calls["n"] += 1
        return {"x": 1.0}

    assert cache.remember("k", 300, compute, beta=0) == {"x": 1}
    assert cache.remember("k", 300, compute, beta=0) == {"x": 1}
    assert calls["n"] == 1
    assert cache.get_raw("k") == b'{"x":1}'
    assert 200_000 < cache.redis.redis("PTTL", "app:k") <= 300_000
    expire(cache)
    cache.remember("k", 300, compute, beta=0)
    assert calls["n"] == 2


def test_none_and_false_are_values(cache: Cache) -> None:
    for value in (None, False, 0, ""):
        cache.forget("k")
        assert cache.remember("k", 1000, lambda value=value: value) == value  # type: ignore[misc]
        assert cache.remember("k", 1000, lambda: pytest.fail("computed again")) == value


def test_an_error_of_the_computation_is_the_callers(cache: Cache) -> None:
    with pytest.raises(ZeroDivisionError):
        cache.remember("k", 10, lambda: 1 / 0)
    assert cache.get("k") is None
    assert cache.remember("k", 10, lambda: 5) == 5


def test_the_last_value_stands_in_only_where_that_was_asked(cache: Cache) -> None:
    def broken() -> int:
        raise OSError("no source")

    assert cache.remember("k", 300, lambda: 7, stale_if_error=True, beta=0) == 7
    expire(cache)
    assert cache.remember("k", 300, broken, stale_if_error=True, beta=0) == 7
    with pytest.raises(OSError, match="no source"):
        cache.remember("k", 300, broken, beta=0)
    cache.forget("k")
    with pytest.raises(OSError, match="no source"):
        cache.remember("k", 300, broken, stale_if_error=True, beta=0)


def test_forget_leaves_nothing(cache: Cache) -> None:
    cache.remember("k", 10, lambda: 1, stale_if_error=True)
    assert cache.exists(note_key("k"))
    assert cache.forget("k")
    assert not cache.exists(note_key("k"))
    cache.set(note_key("k"), {"seconds": 1})
    assert not cache.forget("k")


def test_while_one_computes_early_the_others_take_the_old_value(cache: Cache) -> None:
    entered, go = Event(), Event()
    cache.remember("k", 100, lambda: "old")
    cache.set(note_key("k"), {"seconds": 1e9})

    def slow() -> str:
        entered.set()
        go.wait(SECONDS)
        return "new"

    early = Thread(target=lambda: cache.remember("k", 100, slow))
    early.start()
    assert entered.wait(SECONDS)
    assert cache.remember("k", 100, lambda: pytest.fail("two compute")) == "old"
    go.set()
    early.join()
    assert cache.get("k") == "new"


def test_an_early_refresh_that_fails_keeps_the_value_that_lives(cache: Cache) -> None:
    cache.remember("k", 100, lambda: "old")
    cache.set(note_key("k"), {"seconds": 1e9})
    assert cache.remember("k", 100, lambda: 1 / 0) == "old"


def test_early_refresh_follows_the_formula() -> None:
    """now − Δ · β · ln(u) ≥ expiry, with u = 1 − dice."""
    assert not due(10.0, delta=1.0, beta=1.0, dice=0.5)
    assert due(0.69, delta=1.0, beta=1.0, dice=0.5)
    assert not due(0.70, delta=1.0, beta=1.0, dice=0.5)
    assert due(1.38, delta=1.0, beta=2.0, dice=0.5)
    assert due(6.9, delta=10.0, beta=1.0, dice=0.5)
    assert not due(0.001, delta=100.0, beta=0.0, dice=0.999)
    assert not due(float("inf"), delta=100.0, beta=9.0, dice=0.999)


def test_how_long_it_took_is_kept_for_the_formula(cache: Cache) -> None:
    clock = FakeClock()

    def compute() -> bytes:
        clock.at += 2.5
        return b"1"

    Remembering(cache, "k", ttl=100, clock=clock).get(compute)
    assert cache.get(note_key("k")) == {"seconds": 2.5}


@pytest.mark.parametrize(
    ("options", "told"), [({"ttl": 0}, "ttl is 0 s"), ({"ttl": 5, "beta": -1}, "beta is -1")]
)
def test_what_cannot_be_is_told(cache: Cache, options: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError) as error:
        Remembering(cache, "k", **options)  # type: ignore[arg-type]
    assert str(error.value).startswith(told)


def test_threads_share_one_computation(cache: Cache) -> None:
    calls, start = Counter[str](), Barrier(16)
    results: list[int] = []

    def ask() -> None:
        start.wait()
        results.append(cache.remember("k", 60, compute))

    def compute() -> int:
        calls["n"] += 1
        time.sleep(0.1)
        return 42

    threads = [Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (calls["n"], results) == (1, [42] * 16)


ASK = """
import time
from tests.services.redis_database import opened
from tests.waiting import SECONDS
from katax_cli.services.cache.cache import Cache

with opened(sys.argv[1], connect_timeout=60.0) as redis:
    cache = Cache(redis)

    def compute():
        cache.incr("computations")
        time.sleep(0.3)
        return {"answer": 42}

    cache.get("warm")
    all_at_once()
    assert cache.remember("k", 600, compute) == {"answer": 42}
"""


def computations(url: str, processes: int) -> int:
    """How often an expired key is computed when so many processes ask at once."""
    crowd(ASK, url, processes=processes)
    with opened(url) as redis:
        return int(Cache(redis).get("computations"))


def test_processes_share_one_computation(redis_url: str) -> None:
    assert computations(redis_url, 10) == 1


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_two_hundred_processes_share_one_computation(redis_url: str) -> None:
    assert computations(redis_url, 200) == 1
