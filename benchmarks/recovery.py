"""How long callers miss a server that was away for a moment: 16 threads through one proxy, beside psycopg_pool and
SQLAlchemy with `pool_pre_ping`, at default settings. Seconds until each thread got an answer again, and the errors."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any

from harness import finish, present, row, server

THREADS = 16
PATIENCE = 60.0
AWAY = {"cut": 0.0, "refused for 50 ms": 0.05, "refused for 1 s": 1.0}
Call = Callable[[], object]


def main() -> int:
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    with server("postgresql") as url, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for outage, seconds in AWAY.items():
            seen = {name: measured(peer, url, seconds) for name, peer in PEERS.items() if available(name)}
            for name in PEERS:
                if name != "katax":
                    there = seen.get(name)
                    row(
                        f"recovery: {outage}, {THREADS} threads",
                        katax_seconds=seen["katax"][0],
                        peer_name=name,
                        peer_seconds=there[0] if there else None,
                        target=None,
                    )
            errors = ", ".join(f"{name} {count}" for name, (_, count) in seen.items())
            print(f"{outage}: errors {errors}")
    return finish()


def available(name: str) -> bool:
    return name == "katax" or present(name)


@contextmanager
def katax(url: str) -> Iterator[Call]:
    from katax_cli import Katax

    with Katax("local") as program:
        database: Any = program.database("main", type="postgresql", connection=url)
        database.enable_query_logging(slow=False)
        yield lambda: database.query("select 1")


@contextmanager
def psycopg_pool(url: str) -> Iterator[Call]:
    from psycopg_pool import ConnectionPool

    with ConnectionPool(url, min_size=4, max_size=20, kwargs={"autocommit": True}, open=True) as pool:

        def call() -> None:
            with pool.connection() as connection:
                connection.execute("select 1").fetchall()

        yield call


@contextmanager
def sqlalchemy(url: str) -> Iterator[Call]:
    from sqlalchemy import create_engine, text

    engine = create_engine(
        url.replace("postgresql:", "postgresql+psycopg:"), pool_size=20, pool_pre_ping=True
    )

    def call() -> None:
        with engine.connect() as connection:
            connection.execute(text("select 1")).fetchall()

    yield call
    engine.dispose()


PEERS = {"katax": katax, "psycopg_pool": psycopg_pool, "sqlalchemy": sqlalchemy}


def measured(peer: Callable[[str], Any], url: str, away: float) -> tuple[float, int]:
    """Seconds from the server's return until every thread was answered, and the errors until then."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.servers.proxy import Proxy

    with closing(Proxy.for_url(url)) as wire, peer(wire.url) as call:
        stop, answered, errors = Event(), [0.0] * THREADS, [0] * THREADS

        def work(number: int) -> None:
            while not stop.is_set():
                try:
                    call()
                except Exception:  # noqa: BLE001 - peers raise their drivers' errors; they are counted
                    errors[number] += 1
                else:
                    answered[number] = monotonic()

        threads = [Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        all_after(answered, monotonic())
        if away:
            wire.refuse()
        wire.cut()
        sleep(away)
        wire.come_back()
        back = monotonic()
        recovered = all_after(answered, back) - back
        stop.set()
        for thread in threads:
            thread.join()
        return recovered, sum(errors)


def all_after(answered: list[float], moment: float) -> float:
    """When the last thread was first seen to have an answer from after that moment."""
    while min(answered) <= moment:
        if monotonic() > moment + PATIENCE:
            raise AssertionError("not every thread was answered again")
        sleep(0.001)
    return monotonic()


if __name__ == "__main__":
    sys.exit(main())
