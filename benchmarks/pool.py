"""katax's pool beside psycopg_pool, SQLAlchemy's QueuePool and DBUtils' PooledDB, on one PostgreSQL server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from threading import Barrier, Thread
from typing import Any

import psycopg
from harness import Work, compare, finish, present, server
from psycopg.pq import TransactionStatus

from katax_cli.core.pooling.pool import Pool
from katax_cli.core.settings import PoolSettings

CONNECTIONS = 8
THREADS = 32
QUERIES = 50
CHECKOUTS = 5_000
# Many short runs in turn: what else the machine does then meets all alike.
RUNS = 15
PATIENCE = 60.0

Connection = psycopg.Connection[Any]


def main() -> int:
    with server("postgresql") as url, ExitStack() as pools:
        katax = katax_pool(url)
        pools.callback(katax.close)
        peers = {
            "psycopg_pool": psycopg_pool(url, pools) if present("psycopg_pool") else None,
            "SQLAlchemy QueuePool": sqlalchemy_pool(url, pools) if present("sqlalchemy") else None,
            "DBUtils PooledDB": dbutils_pool(url, pools) if present("dbutils") else None,
        }
        for work, build in (
            (f"pool: select 1, {THREADS} threads on {CONNECTIONS} connections", in_a_crowd),
            (f"pool: {CHECKOUTS} acquire and release, 1 thread", checkouts),
        ):
            ours = build(lambda body: _with_katax(katax, body))
            compare(work, katax=ours, peers={n: build(p) if p else None for n, p in peers.items()}, runs=RUNS)
    return finish()


# How a pool lends a connection to a function.
Lend = Callable[[Callable[[Connection], object]], None]


def in_a_crowd(lend: Lend) -> Work:
    """Every thread gets a connection for each of its queries."""

    def client(start: Barrier) -> None:
        start.wait()
        for _ in range(QUERIES):
            lend(select_1)

    def run() -> None:
        start = Barrier(THREADS)
        threads = [Thread(target=client, args=(start,)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return run


def checkouts(lend: Lend) -> Work:
    def run() -> None:
        for _ in range(CHECKOUTS):
            lend(nothing)

    return run


def select_1(connection: Connection) -> None:
    connection.execute("select 1").fetchone()


def nothing(_: Connection) -> None:
    """The pool's own cost."""


def connect(url: str) -> Connection:
    return psycopg.connect(url, autocommit=True)


def katax_pool(url: str) -> Pool[Connection]:
    settings = PoolSettings(min=CONNECTIONS, max=CONNECTIONS, timeout=PATIENCE)
    pool: Pool[Connection] = Pool(
        "benchmark",
        lambda _: connect(url),
        close=psycopg.Connection.close,
        check=lambda connection, _: select_1(connection),
        is_broken=lambda connection: connection.broken,
        reset=roll_back,
        settings=settings,
    )
    pool.maintain()
    return pool


def roll_back(connection: Connection) -> None:
    """What psycopg_pool does on return: asks for the transaction's state, which needs no round trip."""
    if connection.pgconn.transaction_status != TransactionStatus.IDLE:
        connection.rollback()


def _with_katax(pool: Pool[Connection], body: Callable[[Connection], object]) -> None:
    with pool.connection() as connection:
        body(connection)


def psycopg_pool(url: str, stack: ExitStack) -> Lend:
    from psycopg_pool import ConnectionPool

    pool = ConnectionPool(
        url,
        min_size=CONNECTIONS,
        max_size=CONNECTIONS,
        kwargs={"autocommit": True},
        open=True,
        timeout=PATIENCE,
    )
    stack.callback(pool.close)
    pool.wait()

    def lend(body: Callable[[Connection], object]) -> None:
        with pool.connection() as connection:
            body(connection)

    return lend


def sqlalchemy_pool(url: str, stack: ExitStack) -> Lend:
    from sqlalchemy.pool import QueuePool

    def creator() -> Any:
        return connect(url)

    pool = QueuePool(creator, pool_size=CONNECTIONS, max_overflow=0, timeout=PATIENCE)
    stack.callback(pool.dispose)

    def lend(body: Callable[[Connection], object]) -> None:
        lent: Any = pool.connect()
        try:
            body(lent.dbapi_connection)
        finally:
            lent.close()

    return lend


def dbutils_pool(url: str, stack: ExitStack) -> Lend:
    from dbutils.pooled_db import PooledDB

    pool = PooledDB(
        psycopg,
        mincached=CONNECTIONS,
        maxconnections=CONNECTIONS,
        blocking=True,
        conninfo=url,
        autocommit=True,
    )
    stack.callback(pool.close)

    def lend(body: Callable[[Connection], object]) -> None:
        lent = pool.connection(shareable=False)
        try:
            # The pool's wrapper knows cursors only; the work must be the same for all.
            body(lent._con._con)
        finally:
            lent.close()

    return lend


if __name__ == "__main__":
    sys.exit(main())
