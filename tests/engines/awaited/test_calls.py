"""Calls that are made for tasks: what they return, raise and wait for, and what is left of them."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from katax_cli.core.clock import SYSTEM
from katax_cli.core.waiting import SharedEvent, shut_gate, task_waits
from katax_cli.engines.awaited.calls import call, in_thread, is_for_a_task, wait_for
from katax_cli.services.calls.watchdog import watchdog

request: ContextVar[str] = ContextVar("request")


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def test_it_returns_what_the_function_returns_and_raises_what_it_raises() -> None:
    async def main() -> None:
        assert await call(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await call(divmod, 7, 0)
        assert (await call(is_for_a_task), is_for_a_task()) == (True, False)
        assert await call(lambda: wait_for(asyncio.sleep(0, "woken"))) == "woken"

    run(main)


def test_stop_iteration_in_a_thread_is_an_error_as_in_a_coroutine() -> None:
    """asyncio takes it for no result at all, and its task would wait for ever."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await call(in_thread, "katax-test", lambda: next(iter(())))

    run(main)


def test_an_error_of_what_is_awaited_is_raised_in_the_call() -> None:
    async def fails() -> None:
        raise KeyError("it")

    def work() -> str:
        try:
            wait_for(fails())
        except KeyError as error:
            wait_for(asyncio.sleep(0))
            return f"met {error}"
        return "nothing met"

    async def main() -> None:
        assert await call(work) == "met 'it'"

    run(main)


def test_many_at_once_and_one_inside_the_other() -> None:
    async def nested(number: int) -> int:
        return await call(lambda: wait_for(asyncio.sleep(0.001 * (number % 7), number)))

    def waits_for(number: int) -> int:
        return wait_for(nested(number))

    async def main() -> None:
        numbers = await asyncio.gather(*[call(waits_for, n) for n in range(300)])
        assert numbers == list(range(300))

    run(main)


def test_a_cancellation_ends_the_wait_and_cleaning_up_may_wait_too() -> None:
    told: list[str] = []

    def work() -> None:
        try:
            wait_for(asyncio.sleep(1000))
        finally:
            told.append(wait_for(asyncio.sleep(0, "cleaned up")))

    async def main() -> None:
        task = asyncio.create_task(call(work))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert told == ["cleaned up"]

    run(main)


def test_a_coroutine_that_is_closed_awaits_nothing_more() -> None:
    told: list[str] = []

    def work() -> None:
        try:
            wait_for(asyncio.sleep(0))
        finally:
            told.append("ended")
            wait_for(asyncio.sleep(1000))

    coroutine = call(work)
    coroutine.send(None)
    coroutine.close()
    assert told == ["ended"]


def test_context_variables_are_the_tasks() -> None:
    def work() -> str:
        request.set("from the call")
        return in_thread("katax-test", request.get)

    async def main() -> None:
        assert await call(work) == "from the call"
        assert request.get() == "from the call"
        await asyncio.create_task(other())

    async def other() -> None:
        request.set("another's")
        assert await call(request.get) == "another's"

    run(main)


def test_nothing_is_kept_alive_between_two_calls() -> None:
    class Large:
        pass

    async def main() -> None:
        kept = weakref.ref(await call(Large))
        given = Large()
        left = weakref.ref(given)
        await call(id, given)
        del given
        gc.collect()
        assert (kept(), left()) == (None, None)

    run(main)


def test_what_blocks_a_thread_lets_the_loop_go_on() -> None:
    """Sleeping, waiting for an event of another thread, a gate, a limit that passes."""
    ticks: list[int] = []
    event, gates = SharedEvent(), list[Any]()

    def work() -> list[bool]:
        waits = task_waits()
        assert waits is not None
        SYSTEM.sleep(0.02)
        gates.append(shut_gate())
        timed_out = gates[0].acquire(timeout=0.01)
        threading.Thread(target=event.set).start()
        seen = event.wait(60)
        threading.Thread(target=gates[0].release).start()
        passed = SharedEvent()
        with watchdog.limit(0.01, passed.set) as limit:
            passed.wait(60)
        return [timed_out, seen, gates[0].acquire(timeout=60), limit.fired, SharedEvent().wait(0.01)]

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    async def main() -> None:
        ticking = asyncio.create_task(tick())
        assert await call(work) == [False, True, True, True, False]
        assert len(ticks) > 3
        ticking.cancel()

    run(main)


def test_in_a_thread_everything_blocks_as_ever() -> None:
    event = SharedEvent()
    threading.Thread(target=event.set).start()
    assert event.wait(60)
    gate = shut_gate()
    assert not gate.acquire(timeout=0.001)
    gate.release()
    assert gate.acquire(timeout=60)
    assert task_waits() is None
