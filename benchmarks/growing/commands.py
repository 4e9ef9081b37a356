"""Commands of katax whose work grows, each as a process in a folder and a database of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

from growing.fit import TRIES, Cost, Growth, Place
from growing.programs import katax, profile, program

Write = Callable[[Place, int], None]
STEPS, LARGE_STEPS = (1, 3, 8), (1, 2, 4, 8)
"""Of the smallest size: an exponent takes three points, and the table of docs/scale.md four."""
TENFOLD = (10, 1_250, 2_500, 5_000, 10_000)
THOUSANDS = (500, 1_000, 2_000, 4_000)
MILLION = (10_000, 125_000, 250_000, 500_000, 1_000_000)
MILLIONS = (10_000, 625_000, 1_250_000, 2_500_000, 5_000_000, 10_000_000)


class Work(NamedTuple):
    """One command: on which engine, from which size on, what is there before it."""

    name: str
    engine: str
    smallest: int
    write: Write
    command: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    large: tuple[int, ...] = ()
    tries: int = TRIES

    def cost(self, size: int, place: Place) -> Cost:
        """Of the command alone."""
        self.write(place, size)
        if not (place.folder / "profiles").exists():
            profile(place, self.engine)
        for command in self.before:
            katax(place, *command)
        return katax(place, *self.command)._replace(note="")

    def growth(self) -> Growth:
        sizes = tuple(self.smallest * step for step in STEPS)
        large = self.large or tuple(self.smallest * step for step in LARGE_STEPS)
        return Growth(self.name, self.engine, sizes, large, self.cost, tries=self.tries)


def rows_in_one_file(place: Place, size: int) -> None:
    lines = "".join(f"INSERT INTO grown VALUES ({n}, 'row {n}');\n" for n in range(size))
    migration(place, 1, f"CREATE TABLE grown (id int PRIMARY KEY, name varchar(50));\n{lines}")


def tables_in_one_file(place: Place, size: int) -> None:
    migration(place, 1, "".join(f"CREATE TABLE grown_{n} (id int PRIMARY KEY);\n" for n in range(size)))


def files(place: Place, size: int) -> None:
    for number in range(1, size + 1):
        migration(place, number, f"CREATE TABLE grown_{number} (id int PRIMARY KEY);\n")


def files_of_rows(place: Place, size: int) -> None:
    """Files that leave the catalogue of the server as it is."""
    migration(place, 1, "CREATE TABLE grown (id int PRIMARY KEY);\n")
    for number in range(2, size + 1):
        migration(place, number, f"INSERT INTO grown VALUES ({number});\n")


def migration(place: Place, number: int, up: str) -> None:
    room = place.folder / "migrations"
    room.mkdir(exist_ok=True)
    (room / f"{number:06}_grown.sql").write_text(f"-- UP\n{up}-- DOWN\n")


def seed_rows(place: Place, size: int) -> None:
    migration(place, 1, "CREATE TABLE grown (id int PRIMARY KEY, name varchar(50));\n")
    room = place.folder / "seeds"
    room.mkdir()
    (room / "grown.csv").write_text("id,name\n" + "".join(f"{n},row {n}\n" for n in range(size)))


def cron_jobs(place: Place, size: int) -> None:
    """None of them is due while it is measured."""
    profile(
        place,
        "sqlite",
        "".join(
            f'[cron.jobs.j{n}]\nschedule = "{n % 60} {n % 24} {n % 28 + 1} 1 *"\ncommand = "true"\n'
            for n in range(size)
        ),
    )


def keys(place: Place, size: int) -> None:
    """Some hundred bytes each; in parts, so that no script of Redis runs long."""
    import redis

    script = "for n = ARGV[1], ARGV[2] do redis.call('SET', 'grown:' .. n, 'the value of ' .. n) end return 1"
    with redis.Redis.from_url(place.url, socket_timeout=300.0) as client:
        client.flushdb()
        for first in range(0, size, 100_000):
            client.eval(script, 0, first, min(first + 100_000, size) - 1)


def table_of_rows(place: Place, size: int) -> None:
    import psycopg

    with psycopg.connect(place.url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE grown (id int PRIMARY KEY, name text, amount numeric, at timestamptz)"
        )
        connection.execute(
            b"INSERT INTO grown SELECT n, 'row ' || n, n * 1.25, now() FROM generate_series(1, %s) n",
            [size],
        )


UNHURRIED = "[health]\ndegraded_ms = 60000\nunhealthy_ms = 60000\n"
"""A busy machine is no failure of what is measured."""


def connections(place: Place, size: int) -> None:
    """All on one server, as 'main' of that many."""
    (place.folder / "profiles").mkdir()
    tables = "".join(f'[connections.c{n}]\ntype = "redis"\nurl = "{place.url}"\n' for n in range(size))
    (place.folder / "profiles" / "grow.toml").write_text(f'role = "dev"\n{UNHURRIED}{tables}')


TABLES = {
    "mysql": """
