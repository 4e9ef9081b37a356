"""Rows out of and into servers beside `\\copy`, a server cursor with csv.writer, and mariadb-import.

All are whole processes, as an operator runs them; the targets are ratios of time, the inverse of throughput.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pymysql
from harness import compare, finish, server

ROWS = int(os.environ.get("ROWS", "1000000"))
RUNS = 3
TABLE = "(id bigint, name text, ts timestamptz, amount numeric)"
MYSQL_TABLE = "(id bigint, name text, ts timestamp(6), amount decimal(20,2))"
FILL = """insert into rows_out select g, 'name ' || g, now() + g * interval '1s', (g * 1.01)::numeric
    from generate_series(1, {rows}) g"""
CURSOR = """
import csv, sys, psycopg
with psycopg.connect(sys.argv[1]) as connection, connection.cursor("rows") as cursor, open(sys.argv[2], "w") as file:
    cursor.itersize = 10_000
    cursor.execute("select * from rows_out")
    writer = csv.writer(file)
    writer.writerow([column.name for column in cursor.description])
    writer.writerows(cursor)
"""
PROFILE = """role = "dev"
[connections.main]
type = "postgresql"
url = "{postgresql}"
[connections.my]
type = "mysql"
url = "{mysql}"
"""

Peers = Mapping[str, Callable[[], None] | None]


def main() -> int:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        urls = {name: stack.enter_context(server(name)) for name in ("postgresql", "mysql")}
        (folder / "profiles").mkdir()
        (folder / "profiles" / "bench.toml").write_text(PROFILE.format(**urls))
        _postgresql(folder, urls["postgresql"])
        _mysql(folder, urls["mysql"])
    return finish()


def _postgresql(folder: Path, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"create table rows_out {TABLE}")
        connection.execute(f"create table rows_in {TABLE}")
        connection.execute(FILL.format(rows=ROWS))
        psql = _tool("psql")

        def emptied(work: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                connection.execute("truncate rows_in")
                work()

            return run

        copy_out = _program(folder, psql, url, "-qc", "\\copy rows_out to peer.csv csv header")
        copy_in = _program(folder, psql, url, "-qc", "\\copy rows_in from out.csv csv header")
        cursor = _program(folder, sys.executable, "-c", CURSOR, url, "cursor.csv")
        export = _katax(folder, "db", "export", "rows_out", "-o", "out.csv")
        query = _katax(folder, "db", "query", "select * from rows_out", "-f", "csv", "-o", "query.csv")
        load = _katax(folder, "db", "import", "out.csv", "rows_in", "--again")
        compare(
            f"export {ROWS:,} rows, PostgreSQL",
            katax=export,
            peers={"\\copy to": copy_out if psql else None},
            target=1.11,
            runs=RUNS,
        )
        compare(
            f"query -f csv of {ROWS:,} rows",
            katax=query,
            peers={"server cursor, csv": cursor},
            target=0.5,
            runs=RUNS,
            warm_up=0,
        )
        peers: Peers = {"\\copy from": emptied(copy_in) if psql else None}
        compare(f"import {ROWS:,} rows, PostgreSQL", katax=emptied(load), peers=peers, target=1.05, runs=RUNS)


def _mysql(folder: Path, url: str) -> None:
    at = urlsplit(url)
    login: dict[str, Any] = {
        "host": at.hostname,
        "port": at.port,
        "user": at.username,
        "password": at.password,
    }
    with pymysql.connect(**login, database=at.path.strip("/"), autocommit=True) as connection:
        cursor = connection.cursor()
        cursor.execute(f"create table rows_in {MYSQL_TABLE}")
        tool = _tool("mariadb-import")
        # Its table is named after the file, and it knows no offsets.
        text = (folder / "out.csv").read_text().replace("+00,", ",")
        (folder / "rows_in.csv").write_text(text)
        options = [f"--{name}={value}" for name, value in login.items()]
        words = [
            *options,
            "--local",
            "--ignore-lines=1",
            "--fields-terminated-by=,",
            at.path.strip("/"),
            "rows_in.csv",
        ]
        peer = _program(folder, tool, "--no-defaults", *words)
        load = _katax(folder, "db", "import", "out.csv", "rows_in", "-c", "my", "--again")

        def emptied(work: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                cursor.execute("truncate rows_in")
                work()

            return run

        peers: Peers = {"mariadb-import --local": emptied(peer) if tool else None}
        compare(
            f"import {ROWS:,} rows, MariaDB",
            katax=emptied(load),
            peers=peers,
            target=2.0,
            runs=RUNS,
            warm_up=0,
        )


def _tool(name: str) -> str:
    """The path of a server's own client, from PATH or the packages of the tests; empty without one."""
    packages = Path(os.environ.get("KATAX_TEST_CACHE", Path(__file__).parents[1] / ".test-servers"))
    places = [
        shutil.which(name),
        *packages.glob(f"**/programs/{name}"),
        *Path("/usr/lib/postgresql").glob(f"*/bin/{name}"),
    ]
    return next((str(place) for place in places if place), "")


def _katax(folder: Path, *words: str) -> Callable[[], None]:
    return _program(folder, sys.executable, "-m", "katax_cli", "-q", "-p", "bench", *words)


def _program(folder: Path, *words: str) -> Callable[[], None]:
    def run() -> None:
        subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    return run


if __name__ == "__main__":
    sys.exit(main())
