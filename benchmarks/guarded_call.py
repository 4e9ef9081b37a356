"""What guarding costs: a call that does nothing beside tenacity around pybreaker, and `select 1` with a
deadline, retries and a breaker beside psycopg_pool without any, both in autocommit mode."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from harness import Work, compare, finish, present, server

from katax_cli.core.resilience.breaker import CallBreaker
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.failure import Failure, FailureKind
from katax_cli.core.resilience.retry import RetryPolicy
from katax_cli.services.calls.guard import Guard, Safety, Sent
from katax_cli.services.calls.watchdog import watchdog

CALLS = 20_000
QUERIES = 200  # short runs in turn: what else the machine does hits both alike
SECONDS = 30.0
MICROSECONDS_ALLOWED = 5.0


def main() -> int:
    peer = tenacity_around_pybreaker() if present("tenacity") and present("pybreaker") else None
    rows = compare(
        f"guard: {CALLS} calls that do nothing",
        katax=guarded_nothing(watched=False),
        peers={"tenacity(pybreaker)": peer},
    )
    rows += compare(
        f"guard: {CALLS} calls that do nothing, watched by the deadline",
        katax=guarded_nothing(watched=True),
        peers={"tenacity(pybreaker)": peer},
    )
    for each in rows:
        theirs = "absent" if each.seconds is None else f"{each.seconds / CALLS * 1e6:.2f} µs"
        print(f"{each.work}: katax {each.katax / CALLS * 1e6:.2f} µs a call, {each.peer} {theirs}")
    select_1()
    too_slow = rows[0].katax / CALLS * 1e6 > MICROSECONDS_ALLOWED
    return finish() or int(too_slow)


def new_guard(name: str) -> Guard:
    unknown = Failure(FailureKind.UNKNOWN, "")
    return Guard(name, lambda _error: unknown, retry=RetryPolicy(), breaker=CallBreaker(name=name))


def guarded_nothing(*, watched: bool) -> Work:
    guard = new_guard("nothing")

    def nothing(sent: Sent) -> None:
        sent.sent = True

    def watched_nothing(sent: Sent) -> None:
        with watchdog.limit(SECONDS, guard_must_not_fire):
            sent.sent = True

    attempt = watched_nothing if watched else nothing

    def run() -> None:
        for _ in range(CALLS):
            guard.call(attempt, deadline=Deadline(SECONDS), safety=Safety.READ)

    return run


def guard_must_not_fire() -> None:
    raise AssertionError("a call that does nothing outlived its deadline")


def tenacity_around_pybreaker() -> Work:
    from pybreaker import CircuitBreaker as Peer
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay
    from tenacity.wait import wait_random_exponential

    breaker = Peer(fail_max=5, reset_timeout=60)
    retrying = Retrying(
        stop=stop_after_attempt(3) | stop_after_delay(45),
        wait=wait_random_exponential(multiplier=1, max=10),
        retry=retry_if_exception_type(OSError),
    )

    def nothing() -> None:
        """The peer's own cost."""

    def run() -> None:
        for _ in range(CALLS):
            retrying(breaker.call, nothing)

    return run


def select_1() -> None:
    with server("postgresql") as url, ExitStack() as stack:
        compare(
            f"guard: {QUERIES} × select 1 with a deadline",
            katax=through_katax(url, stack),
            peers={"psycopg_pool, no deadline": through_psycopg_pool(url, stack)},
            target=1.05,
            runs=75,
        )


def through_katax(url: str, stack: ExitStack) -> Work:
    from psycopg.conninfo import conninfo_to_dict

    from katax_cli.core.settings import ConnectionSettings, Secret
    from katax_cli.engines.postgresql import create
    from katax_cli.services.databases.sql import SqlDatabase

    parts = conninfo_to_dict(url)
    settings = ConnectionSettings(
        name="main",
        type="postgresql",
        host=str(parts["host"]),
        port=int(str(parts["port"])),
        user=str(parts["user"]),
        password=Secret.of(str(parts["password"])) if "password" in parts else None,
        database=str(parts["dbname"]),
    )
    engine = create(settings)
    guard = Guard("main", engine.classify, retry=RetryPolicy(), breaker=CallBreaker(name="main"))
    database = stack.enter_context(SqlDatabase(engine, guard))

    def run() -> None:
        for _ in range(QUERIES):
            database.query("select 1", timeout=SECONDS)

    return run


def through_psycopg_pool(url: str, stack: ExitStack) -> Work | None:
    if not present("psycopg_pool"):
        return None
    from psycopg.rows import dict_row
    from psycopg_pool import ConnectionPool

    pool = ConnectionPool(
        url, min_size=1, max_size=4, kwargs={"autocommit": True, "row_factory": dict_row}, open=True
    )
    stack.callback(pool.close)
    pool.wait()

    def run() -> None:
        for _ in range(QUERIES):
            with pool.connection() as connection:
                connection.execute("select 1").fetchall()

    return run


if __name__ == "__main__":
    sys.exit(main())
