"""The public retry and breaker: forms, hooks, limits, and which errors of which driver are transient."""

from __future__ import annotations

import errno
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path

import psycopg
import pymongo
import pymysql
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.deadline import NEVER
from katax_cli.core.resilience.retry import RetryPolicy
from katax_cli.errors import (
    AuthenticationFailed,
    ConfigError,
    DeadlineExceeded,
    KataxError,
    OutcomeUnknown,
    PoolClosed,
    PoolTimeout,
    QueryError,
    Unavailable,
)
from katax_cli.resilience import (
    BreakerOpen,
    CircuitBreaker,
    UnwantedResult,
    create_retry_wrapper,
    is_transient_error,
    retry,
    set_waiting,
    with_retry,
)
from katax_cli.services.calls.guard import Guard, Safety, Sent
from tests.fake_clock import FakeClock
from tests.services.line_server import ask, classify, line_server

ROOT = Path(__file__).parents[1]


class Flaky:
    """Raises the given errors in order, then returns "done"."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def gone() -> ConnectionError:
    return ConnectionResetError(errno.ECONNRESET, "gone")


def test_calls_again_until_it_works() -> None:
    fn, clock = Flaky(gone(), gone()), FakeClock()

    assert with_retry(fn, clock=clock) == "done"
    assert fn.calls == 3
    assert clock.sleeps == [0.5, 1.0]


def test_the_last_error_passes_through_unchanged() -> None:
    last = gone()
    fn = Flaky(gone(), last, gone())

    with pytest.raises(ConnectionResetError) as error:
        with_retry(fn, 2, clock=FakeClock())

    assert error.value is last
    assert fn.calls == 2


def test_what_is_not_transient_is_not_repeated() -> None:
    fn = Flaky(ValueError("no"))

    with pytest.raises(ValueError, match="no"):
        with_retry(fn, clock=FakeClock())

    assert fn.calls == 1


def test_the_caller_says_what_is_repeated() -> None:
    fn = Flaky(ValueError("later"), gone())

    with pytest.raises(ConnectionResetError):
        with_retry(fn, should_retry=lambda error: isinstance(error, ValueError), clock=FakeClock())

    assert fn.calls == 2


@pytest.mark.parametrize(
    "error",
    [OutcomeUnknown("main", "gone"), AuthenticationFailed("main", "no"), BreakerOpen("main")],
    ids=lambda error: type(error).__name__,
)
def test_some_errors_are_never_repeated_whatever_the_caller_says(error: KataxError) -> None:
    fn = Flaky(error)

    with pytest.raises(type(error)):
        with_retry(fn, should_retry=lambda _error: True, clock=FakeClock())

    assert fn.calls == 1


def test_an_interrupt_is_not_repeated() -> None:
    fn = Flaky(KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        with_retry(fn, should_retry=lambda _error: True, clock=FakeClock())

    assert fn.calls == 1


@pytest.mark.parametrize(
    ("settings", "waits"),
    [
        ({"jitter": False}, [1.0, 2.0, 4.0, 8.0, 10.0]),
        ({"jitter": False, "initial": 2.0, "multiplier": 3.0, "max": 15.0}, [2.0, 6.0, 15.0, 15.0, 15.0]),
        ({"jitter": False, "backoff": False}, [1.0, 1.0, 1.0, 1.0, 1.0]),
        ({"jitter": False, "delay": 0.5}, [0.5, 1.0, 2.0, 4.0, 8.0]),
        ({"jitter": False, "delay": 0.5, "backoff": False}, [0.5, 0.5, 0.5, 0.5, 0.5]),
        ({"delay": lambda attempt: attempt * 4.0}, [4.0, 8.0, 10.0, 10.0, 10.0]),
        ({}, [0.25, 0.5, 1.0, 2.0, 2.5]),
    ],
    ids=["plain", "growth", "equal", "delay", "delay equal", "function", "jitter"],
)
def test_how_long_it_waits(settings: dict[str, float], waits: list[float]) -> None:
    clock = FakeClock(dice=lambda: 0.25)

    with pytest.raises(ConnectionResetError):
        with_retry(Flaky(*[gone()] * 9), 6, total=100.0, clock=clock, **settings)  # type: ignore[arg-type]

    assert clock.sleeps == waits


def test_an_exhausted_pool_waits_at_least_half() -> None:
    clock = FakeClock(dice=lambda: 0.0)

    with_retry(Flaky(PoolTimeout("main", waited=1.0, active=1, max=1, waiting=3), gone()), clock=clock)

    assert clock.sleeps == [0.5, 0.0]


def test_a_server_with_too_many_clients_waits_at_least_half() -> None:
    clock = FakeClock(dice=lambda: 0.0)
    guarded = Unavailable("main", "too many clients")
    guarded.__cause__ = psycopg.errors.TooManyConnections()

    with_retry(Flaky(psycopg.errors.TooManyConnections(), guarded), clock=clock)

    assert clock.sleeps == [0.5, 1.0]


def test_the_total_time_ends_it_before_the_attempts_do() -> None:
    clock, fn = FakeClock(), Flaky(*[gone()] * 99)

    with pytest.raises(ConnectionResetError):
        with_retry(fn, 50, backoff=False, jitter=False, total=5.0, clock=clock)

    assert (fn.calls, clock.at) == (5, 4.0)


def test_on_retry_is_told_before_each_wait() -> None:
    clock, told = FakeClock(), []
    first, second = gone(), gone()

    with_retry(
        Flaky(first, second),
        on_retry=lambda attempt, error: told.append((attempt, error, len(clock.sleeps))),
        clock=clock,
    )

    assert told == [(1, first, 0), (2, second, 1)]


def test_a_wrapper_repeats_each_call_and_keeps_arguments_and_name() -> None:
    seen = []

    def fetch(limit: int, *, table: str) -> str:
        seen.append((limit, table))
        if len(seen) == 1:
            raise gone()
        return f"{table}:{limit}"

    fetch_with_retry = create_retry_wrapper(fetch, attempts=2, clock=FakeClock())

    assert fetch_with_retry(100, table="users") == "users:100"
    assert seen == [(100, "users")] * 2
    assert fetch_with_retry.__name__ == "fetch"


def test_each_call_of_a_wrapper_has_all_its_attempts() -> None:
    fn = Flaky(gone(), gone(), gone(), gone())
    wrapped = create_retry_wrapper(fn, attempts=3, clock=FakeClock())

    with pytest.raises(ConnectionResetError):
        wrapped()
    assert wrapped() == "done"


def test_the_decorator_takes_the_same_settings() -> None:
    fn, clock = Flaky(gone(), gone(), gone()), FakeClock()

    @retry(attempts=4, initial=3.0, jitter=False, backoff=False, clock=clock)
    def fetch() -> str:
        return fn()

    assert fetch() == "done"
    assert clock.sleeps == [3.0, 3.0, 3.0]


def test_all_forms_take_the_same_settings_with_the_same_defaults() -> None:
    forms = [list(signature(form).parameters.values()) for form in (with_retry, create_retry_wrapper, retry)]
    settings = [[(each.name, each.kind, each.default) for each in form[-12:]] for form in forms]

    assert settings[0] == settings[1] == settings[2]
    assert [(name, default) for name, _, default in settings[0]] == [
        ("attempts", 3),
        ("initial", 1.0),
        ("max", 10.0),
        ("multiplier", 2.0),
        ("backoff", True),
        ("jitter", True),
        ("total", 45.0),
        ("delay", None),
        ("should_retry", None),
        ("retry_on_result", None),
        ("on_retry", None),
        ("clock", SYSTEM),
    ]


def test_an_unwanted_result_is_repeated_and_the_last_is_returned() -> None:
    clock, told = FakeClock(), list[tuple[int, Exception]]()
    results: Iterator[int | Exception] = iter([0, ConnectionResetError(), 0, 7])

    def fetch() -> int:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    def note(attempt: int, error: Exception) -> None:
        told.append((attempt, error))

    assert (
        with_retry(
            fetch, 5, retry_on_result=lambda n: n == 0, on_retry=note, delay=1.0, jitter=False, clock=clock
        )
        == 7
    )
    assert [(attempt, type(error)) for attempt, error in told] == [
        (1, UnwantedResult),
        (2, ConnectionResetError),
        (3, UnwantedResult),
    ]
    first = told[0][1]
    assert isinstance(first, UnwantedResult)
    assert (str(first), first.value) == ("the call returned int, which was not wanted", 0)
    assert clock.sleeps == [1.0, 2.0, 4.0]

    calls: list[int] = []
    always = retry(3, retry_on_result=lambda result: result is None, clock=clock)(lambda: calls.append(1))
    assert (always(), len(calls)) == (None, 3)

    async def wants(_: object) -> bool:
        return False

    with pytest.raises(TypeError, match="coroutine function, which retry_on_result never runs"):
        retry(retry_on_result=wants)  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        with_retry(lambda: 0, retry_on_result=lambda n: bool(1 / n), clock=clock)


def test_a_call_that_is_not_permitted_is_told(caplog: pytest.LogCaptureFixture) -> None:
    told: list[BreakerOpen] = []
    breaker = CircuitBreaker(1, on_call_not_permitted=told.append, clock=FakeClock())

    def broken(_: BreakerOpen) -> None:
        raise RuntimeError("of the listener")

    remove = breaker.on_call_not_permitted(broken)
    with pytest.raises(ConnectionResetError):
        breaker.execute(Flaky(gone()))
    assert told == []
    refusing: tuple[Callable[[], object], ...] = (
        lambda: breaker.execute(list),
        breaker.before,
        breaker.__enter__,
    )
    for use in refusing:
        with pytest.raises(BreakerOpen) as refused:
            use()
        assert told.pop() is refused.value
    assert caplog.messages == ["on_call_not_permitted of breaker 'calls' failed"] * 3
    remove()
    breaker.reset()
    assert breaker.execute(lambda: 7) == 7
    assert (told, len(caplog.messages)) == ([], 3)


def test_wrong_settings_are_refused_before_anything_is_called() -> None:
    fn = Flaky()

    with pytest.raises(ValueError) as error:
        create_retry_wrapper(fn, attempts=0)

    assert str(error.value) == "retry attempts is 0, expected at least 1"


def test_a_retry_inside_a_retry_makes_one_attempt() -> None:
    fn = Flaky(*[gone()] * 99)

    with pytest.raises(ConnectionResetError):
        with_retry(lambda: with_retry(fn, 5, clock=FakeClock()), 3, clock=FakeClock())

    assert fn.calls == 3


def test_a_guarded_call_inside_a_retry_makes_one_attempt_at_the_socket() -> None:
    guard = Guard("main", classify, retry=RetryPolicy(attempts=5), breaker=None, clock=FakeClock())

    def attempt(sent: Sent) -> bytes:
        return ask(server.port, b"select 1", sending=lambda: setattr(sent, "sent", True))

    with line_server(afterwards="drop") as server, pytest.raises(Unavailable):
        with_retry(lambda: guard.call(attempt, deadline=NEVER, safety=Safety.READ), 3, clock=FakeClock())

    assert len(server.requests) == 3


@pytest.fixture
def no_waiting() -> Iterator[None]:
    set_waiting(False)
    yield
    set_waiting(True)


@pytest.mark.usefixtures("no_waiting")
def test_a_suite_can_turn_the_waits_off() -> None:
    clock = FakeClock()

    assert with_retry(Flaky(gone(), gone()), clock=clock) == "done"
    assert sum(clock.sleeps) == 0


def pg(code: str) -> psycopg.Error:
    return psycopg.errors.lookup(code)("no")


def mysql(code: int) -> pymysql.MySQLError:
    return pymysql.err.OperationalError(code, "no")


def lite(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("no")
    error.sqlite_errorcode = code
    return error


TRANSIENT = [
    *(pg(code) for code in ("40001", "40P01", "08000", "08001", "08003", "08004", "08006")),
    *(pg(code) for code in ("53300", "57P01", "57P02", "57P03")),
    *(mysql(code) for code in (1205, 1213, 1040, 2002, 2003, 2006, 2013)),
    lite(sqlite3.SQLITE_BUSY),
    lite(sqlite3.SQLITE_LOCKED),
    redis.exceptions.BusyLoadingError("LOADING Redis is loading the dataset in memory"),
    redis.exceptions.ReadOnlyError("READONLY You can't write against a read only replica."),
    redis.exceptions.TryAgainError("TRYAGAIN Multiple keys request during rehashing of slot"),
    redis.exceptions.ClusterDownError("CLUSTERDOWN The cluster is down"),
    redis.exceptions.MasterDownError("MASTERDOWN Link with MASTER is down"),
    redis.exceptions.ConnectionError("Error 111 connecting to localhost:6379. Connection refused."),
    pymongo.errors.AutoReconnect("connection closed"),
    pymongo.errors.ServerSelectionTimeoutError("no servers found yet"),
    pymongo.errors.NotPrimaryError("not primary"),
    ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
    TimeoutError(errno.ETIMEDOUT, "timed out"),
    TimeoutError("timed out"),
    BrokenPipeError(errno.EPIPE, "broken pipe"),
    gone(),
    Unavailable("main", "gone"),
    PoolTimeout("main", waited=1.0, active=1, max=1, waiting=3),
]
LASTING = [
    *(pg(code) for code in ("23505", "42601", "28P01", "3D000", "53100", "57014", "25006", "40003")),
    *(mysql(code) for code in (1045, 1062, 1064, 1021)),
    sqlite3.IntegrityError("UNIQUE constraint failed"),
    lite(sqlite3.SQLITE_FULL),
    sqlite3.Warning("of the driver's module, and no error of a server"),
    redis.exceptions.AuthenticationError("WRONGPASS invalid username-password pair"),
    redis.exceptions.ResponseError("WRONGTYPE Operation against a key"),
    pymongo.errors.DuplicateKeyError("E11000 duplicate key"),
    FileNotFoundError(errno.ENOENT, "no"),
    OSError(errno.ENOSPC, "disk full"),
    ValueError("no"),
    KeyboardInterrupt(),
    QueryError("main", "no"),
    ConfigError("no"),
    BreakerOpen("main"),
    PoolClosed("main"),
    DeadlineExceeded("main", doing="query", seconds=1.0),
    OutcomeUnknown("main", "gone"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_transient(error: BaseException) -> None:
    assert is_transient_error(error)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_not_transient(error: BaseException) -> None:
    assert not is_transient_error(error)


def once(port: int) -> redis.Redis:
    """A client that does not repeat by itself, as redis-py otherwise does for seconds."""
    return redis.Redis(port=port, retry=Retry(NoBackoff(), 0))


CONNECTS: dict[str, Callable[[int], object]] = {
    "psycopg": lambda port: psycopg.connect(host="127.0.0.1", port=port),
    "pymysql": lambda port: pymysql.connect(host="127.0.0.1", port=port),
    "redis": lambda port: once(port).ping(),
    "socket": lambda port: socket.create_connection(("127.0.0.1", port)),
}


@pytest.mark.parametrize("driver", CONNECTS)
def test_a_refused_connection_is_transient_with_every_driver(driver: str, closed_port: int) -> None:
    with pytest.raises(Exception) as error:
        CONNECTS[driver](closed_port)

    assert is_transient_error(error.value)


def test_a_refused_connection_of_mongodb_is_transient(closed_port: int) -> None:
    client = pymongo.MongoClient[dict[str, object]](
        f"mongodb://127.0.0.1:{closed_port}", serverSelectionTimeoutMS=50
    )
    with client, pytest.raises(pymongo.errors.PyMongoError) as error:
        client.admin.command("ping")

    assert is_transient_error(error.value)


def test_a_locked_sqlite_file_is_transient_also_through_sqlalchemy(tmp_path: Path) -> None:
    from sqlalchemy import create_engine, exc, text

    url = f"sqlite:///{tmp_path / 'app.db'}"
    holder = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    engine = create_engine(url, connect_args={"timeout": 0})

    with pytest.raises(exc.OperationalError) as error, engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id)"))

    holder.close()
    engine.dispose()
    assert is_transient_error(error.value)


def test_a_broken_constraint_does_not_open_a_breaker() -> None:
    breaker = CircuitBreaker(1)
    with sqlite3.connect(":memory:") as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        db.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(sqlite3.IntegrityError):
            breaker.execute(lambda: db.execute("INSERT INTO t VALUES (1)"))
    db.close()

    assert breaker.is_closed()


def test_a_refused_connection_opens_a_breaker_that_then_calls_nothing(closed_port: int) -> None:
    breaker = CircuitBreaker(2)
    told: list[int] = []

    def connect() -> object:
        told.append(1)
        return once(closed_port).ping()

    for _ in range(2):
        with pytest.raises(redis.exceptions.ConnectionError):
            breaker.execute(connect)
    with pytest.raises(BreakerOpen, match="circuit breaker is open"):
        breaker.execute(connect)

    assert len(told) == 2


def test_any_other_error_counts() -> None:
    breaker = CircuitBreaker(1)

    with pytest.raises(ValueError, match="no"):
        breaker.execute(Flaky(ValueError("no")))

    assert breaker.is_open()


def test_a_decorated_function_is_guarded_and_keeps_its_name() -> None:
    breaker = CircuitBreaker(2)

    @breaker
    def divide(one: int, *, by: int) -> float:
        """Of the function itself."""
        return one / by

    assert (divide(6, by=3), divide.__name__, divide.__doc__) == (2.0, "divide", "Of the function itself.")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            divide(1, by=0)
    with pytest.raises(BreakerOpen):
        divide(6, by=3)


def test_a_block_counts_by_how_it_ends() -> None:
    breaker = CircuitBreaker(1, ignore=KeyError)
    with breaker as entered, pytest.raises(KeyError), breaker:
        raise KeyError("ignored")
    assert entered is breaker
    assert breaker.is_closed()

    with pytest.raises(ValueError, match="no"), breaker:
        raise ValueError("no")
    ran = False
    with pytest.raises(BreakerOpen), breaker:
        ran = True
    assert not ran


def test_blocks_of_many_threads_and_breakers_do_not_meet() -> None:
    """One breaker serves all threads: the slow block of one is not ended by another's."""
    clock = FakeClock()
    outer = CircuitBreaker(9, half_open_calls=4, clock=clock)
    outer.force_open(for_=1.0)
    clock.sleep(1.0)
    begun, others_done = threading.Barrier(4), threading.Event()

    def work(number: int) -> None:
        with outer, CircuitBreaker(1):
            begun.wait(20)
            if number == 0:
                others_done.wait(20)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join(20)
    before = outer.get_state().state
    others_done.set()
    threads[0].join(20)

    assert (before, outer.get_state().state) == ("half_open", "closed")


def test_a_block_that_ends_where_it_did_not_begin_is_an_error() -> None:
    breaker, other = CircuitBreaker(1), CircuitBreaker(1)
    breaker.__enter__()
    with pytest.raises(RuntimeError, match="in which it began"):
        other.__exit__(None, None, None)
    breaker.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="in which it began"):
        breaker.__exit__(None, None, None)


def test_importing_it_imports_no_driver() -> None:
    program = (
        "import sys, katax_cli.resilience as r; r.is_transient_error(OSError('x')); "
        "print(sorted({'psycopg','pymysql','sqlite3','pymongo','redis','sqlalchemy'} & set(sys.modules)))"
    )

    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert run.stdout == "[]\n"