import sys, pymysql
from urllib.parse import urlsplit
parts = urlsplit(sys.argv[2])
cursor = pymysql.connect(host=parts.hostname, port=parts.port or 3306, user=parts.username,
    password=parts.password or "", database=parts.path[1:]).cursor()
""",
    "postgresql": """
import sys, psycopg
cursor = psycopg.connect(sys.argv[2], autocommit=True)
""",
    "sqlite": """
import sys, sqlite3
cursor = sqlite3.connect("grown.db", isolation_level=None)
cursor.execute("PRAGMA journal_mode = wal")
""",
}
"""The statements of "migrate up, files of one table" by the plain driver: the growth that is not katax's."""
EACH = """
for number in range(int(sys.argv[1])):
    cursor.execute(f"CREATE TABLE grown_{number} (id int PRIMARY KEY)")
"""


def plain_tables(engine: str) -> Callable[[int, Place], Cost]:
    """What the server and its driver alone take."""

    def cost(size: int, place: Place) -> Cost:
        return program([sys.executable, "-c", TABLES[engine] + EACH, str(size), place.url], place)

    return cost


UP = ("migrate", "up", "-q", "-y")
SEED = ("seed", "run")
CLEAR = ("cache", "clear", "grown:*", "-y", "-q")
STATUS = ("migrate", "status", "--all-columns")
WORKS = (
    Work("migrate up, INSERTs of one file", "mysql", 2000, rows_in_one_file, UP),
    Work("migrate up, INSERTs of one file", "postgresql", 2000, rows_in_one_file, UP),
    Work("migrate up, INSERTs of one file", "sqlite", 2000, rows_in_one_file, UP),
    Work("migrate up, tables of one file", "mysql", 100, tables_in_one_file, UP),
    Work("migrate up, files of one table", "mysql", 100, files, UP, (), THOUSANDS),
    Work("migrate up, files of one table", "postgresql", 200, files, UP, (), TENFOLD),
    Work("migrate up, files of one table", "sqlite", 100, files, UP, (), THOUSANDS),
    Work("migrate up, files of one row", "mysql", 200, files_of_rows, UP, (), TENFOLD),
    Work("migrate up, files of one row", "postgresql", 200, files_of_rows, UP, (), TENFOLD),
    Work("migrate up, nothing to do", "postgresql", 500, files_of_rows, UP, (UP,), TENFOLD),
    Work("migrate status", "postgresql", 500, files_of_rows, STATUS, (UP,), TENFOLD),
    Work("migrate down", "mysql", 100, files, ("migrate", "down", "--to", "0", "-q", "-y"), (UP,)),
    Work("seed run, rows into an empty table", "postgresql", 200_000, seed_rows, SEED, (UP,), MILLION),
    Work("seed run, rows into an empty table", "mysql", 50_000, seed_rows, SEED, (UP,)),
    Work("seed run, rows into an empty table", "sqlite", 50_000, seed_rows, SEED, (UP,)),
    Work("seed run --again, rows that are there", "postgresql", 25_000, seed_rows, (*SEED, "--again"), (UP, SEED)),
    Work(
        "db export, rows", "postgresql", 100_000, table_of_rows, ("db", "export", "grown", "-o", "rows.csv", "-q"),
        (), MILLIONS,
    ),
    Work("cron list, jobs", "sqlite", 1000, cron_jobs, ("cron", "list"), (), TENFOLD),
    Work("cron next, jobs", "sqlite", 1000, cron_jobs, ("cron", "next"), (), TENFOLD),
    Work("profile check, connections", "redis", 25, connections, ("profile", "check")),
    Work("health, connections", "redis", 25, connections, ("health",)),
    Work("db ping, one of many connections", "redis", 25, connections, ("db", "ping", "-c", "c0")),
    Work("cache scan, keys", "redis", 20_000, keys, ("cache", "scan", "grown:*"), (), MILLION),
    Work("cache clear --dry-run (a count), keys", "redis", 20_000, keys, (*CLEAR, "--dry-run"), (), MILLIONS),
    Work("cache clear, keys", "redis", 20_000, keys, CLEAR, (), MILLION),
    Work("cache export, keys", "redis", 20_000, keys, ("cache", "export", "grown:*"), (), MILLION),
)  # fmt: skip


def growths() -> list[Growth]:
    """All commands, and beside those that make tables the plain drivers."""
    return [
        *(work.growth() for work in WORKS),
        *(
            Growth("tables by the plain driver", engine, (100, 300, 800), large, plain_tables(engine))
            for engine, large in (("mysql", THOUSANDS), ("postgresql", TENFOLD), ("sqlite", THOUSANDS))
        ),
    ]
