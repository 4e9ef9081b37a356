"""Backups beside the server's own tool in the same run: `pg_dump -Fd -j`, compressed alike, `mariadb-dump | zstd`.

What katax adds is proof: every file read to its end, digested and counted. `ROWS=10000000` for the size that the
documentation names; peak memory of katax is printed beside.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import compare, finish

from katax_cli import Backup, Katax
from tests.servers.fleet import Fleet
from tests.servers.fresh import fresh_database
from tests.servers.server import Server

ROWS = int(os.environ.get("ROWS", "1000000"))
RUNS = int(os.environ.get("RUNS", "3"))
JOBS = min(4, os.cpu_count() or 1)
POSTGRESQL = (
    "CREATE TABLE big AS SELECT g AS id, md5(g::text) AS hash, repeat(chr(65 + g % 26), 40) AS text, now() AS at"
    f" FROM generate_series(1, {ROWS // 2}) g",
    f"CREATE TABLE more AS SELECT g AS id, md5((g * 7)::text) AS hash FROM generate_series(1, {ROWS // 2}) g",
)
MYSQL = (
    f"CREATE TABLE big AS SELECT seq AS id, md5(seq) AS hash, repeat(char(65 + seq % 26), 40) AS text"
    f" FROM seq_1_to_{ROWS}",
)


def main() -> int:
    fleet = Fleet()
    try:
        for engine, make, peer, target in (
            ("postgresql", POSTGRESQL, pg_dump, 1 / 0.95),
            ("mysql", MYSQL, mariadb_dump, 1 / 0.9),
        ):
            measured(fleet.shared(engine), make, peer, target)
    finally:
        fleet.close()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak memory of this process: {used} MB")
    return finish()


def measured(
    server: Server, make: tuple[str, ...], peer: Callable[[Server, str, Path], None], target: float
) -> None:
    tools = None if server.tools is None else str(server.tools)
    with tempfile.TemporaryDirectory() as folder, fresh_database(server) as url, Katax("local") as program:
        # The overloads want the engine's name to be known.
        make_database: Any = program.database
        database = make_database("main", type=server.engine, connection=url)
        for sql in make:
            database.execute(sql, timeout=3600)
        backups = Backup(database, Path(folder, "katax"), tools=tools)

        def katax() -> None:
            made = backups.create(jobs=JOBS)
            assert sum(made.manifest.rows.values()) == ROWS
            shutil.rmtree(made.path)

        compare(
            f"backup: {server.engine}, {ROWS:,} rows",
            katax=katax,
            peers={peer.__name__: lambda: peer(server, url, Path(folder, "peer"))},
            target=target,
            runs=RUNS,
            warm_up=1,
        )


def pg_dump(server: Server, url: str, target: Path) -> None:
    program = server.tools / "pg_dump" if server.tools else Path("pg_dump")
    compression = ["--compress=zstd"] if _knows_zstd(program) else ["--compress=1"]
    words = [str(program), "-d", url, "-Fd", f"-j{JOBS}", *compression, "-f", str(target)]
    subprocess.run(words, check=True)
    shutil.rmtree(target)


def _knows_zstd(program: Path) -> bool:
    words = [str(program), "--compress=zstd", "-d", "host=/nowhere"]
    said = subprocess.run(words, capture_output=True, check=False, text=True).stderr
    return "/nowhere" in said


def mariadb_dump(server: Server, url: str, target: Path) -> None:
    program = server.tools / "mariadb-dump" if server.tools else Path("mariadb-dump")
    words = [str(program), "--no-defaults", "-h", server.host, "-P", str(server.port), f"-u{server.user}"]
    words += [
        f"-p{server.password}",
        "--single-transaction",
        "--quick",
        "--routines",
        "--events",
        "--triggers",
    ]
    words += ["--hex-blob", url.rpartition("/")[2]]
    with target.open("wb") as file:
        dump = subprocess.Popen(words, stdout=subprocess.PIPE)
        subprocess.run(["zstd", "-q", "-3", "-c"], stdin=dump.stdout, stdout=file, check=True)
        assert dump.wait() == 0
    target.unlink()


if __name__ == "__main__":
    sys.exit(main())
