import gc
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count
from random import Random
from types import FrameType
from typing import Any

import pytest

from katax_cli.core.pooling.pool import Leased, Pool
from katax_cli.core.pooling.slots import Claim
from katax_cli.core.settings import PoolSettings
from katax_cli.errors import PoolClosed, PoolTimeout
from katax_cli.snapshot import PoolStats
from tests.waiting import until


class StillClock:
    """Moves only when told to; its dice fall in the middle."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return 1_000_000.0 + self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def random(self) -> float:
        return 0.5


class Wire:
    """A connection to nowhere; `users` counts who has it in hand."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.dead = False
        self.closed = False
        self.dirty = False
        self.users = 0


class Refusal(Exception):
    """What this driver raises when it cannot connect."""


class Driver:
    """Opens wires and counts them; `refuse` makes it fail, `on_connect` and `on_check` run meanwhile."""

    def __init__(self) -> None:
        self.opened: list[Wire] = []
        self.refuse = False
        self.checks = 0
        self.check_seconds = 0.0
        self.timeouts: list[float | None] = []
        self.on_connect: Callable[[], object] = lambda: None
        self.on_check: Callable[[], object] = lambda: None
        self.most_open = 0

    def connect(self, timeout: float | None) -> Wire:
        self.timeouts.append(timeout)
        self.on_connect()
        if self.refuse:
            raise Refusal("no route")
        self.opened.append(Wire(len(self.opened)))
        self.most_open = max(self.most_open, len(self.open))
        return self.opened[-1]

    def close(self, wire: Wire) -> None:
        assert not wire.closed, "closed twice"
        wire.closed = True

    def check(self, wire: Wire, seconds: float) -> None:
        self.checks += 1
        self.check_seconds = seconds
        self.on_check()
        if wire.dead:
            raise Refusal("server closed the connection")

    def reset(self, wire: Wire) -> None:
        if wire.dead:
            raise Refusal("cannot roll back")
        wire.dirty = False

    @property
    def open(self) -> list[Wire]:
        return [wire for wire in list(self.opened) if not wire.closed]


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


MakePool = Callable[..., Pool[Wire]]


def test_what_lies_idle_in_a_pool_that_nobody_holds_is_closed(driver: Driver) -> None:
    pool = Pool("main", driver.connect, close=driver.close, check=driver.check)
    lent, idle = pool.acquire(), pool.acquire()
    pool.release(idle)
    del pool
    gc.collect()
    assert driver.open == [lent]


LAST_WORD = """
import atexit

def last_word():
    with pool.connection() as connection:
        print("lent", connection)

atexit.register(last_word)

from itertools import count
from katax_cli.core.pooling.pool import Pool
from katax_cli.core.settings import PoolSettings

numbers = count(1)
pool = Pool(
    "main", lambda _: next(numbers), close=lambda number: print("closed", number), check=lambda *_: None,
    settings=PoolSettings(max=1),
)
with pool.connection():
    pass
"""


def test_an_exit_handler_of_the_program_may_use_a_pool_whose_idle_connections_the_end_closed() -> None:
    done = subprocess.run([sys.executable, "-c", LAST_WORD], capture_output=True, text=True, check=True)
    assert (done.stdout.splitlines(), done.stderr) == (["closed 1", "lent 2"], "")


@pytest.fixture
def make_pool(driver: Driver, clock: StillClock) -> Iterator[MakePool]:
    """A pool of `driver` on `clock` with these settings; closed after the test."""
    pools: list[Pool[Wire]] = []

    def make(minimum: int = 0, maximum: int = 20, **seconds: Any) -> Pool[Wire]:
        pool = Pool(
            "main",
            driver.connect,
            close=driver.close,
            check=driver.check,
            is_broken=lambda wire: wire.dead,
            reset=driver.reset,
            settings=PoolSettings(min=minimum, max=maximum, **seconds),
            clock=clock,
        )
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()


