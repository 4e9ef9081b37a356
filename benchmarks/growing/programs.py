"""Programs that are measured from outside: their time, and the most memory that they had."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import perf_counter, sleep

from growing.fit import Cost, Place

PATIENCE = 600.0
LOOK_EVERY = 0.02


def profile(place: Place, engine: str, more: str = "") -> None:
    """A project folder with the profile `grow`: `main`, or `cache` of Redis."""
    (place.folder / "profiles").mkdir()
    name = "cache" if engine == "redis" else "main"
    url = place.url or "sqlite:///grown.db"
    (place.folder / "profiles" / "grow.toml").write_text(
        f'role = "dev"\n[connections.{name}]\ntype = "{engine}"\nurl = "{url}"\n{more}'
    )


def katax(place: Place, *words: str) -> Cost:
    """One command to its end. Raises SystemExit when it fails."""
    return program([sys.executable, "-m", "katax_cli", *words], place)


def program(words: Sequence[str], place: Place) -> Cost:
    """One program to its end; what it prints is the note. Raises SystemExit when it fails."""
    began, before = perf_counter(), ended_seconds() + place.server_seconds()
    folder = place.folder
    with (folder / "output").open("w+") as output, (folder / "errors").open("w+") as errors:
        process = subprocess.Popen(words, cwd=folder, stdout=output, stderr=errors)
        with memory_of(process.pid) as seen:
            try:
                code = process.wait(PATIENCE)
            finally:
                process.kill()
        wall, seconds = perf_counter() - began, ended_seconds() + place.server_seconds() - before
        if code:
            errors.seek(0)
            raise SystemExit(f"{' '.join(words)[:300]} ended with {code}: {errors.read()[-1000:]}")
        output.seek(0)
        return Cost(seconds, max(seen), wall, output.read(4096))


def ended_seconds() -> float:
    """Processor time of the programs that this one ran to their end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def memory_of(pid: int) -> Iterator[list[float]]:
    """The list that holds the most megabytes so far: a child's own count includes those of whoever started it."""
    seen, ended = [0.0], Event()

    def look() -> None:
        while not ended.wait(LOOK_EVERY):
            seen.append(megabytes(pid))

    watcher = Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def megabytes(pid: int) -> float:
    """The most that a process had in memory; 0 when it has ended."""
    try:
        found = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2]
    except OSError:
        return 0.0
    return float(found.split()[0]) / 1024 if found else 0.0


def started(words: Sequence[str], folder: Path, until: str) -> tuple[subprocess.Popen[bytes], float]:
    """A program that goes on, and the seconds until its log said `until`."""
    began = perf_counter()
    log = folder / f"log-{began:.6f}"
    with log.open("wb") as file:
        process = subprocess.Popen(words, cwd=folder, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    while until not in log.read_text():
        if process.poll() is not None or perf_counter() - began > PATIENCE:
            process.kill()
            raise SystemExit(f"{' '.join(words)}: {log.read_text()[-1000:]}")
        sleep(0.005)
    return process, perf_counter() - began
