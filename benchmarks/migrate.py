"""`katax migrate up` beside dbmate and yoyo-migrations on PostgreSQL: whole processes, fresh databases, in turn.

dbmate comes from the npm package of that name, which is fetched into .venv-peers when it is not on PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import harness

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers"
FILES, MANY, RUNS = 1000, 10_000, 5
SLOW = {"yoyo-migrations"}
"""Runs once: it takes ten times as long as the others, so that a tenth of spread says as much."""
SCRIPT = """
import hashlib, os, sys
import typer, psycopg
folder = sys.argv[2]
with psycopg.connect(sys.argv[1]) as connection:
    rows = connection.execute("SELECT version, checksum FROM katax_migrations").fetchall()
for name in sorted(os.listdir(folder)):
    with open(os.path.join(folder, name), "rb") as file:
        hashlib.sha256(file.read()).hexdigest()
assert len(rows) == len(os.listdir(folder))
"""


def write_folder(folder: Path, count: int) -> Path:
    """A table for every tenth file, rows for the others; both of katax's peers read the same statements."""
    folder.mkdir()
    for number in range(1, count + 1):
        table = f"bench_{(number - 1) // 10}"
        create = f"CREATE TABLE {table} (id integer PRIMARY KEY, name text);"
        up = create if number % 10 == 1 else f"INSERT INTO {table} VALUES ({number}, 'row {number}');"
        down = f"DROP TABLE {table};" if number % 10 == 1 else f"DELETE FROM {table} WHERE id = {number};"
        (folder / f"{number:06}_bench.sql").write_text(f"-- migrate:up\n{up}\n\n-- migrate:down\n{down}\n")
    return folder


def write_yoyo(folder: Path, source: Path) -> Path:
    folder.mkdir()
    for file in source.iterdir():
        up = file.read_text().partition("-- migrate:down")[0].partition("\n")[2]
        (folder / file.name).write_text(up)
    return folder


@contextmanager
def database(server: str) -> Iterator[str]:
    """The URL of a new database, dropped afterwards."""
    import psycopg

    name = f"bench_{os.urandom(4).hex()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield server.rpartition("/")[0] + f"/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def project(folder: Path, migrations: Path, url: str) -> dict[str, str]:
    """A katax project whose profile leads to `url`; returns what to give to a process."""
    (folder / "profiles").mkdir(parents=True, exist_ok=True)
    (folder / "profiles" / "bench.toml").write_text(
        f'role = "dev"\n[connections.main]\ntype = "postgresql"\nurl = "{url}"\n'
        f'[migrate]\ndirectory = "{migrations}"\n'
    )
    return {"cwd": str(folder)}


def run(words: list[str], **more: str) -> float:
    started = perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    seconds = perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{words[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return float(seconds)


def katax(url: str, migrations: Path, room: Path) -> float:
    return run([sys.executable, "-m", "katax_cli", "migrate", "up", "-q"], **project(room, migrations, url))


def dbmate_program() -> str | None:
    """The binary itself: npm's own `dbmate` is a script that starts it."""
    if found := shutil.which("dbmate"):
        return found
    if not list(PEERS.glob("node_modules/@dbmate/*/bin/dbmate")) and shutil.which("npm"):
        with suppress(subprocess.CalledProcessError):
            words = ["npm", "install", "--no-save", "--prefix", str(PEERS), "dbmate"]
            subprocess.run(words, check=True, capture_output=True)
    return next(map(str, PEERS.glob("node_modules/@dbmate/*/bin/dbmate")), None)


def dbmate(url: str, migrations: Path) -> float:
    program = dbmate_program()
    assert program is not None
    words = [program, "--url", f"{url}?sslmode=disable", "-d", str(migrations), "--no-dump-schema", "up"]
    return run(words)


def yoyo(url: str, migrations: Path) -> float:
    target = url.replace("postgresql://", "postgresql+psycopg://")
    words = [sys.executable, "-m", "yoyo", "apply", "--batch", "--no-config-file", "--database", target]
    return run([*words, str(migrations)])


def interleaved(server: str, contenders: dict[str, Callable[[str], float]], runs: int) -> dict[str, float]:
    """Median seconds of each on databases of their own, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(runs):
        for name in harness.rotated([name for name in contenders if number == 0 or name not in SLOW], number):
            with database(server) as url:
                times[name].append(contenders[name](url))
    return {name: median(found) for name, found in times.items()}


def compare_up(server: str, room: Path) -> None:
    source = write_folder(room / "thousand", FILES)
    contenders: dict[str, Callable[[str], float]] = {"katax": lambda url: katax(url, source, room)}
    if dbmate_program() is not None:
        contenders["dbmate"] = lambda url: dbmate(url, source)
    if harness.present("yoyo"):
        other = write_yoyo(room / "yoyo", source)
        contenders["yoyo-migrations"] = lambda url: yoyo(url, other)
    times = interleaved(server, contenders, RUNS)
    for name, target in (("dbmate", 0.9), ("yoyo-migrations", 0.5)):
        harness.row(
            f"migrate up, {FILES} files",
            katax_seconds=times["katax"],
            peer_name=name,
            peer_seconds=times.get(name),
            target=target,
            note="" if name in times else "absent",
        )


def compare_nothing_to_do(server: str, room: Path) -> None:
    source = room / "thousand"
    script = room / "script.py"
    script.write_text(SCRIPT)
    with database(server) as url:
        katax(url, source, room)
        mine, theirs = [], []
        for _ in range(2 * RUNS + 1):
            mine.append(katax(url, source, room))
            theirs.append(run([sys.executable, str(script), url, str(source)]))
    harness.row(
        f"migrate up, nothing to do, {FILES} applied",
        katax_seconds=median(mine),
        peer_name="a script that selects and hashes",
        peer_seconds=median(theirs),
        target=1.0,
    )


def compare_growth(server: str, room: Path) -> None:
    many = write_folder(room / "many", MANY)
    with database(server) as url:
        seconds = katax(url, many, room)
    with database(server) as url:
        few = katax(url, room / "thousand", room)
    harness.row(
        f"migrate up, {MANY} files, for each {FILES}",
        katax_seconds=seconds * FILES / MANY,
        peer_name=f"katax, {FILES} files",
        peer_seconds=few,
        target=1.2,
    )


def main() -> int:
    with harness.server("postgresql") as server, TemporaryDirectory() as folder:
        room = Path(folder)
        os.environ["HOME"] = str(room)
        compare_up(server, room)
        compare_nothing_to_do(server, room)
        compare_growth(server, room)
    return harness.finish()


if __name__ == "__main__":
    sys.exit(main())
