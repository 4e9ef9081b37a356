"""How the time of what grows by a step grows: four sizes, each twice the one before, and the exponent.

1.0 is linear, 2.0 quadratic. What a start costs is measured at size 1 and taken off. The "peer" of a row is the same
work at its smallest size, scaled to the largest, so that the ratio is what the growth itself costs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple

import harness

STEPS = (1, 2, 4, 8)
TRIES = 3
ALLOWED = 1.5
"""At eight times the size: an exponent of 1.2."""
Write = Callable[[Path, int], None]


class Work(NamedTuple):
    """One command whose work grows: on which engine, from which size on, what is there before it."""

    name: str
    engine: str
    smallest: int
    write: Write
    command: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()


def rows_in_one_file(folder: Path, size: int) -> None:
    lines = "".join(f"INSERT INTO grown VALUES ({n}, 'row {n}');\n" for n in range(size))
    migration(folder, 1, f"CREATE TABLE grown (id int PRIMARY KEY, name varchar(50));\n{lines}")


def tables_in_one_file(folder: Path, size: int) -> None:
    migration(folder, 1, "".join(f"CREATE TABLE grown_{n} (id int PRIMARY KEY);\n" for n in range(size)))


def files(folder: Path, size: int) -> None:
    for number in range(1, size + 1):
        migration(folder, number, f"CREATE TABLE grown_{number} (id int PRIMARY KEY);\n")


def migration(folder: Path, number: int, up: str) -> None:
    room = folder / "migrations"
    room.mkdir(exist_ok=True)
    (room / f"{number:06}_grown.sql").write_text(f"-- UP\n{up}-- DOWN\n")


def seed_rows(folder: Path, size: int) -> None:
    migration(folder, 1, "CREATE TABLE grown (id int PRIMARY KEY, name varchar(50));\n")
    room = folder / "seeds"
    room.mkdir()
    (room / "grown.csv").write_text("id,name\n" + "".join(f"{n},row {n}\n" for n in range(size)))


def cron_jobs(folder: Path, size: int) -> None:
    jobs = "".join(
        f'[cron.jobs.j{n}]\nschedule = "{n % 60} * * * *"\ncommand = "true"\n' for n in range(size)
    )
    (folder / "katax.toml").write_text(jobs)


def nothing(folder: Path, size: int) -> None:
    """The work is in the server."""


FILL = "for n = 1, ARGV[1] do redis.call('SET', 'grown:' .. n, n) end return 1"
UP = ("migrate", "up", "-q", "-y")
KEYS = ("cache", "cmd", "EVAL", FILL, "0", "{size}", "-y")
CLEAR = ("cache", "clear", "grown:*", "-y", "-q")
WORKS = (
    Work("migrate up, INSERTs of one file", "mysql", 2000, rows_in_one_file, UP),
    Work("migrate up, INSERTs of one file", "postgresql", 2000, rows_in_one_file, UP),
    Work("migrate up, INSERTs of one file", "sqlite", 2000, rows_in_one_file, UP),
    Work("migrate up, tables of one file", "mysql", 100, tables_in_one_file, UP),
    Work("migrate up, files", "mysql", 100, files, UP),
    Work("migrate up, files", "postgresql", 200, files, UP),
    Work("migrate status", "postgresql", 200, files, ("migrate", "status"), (UP,)),
    Work("migrate down", "mysql", 100, files, ("migrate", "down", "--to", "0", "-q", "-y"), (UP,)),
    Work("seed run, rows into an empty table", "postgresql", 25_000, seed_rows, ("seed", "run"), (UP,)),
    Work("seed run, rows into an empty table", "mysql", 25_000, seed_rows, ("seed", "run"), (UP,)),
    Work("seed run, rows into an empty table", "sqlite", 25_000, seed_rows, ("seed", "run"), (UP,)),
    Work(
        "seed run --again, rows that are there", "postgresql", 25_000, seed_rows,
        ("seed", "run", "--again"), (UP, ("seed", "run")),
    ),
    Work("cron list, jobs", "sqlite", 1000, cron_jobs, ("cron", "list")),
    Work("cron next, jobs", "sqlite", 1000, cron_jobs, ("cron", "next")),
    Work("cache scan, keys", "redis", 20000, nothing, ("cache", "scan", "grown:*"), (CLEAR, KEYS)),
    Work("cache export, keys", "redis", 20000, nothing, ("cache", "export", "grown:*"), (CLEAR, KEYS)),
    Work("cache clear, keys", "redis", 20000, nothing, CLEAR, (KEYS,)),
)  # fmt: skip


def seconds_of(work: Work, size: int, server: str, room: Path) -> float:
    """Of the command alone, in a project and a database of its own."""
    folder = room / os.urandom(4).hex()
    (folder / "profiles").mkdir(parents=True)
    work.write(folder, size)
    with database(work.engine, server) as url:
        name = "cache" if work.engine == "redis" else "main"
        text = f'role = "dev"\n[connections.{name}]\ntype = "{work.engine}"\nurl = "{url}"\n'
        (folder / "profiles" / "grow.toml").write_text(text)
        for command in work.before:
            katax(folder, command, size)
        return katax(folder, work.command, size)


def least_of(work: Work, size: int, server: str, room: Path) -> float:
    """The least of several runs: what else the machine does only adds."""
    return min(seconds_of(work, size, server, room) for _ in range(TRIES))


def katax(folder: Path, command: tuple[str, ...], size: int) -> float:
    words = [sys.executable, "-m", "katax_cli", *(word.replace("{size}", str(size)) for word in command)]
    started = perf_counter()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"katax {' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
    return perf_counter() - started


@contextmanager
def database(engine: str, server: str) -> Iterator[str]:
    """The URL of an empty one, dropped afterwards."""
    if engine == "sqlite":
        yield "sqlite:///grown.db"
        return
    if engine == "redis":
        yield server
        return
    name = f"grow_{os.urandom(4).hex()}"
    execute = psql if engine == "postgresql" else mysql
    execute(server, f"CREATE DATABASE {name}")
    try:
        yield server.rpartition("/")[0] + f"/{name}"
    finally:
        execute(server, f"DROP DATABASE {name}")


def psql(server: str, sql: str) -> None:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.encode())


def mysql(server: str, sql: str) -> None:
    from urllib.parse import urlsplit

    import pymysql

    parts = urlsplit(server)
    with pymysql.connect(
        host=parts.hostname, port=parts.port or 3306, user=parts.username, password=parts.password or ""
    ) as connection:
        connection.cursor().execute(sql)


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """The slope of the straight line through the logarithms."""
    xs, ys = [log(size) for size in sizes], [log(second) for second in seconds]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    rise = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return rise / sum((x - x_mean) ** 2 for x in xs)


def measure(work: Work, server: str, room: Path) -> None:
    start = least_of(work, 1, server, room)
    sizes = [work.smallest * step for step in STEPS]
    seconds = [max(least_of(work, size, server, room) - start, 0.001) for size in sizes]
    shown = ", ".join(f"{size}: {second:.2f} s" for size, second in zip(sizes, seconds, strict=True))
    print(f"{exponent(sizes, seconds):5.2f}  {work.name} on {work.engine} ({shown})", flush=True)
    # Two growths of a tenth of a second are noise beside each other.
    growth = seconds[-1] / max(seconds[0], 0.1)
    harness.row(
        f"{work.name}, {sizes[0]} to {sizes[-1]} on {work.engine}",
        katax_seconds=seconds[-1],
        peer_name=f"{STEPS[-1]} times the smallest",
        peer_seconds=seconds[-1] / growth * STEPS[-1],
        target=ALLOWED,
    )


def main(words: list[str]) -> int:
    """All works, or those whose name holds one of the words."""
    chosen = [work for work in WORKS if not words or any(word in work.name for word in words)]
    with TemporaryDirectory() as folder:
        room = Path(folder)
        os.environ["HOME"] = str(room)
        for engine in dict.fromkeys(work.engine for work in chosen):
            if engine == "sqlite":
                measure_all(chosen, engine, "", room)
                continue
            with harness.server(engine) as server:
                measure_all(chosen, engine, server, room)
    return harness.finish()


def measure_all(chosen: list[Work], engine: str, server: str, room: Path) -> None:
    for work in chosen:
        if work.engine == engine:
            measure(work, server, room)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