def waiter(pool: Pool[Wire], timeout: float | None = None) -> Future[Wire]:
    """Acquires in a thread of its own; returns when that waits in the queue."""
    answer: Future[Wire] = Future()
    before = pool.stats().waiting

    def acquire() -> None:
        try:
            answer.set_result(pool.acquire(timeout))
        except (PoolTimeout, PoolClosed, Refusal) as error:
            answer.set_exception(error)

    threading.Thread(target=acquire, daemon=True).start()
    while pool.stats().waiting == before and not answer.done():
        os.sched_yield()
    return answer


def test_connects_on_demand_and_reuses_the_last_one_returned(make_pool: MakePool, driver: Driver) -> None:
    pool = make_pool(maximum=3)
    first, second = pool.acquire(), pool.acquire()
    assert pool.stats() == PoolStats(max=3, total=2, active=2, idle=0, waiting=0)
    pool.release(second)
    pool.release(first)
    assert pool.stats() == PoolStats(max=3, total=2, active=0, idle=2, waiting=0)
    assert pool.acquire() is first
    assert len(driver.opened) == 2


def test_connecting_gets_what_remains_of_the_smaller_timeout(
    make_pool: MakePool, driver: Driver, clock: StillClock
) -> None:
    pool = make_pool(timeout=5.0)
    pool.acquire()
    pool.acquire(timeout=2.0)
    pool.acquire(timeout=9.0)
    assert driver.timeouts == [5.0, 2.0, 5.0]


def test_time_spent_on_a_check_is_taken_from_connecting(
    make_pool: MakePool, driver: Driver, clock: StillClock
) -> None:
    pool = make_pool(timeout=5.0)
    pool.release(wire := pool.acquire())
    wire.dead = True
    clock.time += 2.0
    driver.on_check = lambda: clock.sleep(3.0)
    pool.acquire()
    assert driver.timeouts == [5.0, 2.0]


def test_the_drivers_error_surfaces_unchanged_and_frees_the_slot(make_pool: MakePool, driver: Driver) -> None:
    pool = make_pool(maximum=1)
    driver.refuse = True
    for _ in range(2):
        with pytest.raises(Refusal, match="no route"):
            pool.acquire()
    assert pool.stats().total == 0
    assert pool.counters()["connect_errors"] == 2
    driver.refuse = False
    assert pool.acquire().number == 0


def test_timeout_names_pool_and_load(make_pool: MakePool) -> None:
    pool = make_pool(maximum=1)
    pool.acquire()
    waiting = waiter(pool)
    with pytest.raises(PoolTimeout) as error:
        pool.acquire(timeout=0.001)
    assert str(error.value) == "couldn't get a connection to 'main' after 0.0 s: 1 of 1 in use, 1 waiting"
    assert pool.counters()["timed_out"] == 1
    assert not waiting.done()


def test_who_timed_out_is_not_handed_a_connection(make_pool: MakePool) -> None:
    pool = make_pool(maximum=1)
    wire = pool.acquire()
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0.0)
    pool.release(wire)
    assert pool.acquire() is wire


def test_waiters_are_served_in_order(make_pool: MakePool) -> None:
    pool = make_pool(maximum=1)
    wire = pool.acquire()
    first, second = waiter(pool), waiter(pool)
    pool.release(wire)
    assert first.result() is wire
    assert not second.done()
    assert pool.stats() == PoolStats(max=1, total=1, active=1, idle=0, waiting=1)
    pool.release(wire)
    assert second.result() is wire
    assert pool.counters()["queued"] == 2


def test_a_broken_connection_lets_the_waiter_connect_itself(make_pool: MakePool, driver: Driver) -> None:
    pool = make_pool(maximum=1)
    wire = pool.acquire()
    waiting = waiter(pool)
    pool.release(wire, broken=True)
    assert waiting.result() is driver.opened[1]
    assert wire.closed
    assert (driver.most_open, pool.counters()["discarded"]) == (1, 1)


