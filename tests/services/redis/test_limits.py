"""Limits on a real Redis: never one too many, whoever asks and whenever."""

from __future__ import annotations

import time

import pytest

from katax_cli.errors import RateLimitExceeded, Unavailable
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.limits import ALGORITHMS, Algorithm, RateLimiter
from tests.servers.fixtures import MakeProxy
from tests.services.crowd import crowd
from tests.services.redis_database import opened

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@every_algorithm
def test_the_maximum_is_let_through_and_not_one_more(redis: RedisDatabase, algorithm: Algorithm) -> None:
    limiter = RateLimiter(redis, 5, 3600, algorithm=algorithm)

    decisions = [limiter.check("k") for _ in range(7)]

    assert [each.allowed for each in decisions] == [True] * 5 + [False] * 2
    assert [each.remaining for each in decisions] == [4, 3, 2, 1, 0, 0, 0]
    assert {each.limit for each in decisions} == {5}
    assert all(each.retry_after == 0 for each in decisions[:5])
    assert 0 < decisions[-1].retry_after <= 3661
    assert abs(decisions[-1].reset_at - (time.time() + 3600)) < 70
    assert limiter.check("other").allowed


@every_algorithm
def test_all_or_none_is_taken(redis: RedisDatabase, algorithm: Algorithm) -> None:
    limiter = RateLimiter(redis, 10, 3600, algorithm=algorithm)

    assert limiter.consume("k", 7).remaining == 3
    with pytest.raises(RateLimitExceeded) as error:
        limiter.consume("k", 4)
    assert error.value.limit == 10
    assert str(error.value).startswith("limit reached for 'k': 10 per 3600 s, retry after ")
    assert limiter.consume("k", 3).remaining == 0


@every_algorithm
def test_peek_says_what_check_would_and_takes_nothing(
    redis: RedisDatabase, redis_url: str, algorithm: Algorithm
) -> None:
    limiter = RateLimiter(redis, 2, 3600, algorithm=algorithm)
    with opened(redis_url, prefix="app:", read_only=True) as reader:
        onlooker = RateLimiter(reader, 2, 3600, algorithm=algorithm)
        assert [onlooker.peek("k").remaining for _ in range(3)] == [2, 2, 2]
        limiter.check("k")
        assert (onlooker.peek("k").allowed, onlooker.peek("k").remaining) == (True, 1)
        limiter.check("k")
        peeked, refused = onlooker.peek("k"), limiter.check("k")
        assert (peeked.allowed, peeked.remaining) == (False, 0)
        assert abs(peeked.retry_after - refused.retry_after) < 60
        assert abs(peeked.reset_at - refused.reset_at) < 60


@every_algorithm
def test_what_was_refused_fits_after_its_wait(redis: RedisDatabase, algorithm: Algorithm) -> None:
    limiter = RateLimiter(redis, 3, 0.3, algorithm=algorithm)
    while limiter.check("k").allowed:
        pass
    time.sleep(limiter.peek("k").retry_after + 0.005)
    assert limiter.check("k").allowed


@every_algorithm
def test_reset_forgets_and_keys_do_not_outlive_their_window(
    redis: RedisDatabase, algorithm: Algorithm
) -> None:
    limiter = RateLimiter(redis, 1, 60, algorithm=algorithm)
    limiter.check("k")
    (key,) = redis.redis("KEYS", "*")
    assert key == f"app:rate:{algorithm}:k".encode()
    assert 0 < redis.redis("PTTL", key) <= 61_000
    assert limiter.reset("k")
    assert not limiter.reset("k")
    assert limiter.check("k").allowed


def test_no_sliding_window_ever_holds_more_than_the_maximum(redis: RedisDatabase) -> None:
    """Around the end of a window, where fixed windows let twice as many through."""
    window, maximum = 0.5, 10
    limiter = RateLimiter(redis, maximum, window, algorithm="sliding")
    taken: list[tuple[float, float]] = []
    while len(taken) < 3 * maximum:
        asked = time.monotonic()
        if limiter.check("k").allowed:
            taken.append((asked, time.monotonic()))
            time.sleep(0.02)
    # The server counted at some moment between asking and its answer.
    spans = [later - asked for (asked, _), (_, later) in zip(taken, taken[maximum:], strict=False)]
    assert min(spans) > window * 0.95


def test_gcra_spreads_after_its_burst(redis: RedisDatabase) -> None:
    limiter = RateLimiter(redis, 10, 10_000, algorithm="gcra")
    limiter.consume("k", 10)
    refused = limiter.check("k")
    assert 900 < refused.retry_after <= 1000
    assert 9900 < refused.reset_at - time.time() <= 10_000.5


ASK = """
from tests.services.redis_database import opened
from katax_cli.services.redis.limits import RateLimiter

with opened(sys.argv[1], connect_timeout=60.0) as redis:
    limiter = RateLimiter(redis, 100, 3600, algorithm=sys.argv[2])
    limiter.peek("warm")
    all_at_once()
    print(sum(limiter.check("k").allowed for _ in range(40)))
"""


def admitted(url: str, algorithm: str, processes: int) -> int:
    """How many of 40 checks of so many processes at once were let through."""
    return sum(int(count) for count in crowd(ASK, url, algorithm, processes=processes))


@every_algorithm
def test_many_processes_get_exactly_the_maximum(redis_url: str, algorithm: Algorithm) -> None:
    """gcra gives one more each 36 s."""
    assert admitted(redis_url, algorithm, 8) in ((100, 101) if algorithm == "gcra" else (100,))


@pytest.mark.soak
@pytest.mark.timeout(600)
@every_algorithm
def test_fifty_processes_get_exactly_the_maximum(redis_url: str, algorithm: Algorithm) -> None:
    assert admitted(redis_url, algorithm, 50) in ((100, 101) if algorithm == "gcra" else (100,))


def test_without_the_server_the_caller_decides(redis_url: str, proxy: MakeProxy) -> None:
    way = proxy(redis_url)
    with opened(way.url) as database:
        way.refuse()
        with pytest.raises(Unavailable):
            RateLimiter(database, 1).check("k")
        for on_error, allowed in (("open", True), ("closed", False)):
            limiter = RateLimiter(database, 1, on_error=on_error)  # type: ignore[arg-type]
            assert limiter.check("k").allowed is allowed
            assert limiter.peek("k").allowed is allowed
            assert limiter.undecided == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max": 0}, "max is 0, expected at least 1"),
        ({"window": 0}, "window is 0 s, expected at least 0.001"),
        ({"algorithm": "leaky"}, "no algorithm named 'leaky'; known algorithms: fixed, sliding, gcra"),
    ],
)
def test_a_limit_that_cannot_be_is_told(redis: RedisDatabase, options: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError) as error:
        RateLimiter(redis, **options)  # type: ignore[arg-type]
    assert str(error.value) == told


@pytest.mark.parametrize("n", [0, -1, 4])
def test_what_never_fits_is_told(redis: RedisDatabase, n: int) -> None:
    with pytest.raises(ValueError) as error:
        RateLimiter(redis, 3).take("k", n)
    assert str(error.value) == f"n is {n}, expected 1 to the maximum of 3"
