"""How the cost of what grows by a step grows: three sizes or more, and the exponent.

1.0 is linear, 2.0 quadratic. The cost is processor time, of katax and its server together, for other programs of the
machine change that the least. What a start costs is measured at size 1 and taken off. The "peer" of a row is the same
work at its smallest size, scaled to the largest, so that the ratio is what the growth itself costs.

`python benchmarks/growth.py --large` takes the sizes of docs/scale.md, which it writes anew: more than half an hour.
Words choose works by their names: `python benchmarks/growth.py --large cron "cache scan"`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import harness
from growing import commands, daemons, page, shared_state, sockets
from growing.fit import NOISE, Cost, Growth, Measured, Place, measured

ALLOWED = 1.5
"""At eight times the size: an exponent of 1.2."""
SETTINGS = {"postgresql": {"max_connections": "1200"}}
"""A thousand processes have a connection each."""


def main(words: Sequence[str]) -> int:
    """All works, or those whose name holds one of the words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args(words)
    growths = [*commands.growths(), *daemons.growths(), *shared_state.growths(), *sockets.growths()]
    chosen = [
        each for each in growths if not options.words or any(word in each.name for word in options.words)
    ]
    with TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        for engine in dict.fromkeys(each.engine for each in chosen):
            with server(engine) as (url, process):
                for growth in (each for each in chosen if each.engine == engine):
                    tell(
                        measure(growth, url, process, Path(folder), large=options.large), large=options.large
                    )
    if not options.large:
        return harness.finish()
    page.write()
    return 0


def measure(growth: Growth, url: str, process: int | None, folder: Path, *, large: bool) -> Measured:
    """Each try in a folder and a database of its own."""

    def cost(size: int) -> Cost:
        with TemporaryDirectory(dir=folder) as room, database(growth.engine, url) as empty:
            return growth.cost(size, Place(Path(room), empty, process))

    return measured(growth, cost, large=large)


def tell(found: Measured, *, large: bool) -> None:
    """Prints what was found, and keeps it: for docs/scale.md, or as a row among the other benchmarks."""
    print(page.sentence(found), flush=True)
    if large:
        page.keep(found)
        return
    steps = found.sizes[-1] / found.sizes[0]
    # Two growths of a tenth of a second are noise beside each other.
    smallest = max(found.seconds[0], 0.1)
    harness.row(
        f"{found.name}, {found.sizes[0]} to {found.sizes[-1]} on {found.engine}",
        katax_seconds=max(found.seconds[-1], NOISE),
        peer_name=f"{steps:g} times the smallest",
        peer_seconds=smallest * steps,
        target=ALLOWED,
    )


@contextmanager
def server(engine: str) -> Iterator[tuple[str, int | None]]:
    """The URL of a real server of its own and its process; "" for SQLite, which has none."""
    if engine == "sqlite":
        yield "", None
        return
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.servers.fleet import Fleet

    with closing(Fleet()) as fleet:
        started = fleet.private(engine, settings=SETTINGS.get(engine, {}))
        assert started.process is not None
        yield started.url, started.process.pid


@contextmanager
def database(engine: str, url: str) -> Iterator[str]:
    """The URL of an empty one, dropped afterwards."""
    if engine not in ("postgresql", "mysql"):
        yield url
        return
    name = f"grow_{os.urandom(4).hex()}"
    execute = psql if engine == "postgresql" else mysql
    execute(url, f"CREATE DATABASE {name}")
    try:
        yield url.rpartition("/")[0] + f"/{name}"
    finally:
        execute(url, f"DROP DATABASE {name}")


def psql(url: str, sql: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.encode())


def mysql(url: str, sql: str) -> None:
    from urllib.parse import urlsplit

    import pymysql

    parts = urlsplit(url)
    with pymysql.connect(
        host=parts.hostname, port=parts.port or 3306, user=parts.username, password=parts.password or ""
    ) as connection:
        connection.cursor().execute(sql)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