def test_slots_are_passed_on_in_order(make_pool: MakePool, driver: Driver) -> None:
    pool = make_pool(maximum=1)
    wire = pool.acquire()
    first, second = waiter(pool), waiter(pool)
    pool.release(wire, broken=True)
    assert first.result() is driver.opened[1]
    assert not second.done()


def test_a_connection_whose_life_is_over_is_not_handed_on(
    make_pool: MakePool, driver: Driver, clock: StillClock
) -> None:
    pool = make_pool(maximum=1, max_lifetime=5.0)
    wire = pool.acquire()
    waiting = waiter(pool)
    clock.time += 5.0
    driver.refuse = True
    pool.release(wire)
    assert type(waiting.exception()) in (PoolTimeout, Refusal)
    assert wire.closed


def test_what_is_handed_over_in_the_last_moment_is_taken(make_pool: MakePool) -> None:
    pool = make_pool(maximum=1)
    wire = pool.acquire()

    def release_when_time_is_up(frame: FrameType, event: str, _: object) -> None:
        if event == "c_return" and frame.f_code is Claim.wait.__code__:
            sys.setprofile(None)
            pool.release(wire)

    sys.setprofile(release_when_time_is_up)
    assert pool.acquire(timeout=0.0) is wire
    assert pool.counters()["timed_out"] == 0


def test_a_failed_connect_wakes_the_next_waiter(make_pool: MakePool, driver: Driver) -> None:
    pool = make_pool(maximum=1)
    wire = pool.acquire()
    waiting = [waiter(pool) for _ in range(3)]
    driver.refuse = True
    pool.release(wire, broken=True)
    assert [type(each.exception()) for each in waiting] == [Refusal] * 3
    assert pool.stats() == PoolStats(max=1, total=0, active=0, idle=0, waiting=0)


def test_what_cannot_be_reset_is_closed(make_pool: MakePool) -> None:
    pool = make_pool(maximum=1)
    wire = pool.acquire()
    waiting = waiter(pool)
    wire.dead = True
    pool.release(wire)
    assert wire.closed
    assert waiting.result() is not wire


def test_reset_runs_before_the_next_user(make_pool: MakePool) -> None:
    pool = make_pool(maximum=1)
    wire = pool.acquire()
    wire.dirty = True
    waiting = waiter(pool)
    pool.release(wire)
    assert waiting.result() is wire
    assert not wire.dirty


def test_a_liveness_check_gets_the_time_that_its_caller_has_left(
    make_pool: MakePool, driver: Driver, clock: StillClock
) -> None:
    pool = make_pool()
    pool.release(pool.acquire())
    clock.time += 1.0
    pool.acquire(timeout=0.75)
    assert driver.check_seconds == 0.75


@pytest.mark.parametrize(("idle", "checks"), [(0.9, 0), (1.0, 1)])
def test_liveness_is_checked_after_a_second_of_idleness(
    make_pool: MakePool, driver: Driver, clock: StillClock, idle: float, checks: int
) -> None:
    pool = make_pool()
    pool.release(wire := pool.acquire())
    clock.time += idle
    assert pool.acquire() is wire
    assert driver.checks == checks


def test_a_dead_idle_connection_is_replaced(make_pool: MakePool, driver: Driver, clock: StillClock) -> None:
    pool = make_pool(maximum=1)
    pool.release(wire := pool.acquire())
    wire.dead = True
    clock.time += 1.0
    assert pool.acquire() is driver.opened[1]
    assert wire.closed
    assert driver.most_open == 1


@pytest.mark.parametrize(
    ("limits", "minimum", "kept"),
    [
        ({"idle_timeout": 5.1}, 0, True),
        ({"idle_timeout": 5.0}, 0, False),
        ({"idle_timeout": 5.0}, 1, True),
        ({"max_lifetime": 5.1}, 1, True),
        ({"max_lifetime": 5.0}, 1, False),
    ],
)
def test_limits_at_checkout(
    make_pool: MakePool, clock: StillClock, limits: dict[str, float], minimum: int, kept: bool
) -> None:
    pool = make_pool(minimum=minimum, **limits)
    pool.release(wire := pool.acquire())
    clock.time += 5.0
    assert (pool.acquire() is wire) == kept
    assert wire.closed != kept


