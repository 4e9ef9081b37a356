"""Retries and breakers of coroutine functions: the rules of the synchronous ones."""

from __future__ import annotations

import asyncio

import pytest

from katax_cli import CircuitBreaker
from katax_cli.aio import AsyncCircuitBreaker, retry, with_retry
from katax_cli.errors import BreakerOpen, OutcomeUnknown, Unavailable
from katax_cli.resilience import UnwantedResult, set_waiting
from tests.aio.conftest import MakeKatax
from tests.servers.fixtures import MakeProxy


async def test_a_coroutine_function_is_repeated() -> None:
    runs: list[int] = []

    async def flaky() -> str:
        runs.append(1)
        await asyncio.sleep(0)
        if len(runs) < 3:
            raise ConnectionResetError
        return "there"

    set_waiting(False)
    try:
        assert await with_retry(flaky, attempts=5) == "there"
        assert len(runs) == 3
        runs.clear()
        with pytest.raises(ConnectionResetError):
            await with_retry(flaky, attempts=2)
    finally:
        set_waiting(True)


async def test_an_unwanted_result_is_repeated() -> None:
    results = iter([None, None, 7])
    told: list[type[Exception]] = []

    async def fetch() -> int | None:
        await asyncio.sleep(0)
        return next(results)

    set_waiting(False)
    try:
        wanted = retry(
            5,
            retry_on_result=lambda result: result is None,
            on_retry=lambda _, error: told.append(type(error)),
        )
        assert await wanted(fetch)() == 7
        assert told == [UnwantedResult] * 2
        results = iter([1, 2])
        assert await with_retry(fetch, 2, retry_on_result=lambda result: True) == 2
    finally:
        set_waiting(True)


async def test_a_call_that_is_not_permitted_is_told() -> None:
    told: list[BreakerOpen] = []
    breaker = AsyncCircuitBreaker(CircuitBreaker(on_call_not_permitted=told.append))
    breaker.breaker.force_open()
    with pytest.raises(BreakerOpen) as refused:
        await breaker.execute(lambda: asyncio.sleep(0))
    assert told == [refused.value]


async def test_what_is_never_repeated() -> None:
    runs: list[int] = []

    @retry(attempts=5, initial=0.001)
    async def unknown(number: int) -> None:
        runs.append(number)
        raise OutcomeUnknown("main", "not answered")

    with pytest.raises(OutcomeUnknown):
        await unknown(7)
    assert (runs, unknown.__name__) == ([7], "unknown")


async def test_a_cancellation_ends_it() -> None:
    async def fails() -> None:
        raise ConnectionResetError

    task = asyncio.create_task(with_retry(fails, attempts=1000, initial=1000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_calls_inside_make_one_attempt(
    make_katax: MakeKatax, postgresql_url: str, proxy: MakeProxy
) -> None:
    wire = proxy(postgresql_url)
    async with make_katax("[retry]\ninitial = 0.001\n", main=wire.url) as katax:
        db = katax.database("main")
        wire.refuse()
        runs: list[int] = []

        async def work() -> None:
            runs.append(1)
            await db.query("select 1")

        with pytest.raises(Unavailable):
            await with_retry(work, attempts=2, initial=0.001)
        assert len(runs) == 2


async def test_a_breaker_opens_and_refuses_at_once() -> None:
    breaker = AsyncCircuitBreaker(CircuitBreaker(failures=2, reset=60.0))

    @breaker
    async def down() -> None:
        raise ConnectionRefusedError

    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            await down()
    with pytest.raises(BreakerOpen):
        await down()
    breaker.breaker.reset()

    async def well() -> int:
        await asyncio.sleep(0)
        return 7

    assert await breaker.execute(well) == 7


async def test_a_cancelled_call_says_nothing_about_the_callee() -> None:
    breaker = AsyncCircuitBreaker(CircuitBreaker(failures=1))
    task = asyncio.create_task(breaker.execute(lambda: asyncio.sleep(1000)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert breaker.breaker.is_closed()
