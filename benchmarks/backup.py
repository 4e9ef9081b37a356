"""Backups and restores beside the server's own tools in the same run: `pg_dump -Fd -j` (zstd where it was built with
it, else gzip) and `pg_restore -j`; `mariadb-dump | zstd` and `zstd -dc | mariadb`.

What katax adds is proof: every byte digested, every row counted, before and after. `ROWS=10000000` for the size that
the documentation names; peak memory of katax is printed beside.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Peer:
    """The tools of a server: into a file or folder, and from there into another, empty database; most of their time
    that katax may take."""

    dump: Callable[[Server, str, Path], None]
    restore: Callable[[Server, str, Path], None]
    dump_target: float
    restore_target: float


def main() -> int:
    fleet = Fleet()
    try:
        measured(fleet.shared("postgresql"), POSTGRESQL, Peer(pg_dump, pg_restore, 1 / 0.95, 1 / 0.95))
        measured(fleet.shared("mysql"), MYSQL, Peer(mariadb_dump, mariadb, 1 / 0.9, 1 / 0.9))
    finally:
        fleet.close()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak memory of this process: {used} MB")
    return finish()


def measured(server: Server, make: tuple[str, ...], peer: Peer) -> None:
    tools = None if server.tools is None else str(server.tools)
    with tempfile.TemporaryDirectory() as folder, fresh_database(server) as url, Katax("local") as program:
        # The overloads want the engine's name to be known.
        make_database: Any = program.database
        database = make_database("main", type=server.engine, connection=url)
        for sql in make:
            database.execute(sql, timeout=3600)
        backups = Backup(database, Path(folder, "katax"), tools=tools)
        peers = Path(folder, "peer")

        def back_up() -> None:
            made = backups.create(jobs=JOBS)
            assert sum(made.manifest.rows.values()) == ROWS
            shutil.rmtree(made.path)

        def dump() -> None:
            peer.dump(server, url, peers)
            remove(peers)

        work = f"{server.engine}, {ROWS:,} rows"
        compare(
            f"backup: {work}",
            katax=back_up,
            peers={peer.dump.__name__: dump},
            target=peer.dump_target,
            runs=RUNS,
            warm_up=1,
        )
        made = backups.create(jobs=JOBS)
        peer.dump(server, url, peers)
        print(f"{made.manifest.size_bytes:,} bytes by katax, {size_of(peers):,} by {peer.dump.__name__}")
        target = f"{url.rpartition('/')[2].partition('?')[0]}_restored"

        def restore() -> None:
            assert backups.restore(made.manifest.name, into=target, jobs=JOBS).rows == ROWS
            database.execute(f"DROP DATABASE {target}", timeout=3600)

        def restore_by_peer() -> None:
            database.execute(f"CREATE DATABASE {target}", timeout=3600)
            peer.restore(server, target, peers)
            database.execute(f"DROP DATABASE {target}", timeout=3600)

        compare(
            f"restore: {work}",
            katax=restore,
            peers={peer.restore.__name__: restore_by_peer},
            target=peer.restore_target,
            runs=RUNS,
            warm_up=0,
        )


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))


def tool(server: Server, name: str) -> str:
    return str(server.tools / name) if server.tools else name


def pg_dump(server: Server, url: str, target: Path) -> None:
    program = tool(server, "pg_dump")
    compression = ["--compress=zstd"] if _knows_zstd(program) else ["--compress=1"]
    words = [program, "-d", url, "-Fd", f"-j{JOBS}", *compression, "-f", str(target)]
    subprocess.run(words, check=True)


def pg_restore(server: Server, target: str, dump: Path) -> None:
    words = [tool(server, "pg_restore"), "-h", server.host, "-p", str(server.port), "-U", server.user]
    environment = {**os.environ, "PGPASSWORD": server.password}
    subprocess.run([*words, f"-j{JOBS}", "-d", target, str(dump)], check=True, env=environment)


def _knows_zstd(program: str) -> bool:
    words = [program, "--compress=zstd", "-d", "host=/nowhere"]
    said = subprocess.run(words, capture_output=True, check=False, text=True).stderr
    return "/nowhere" in said


def mariadb_dump(server: Server, url: str, target: Path) -> None:
    words = [*_login(server, "mariadb-dump"), "--single-transaction", "--quick", "--routines", "--events"]
    words += ["--triggers", "--hex-blob", url.rpartition("/")[2]]
    with target.open("wb") as file:
        dump = subprocess.Popen(words, stdout=subprocess.PIPE)
        subprocess.run(["zstd", "-q", "-3", "-c"], stdin=dump.stdout, stdout=file, check=True)
        assert dump.wait() == 0


def mariadb(server: Server, target: str, dump: Path) -> None:
    reader = subprocess.Popen(["zstd", "-q", "-dc", str(dump)], stdout=subprocess.PIPE)
    subprocess.run([*_login(server, "mariadb"), target], stdin=reader.stdout, check=True)
    assert reader.wait() == 0


def _login(server: Server, name: str) -> list[str]:
    words = [tool(server, name), "--no-defaults", "-h", server.host, "-P", str(server.port)]
    return [*words, f"-u{server.user}", f"-p{server.password}"]


if __name__ == "__main__":
    sys.exit(main())