def test_lifetime_at_return(make_pool: MakePool, clock: StillClock) -> None:
    pool = make_pool(max_lifetime=5.0)
    wire = pool.acquire()
    clock.time += 5.0
    pool.release(wire)
    assert wire.closed
    assert pool.stats().total == 0


def test_a_short_limit_is_seen_within_the_second_without_checks(
    make_pool: MakePool, clock: StillClock
) -> None:
    pool = make_pool(idle_timeout=0.5)
    pool.release(wire := pool.acquire())
    clock.time += 0.5
    assert pool.acquire() is not wire


def test_returning_one_closes_a_surplus_one(make_pool: MakePool, clock: StillClock) -> None:
    pool = make_pool(idle_timeout=10.0)
    old, young = pool.acquire(), pool.acquire()
    pool.release(old)
    clock.time += 10.0
    pool.release(young)
    assert (old.closed, young.closed) == (True, False)
    assert pool.stats().total == 1


def test_maintain_shrinks_and_keeps_the_minimum(
    make_pool: MakePool, driver: Driver, clock: StillClock
) -> None:
    pool = make_pool(minimum=2, idle_timeout=10.0, max_lifetime=100.0)
    pool.maintain()
    assert pool.stats().idle == 2
    for wire in [pool.acquire() for _ in range(4)]:
        pool.release(wire)
    clock.time += 10.0
    pool.maintain()
    assert pool.stats().idle == 2
    pool.maintain(now=100.0)
    assert len(driver.opened) == 6
    assert pool.stats().idle == 2
    assert pool.counters()["acquired"] == 4


def test_maintain_raises_what_the_driver_raises(make_pool: MakePool, driver: Driver) -> None:
    pool = make_pool(minimum=1)
    driver.refuse = True
    with pytest.raises(Refusal):
        pool.maintain()
    assert pool.stats().total == 0


def test_context_returns_a_healthy_connection_after_an_error(make_pool: MakePool) -> None:
    pool = make_pool()
    with pytest.raises(KeyError), pool.connection() as wire:
        raise KeyError("unrelated")
    with pool.connection() as again:
        assert again is wire


def test_context_discards_a_connection_that_broke(make_pool: MakePool, driver: Driver) -> None:
    pool = make_pool()
    pool._reset = None
    with pytest.raises(Refusal):
        use_dead(pool)
    assert driver.opened[0].closed
    assert pool.counters()["discarded"] == 1


def use_dead(pool: Pool[Wire]) -> None:
    with pool.connection() as wire:
        wire.dead = True
        raise Refusal("connection reset")


def test_returning_twice_or_a_strangers_is_an_error(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.release(wire := pool.acquire())
    for stranger in (wire, Wire(99)):
        with pytest.raises(ValueError) as error:
            pool.release(stranger)
        assert str(error.value) == (
            "a connection that is not out was returned to the pool of 'main'; release it once"
        )
    assert pool.stats() == PoolStats(max=20, total=1, active=0, idle=1, waiting=0)


def test_close_ends_waiters_and_closes_on_return(make_pool: MakePool) -> None:
    pool = make_pool(maximum=2)
    out, idle = pool.acquire(), pool.acquire()
    waiting = waiter(pool)
    pool.release(idle)
    assert waiting.result() is idle
    pool.release(idle)
    pool.close()
    assert (idle.closed, out.closed, pool.closed) == (True, False, True)
    pool.release(out)
    assert out.closed
    with pytest.raises(PoolClosed) as error:
        pool.acquire()
    assert str(error.value) == "the pool of 'main' is closed"


def test_close_ends_those_who_wait(make_pool: MakePool) -> None:
    pool = make_pool(maximum=1)
    pool.acquire()
    waiting = [waiter(pool) for _ in range(2)]
    pool.close()
    assert [type(each.exception()) for each in waiting] == [PoolClosed] * 2
    assert pool.stats().waiting == 0


def test_close_names_what_is_out_longest_first(make_pool: MakePool, clock: StillClock) -> None:
    pool = make_pool()
    wires: list[Wire] = []
    for name in ("report", "mailer"):
        clock.time += 7.0
        thread = threading.Thread(target=lambda: wires.append(pool.acquire()), name=name)
        thread.start()
        thread.join()
    expected = (Leased("report", 1_000_007.0), Leased("mailer", 1_000_014.0))
    assert pool.close() == expected
    pool.release(wires[0])
    assert pool.close() == expected[1:]


def test_a_reused_connection_is_named_after_its_new_user(make_pool: MakePool, clock: StillClock) -> None:
    pool = make_pool(maximum=1)
    pool.release(wire := pool.acquire())
    clock.time += 0.5
    pool.acquire()
    assert pool.leased()[0].since == 1_000_000.5
    clock.time += 2.5
    waiting = waiter(pool)
    pool.release(wire)
    waiting.result()
    assert pool.leased()[0].since == 1_000_003.0
    assert pool.leased()[0].thread != threading.current_thread().name


def test_close_with_a_timeout_waits_for_returns(make_pool: MakePool) -> None:
    pool = make_pool()
    wire = pool.acquire()
    closing = threading.Thread(target=lambda: left.append(pool.close(timeout=60.0)))
    left: list[tuple[Leased, ...]] = []
    closing.start()
    while not pool.closed:
        os.sched_yield()
    pool.release(wire)
    closing.join()
    assert left == [()]
    assert wire.closed


def test_close_after_its_timeout_closes_under_the_user(make_pool: MakePool) -> None:
    pool = make_pool()
    wire = pool.acquire()
    assert [out.thread for out in pool.close(timeout=0.001)] == [threading.current_thread().name]
    assert wire.closed
    assert pool.stats().total == 0
    pool.release(wire)
    assert pool.close(timeout=0.001) == ()


def test_a_connection_opened_while_the_pool_closes_is_closed(make_pool: MakePool, driver: Driver) -> None:
    pool = make_pool()
    driver.on_connect = pool.close
    with pytest.raises(PoolClosed):
        pool.acquire()
    assert driver.opened[0].closed
    assert pool.stats().total == 0


def test_acquire_times_have_every_success(make_pool: MakePool, driver: Driver, clock: StillClock) -> None:
    pool = make_pool()
    driver.on_connect = lambda: clock.sleep(0.25)
    pool.release(pool.acquire())
    pool.release(pool.acquire())
    assert (pool.acquire_times.count, pool.acquire_times.max, pool.acquire_times.min) == (2, 0.25, 0.0)
    assert pool.counters() == {
        "acquired": 2,
        "opened": 1,
        "closed": 0,
        "queued": 0,
        "timed_out": 0,
        "discarded": 0,
        "connect_errors": 0,
    }


@contextmanager
def interrupted_when(waits: Callable[[], bool]) -> Iterator[None]:
    """SIGINT to the main thread, from another one, as soon as that waits."""
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        until(waits)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        yield
    thread.join()


def test_an_interrupt_while_waiting_leaves_the_queue(make_pool: MakePool) -> None:
    pool = make_pool(maximum=1)
    wire = pool.acquire()
    with interrupted_when(lambda: pool.stats().waiting == 1):
        pool.acquire()
    assert pool.stats().waiting == 0
    pool.release(wire)
    assert pool.acquire() is wire


def test_an_interrupt_while_connecting_frees_the_slot(make_pool: MakePool, driver: Driver) -> None:
    pool = make_pool(maximum=1)
    connecting = threading.Event()

    def connect() -> None:
        connecting.set()
        threading.Event().wait()

    driver.on_connect = connect
    with interrupted_when(connecting.is_set):
        pool.acquire()
    assert pool.stats().total == 0


def test_an_interrupt_anywhere_loses_no_slot(make_pool: MakePool, clock: StillClock) -> None:
    """A signal arrives after each of the first calls in turn, in every branch of acquire."""
    for at in range(60):
        pool = make_pool(maximum=2)
        pool.release(pool.acquire())
        clock.time += at % 2
        with interrupt_at_call(at):
            pool.acquire()
        out = len(pool.leased())
        assert pool.stats().active == out, f"a slot was lost at call {at}"
        pool.close()


@contextmanager
def interrupt_at_call(number: int) -> Iterator[None]:
    """Raises KeyboardInterrupt where the interpreter looks for signals: after a C function, in a new frame."""
    seen = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal seen
        if event in ("c_return", "call") and "/katax_cli/core/" in frame.f_code.co_filename:
            seen += 1
            if seen == number:
                sys.setprofile(None)
                raise KeyboardInterrupt

    # A collection would run the finalizers of other tests' pools, where Python drops an interrupt.
    gc.disable()
    sys.setprofile(profile)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
        gc.enable()


def test_a_finalizer_may_return_a_connection_inside_the_pool(make_pool: MakePool) -> None:
    pool = make_pool(maximum=2)
    wire = pool.acquire()
    with pool._slots._lock:
        pool.release(wire)
    assert pool.acquire() is wire


# A pool must survive exactly what this warning is about.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own(make_pool: MakePool, driver: Driver) -> None:
    pool = make_pool(maximum=2)
    pool.release(idle := pool.acquire())
    held = threading.Event()
    done = threading.Event()
    holder = threading.Thread(target=lambda: hold(pool, held, done))
    with pool.connection() as out:
        holder.start()
        held.wait()
        child = os.fork()
        if child == 0:
            os._exit(child_of(pool, driver, (idle, out)))
        done.set()
        holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pool.stats().idle == 1


def hold(pool: Pool[Wire], held: threading.Event, done: threading.Event) -> None:
    """The lock that is held while another thread forks."""
    with pool._slots._lock:
        held.set()
        done.wait()


def child_of(pool: Pool[Wire], driver: Driver, parents: tuple[Wire, ...]) -> int:
    """0 when nothing of the parent is used, handed back or closed."""
    if pool.stats() != PoolStats(max=2, total=0, active=0, idle=0, waiting=0):
        return 1
    if pool.acquire() in parents:
        return 2
    for wire in set(parents):
        pool.release(wire)
    pool.close()
    return 3 if any(wire.closed for wire in parents) else 0


@pytest.mark.parametrize("seed", range(3))
def test_threads_in_a_crowd(seed: int) -> None:
    """Twelve threads, three slots, real time: breakages, refusals, timeouts that race with hand-overs."""
    driver, together = Driver(), threading.Barrier(12)
    attempts = count(1)

    def refuse_every_fifth() -> None:
        if next(attempts) % 5 == 0:
            raise Refusal("no route")

    driver.on_connect = refuse_every_fifth
    pool = Pool(
        "main",
        driver.connect,
        close=driver.close,
        check=driver.check,
        settings=PoolSettings(max=3, timeout=600.0),
    )
    ends: Counter[str] = Counter()
    threads = [
        threading.Thread(target=crowd, args=(pool, ends, Random(12 * seed + number), together))
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pool.stats().active == pool.stats().waiting == 0
    assert driver.most_open <= 3
    assert len(driver.open) == pool.stats().idle
    assert ends["used"] == pool.acquire_times.count
    assert min(ends["used"], ends["PoolTimeout"], ends["Refusal"]) > 0


def crowd(pool: Pool[Wire], ends: "Counter[str]", dice: Random, together: threading.Barrier) -> None:
    together.wait()
    for _ in range(80):
        try:
            wire = pool.acquire(timeout=dice.choice([0.0, 0.0005, 0.002, None]))
        except (PoolTimeout, Refusal) as error:
            ends[type(error).__name__] += 1
            continue
        wire.users += 1
        assert wire.users == 1
        threading.Event().wait(dice.random() * 0.0005)
        assert wire.users == 1
        wire.users -= 1
        ends["used"] += 1
        pool.release(wire, broken=dice.random() < 0.1)
