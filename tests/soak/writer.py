"""A program that writes to four servers by threads and by tasks, and notes what katax said of each write.

A line before each write, one after it; the line of a killed program is missing, which is an honest "unknown".
`python -m tests.soak.writer FOLDER NUMBER`, until it is ended.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from katax_cli import Katax
from katax_cli.aio import AsyncKatax
from katax_cli.errors import KataxError, OutcomeUnknown
from katax_cli.profiles.load import load_profile

SQL_ENGINES = ("postgresql", "mysql", "sqlite")
THREADS = 2
"""For each engine, and as many tasks."""
TIMEOUT = 3.0
CALLS_IN_A_FILE = 1_000
INSERT = "insert into soak (id, part) values (?, ?)"


class Notes:
    """What was tried and what came of it, in files that survive the program, none of which grows large."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._number = number
        self._counting = threading.Lock()
        self._count = 0
        self._file = self._opened()

    def begin(self, engine: str, kind: str) -> str:
        with self._counting:
            self._count += 1
            mark = f"{self._number}-{self._count}"
            if self._count % CALLS_IN_A_FILE == 0:
                # The one before stays open: another thread may be about to write to it.
                self._file = self._opened()
        self._write("try", engine, kind, mark)
        return mark

    def end(self, engine: str, kind: str, mark: str, said: str, seconds: float) -> None:
        self._write(said, engine, kind, mark, f"{seconds:.3f}")

    def _opened(self) -> int:
        path = self._folder / f"notes-{self._number}-{self._count}"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _write(self, *words: str) -> None:
        os.write(self._file, f"{' '.join(words)}\n".encode())


def meaning(error: KataxError | None) -> str:
    """What the caller may believe: `done`, `not`, or `unknown`."""
    if error is None:
        return "done"
    return "unknown" if isinstance(error, OutcomeUnknown) else "not"


def pair(mark: str) -> Callable[[Any], None]:
    """Two rows in one transaction."""

    def rows(transaction: Any) -> None:
        transaction.execute(INSERT, [mark, 1])
        transaction.execute(INSERT, [mark, 2])

    return rows


def awaited_pair(mark: str) -> Callable[[Any], Awaitable[None]]:
    async def rows(transaction: Any) -> None:
        await transaction.execute(INSERT, [mark, 1])
        await transaction.execute(INSERT, [mark, 2])

    return rows


class WrongReply(AssertionError):
    """A call got the reply of another one."""


def checked(reply: object, mark: str) -> None:
    if reply != mark:
        raise WrongReply(f"asked for {mark}, got {reply!r}")


def in_thread(katax: Katax, engine: str, notes: Notes) -> None:
    database: Any = katax.database(engine)
    calls: dict[str, Callable[[str], object]]
    if engine == "redis":
        calls = {"one": lambda mark: database.redis("RPUSH", f"soak:{mark}", "1", timeout=TIMEOUT)}
    else:
        calls = {
            "one": lambda mark: database.execute(INSERT, [mark, 0], timeout=TIMEOUT),
            "pair": lambda mark: database.transaction(pair(mark), timeout=TIMEOUT),
            "read": lambda mark: checked(database.scalar(echo(engine), [mark], timeout=TIMEOUT), mark),
        }
    while True:
        for kind, call in calls.items():
            mark, began = notes.begin(engine, kind), time.monotonic()
            error: KataxError | None = None
            try:
                call(mark)
            except KataxError as caught:
                error = caught
            except WrongReply:
                notes.end(engine, kind, mark, "wrong", 0.0)
                raise
            notes.end(engine, kind, mark, meaning(error), time.monotonic() - began)
            time.sleep(0.002)


async def in_task(katax: AsyncKatax, engine: str, notes: Notes) -> None:
    database: Any = katax.database(engine)
    calls: dict[str, Callable[[str], Awaitable[object]]]
    if engine == "redis":
        calls = {"one": lambda mark: database.redis("RPUSH", f"soak:{mark}", "1", timeout=TIMEOUT)}
    else:
        calls = {
            "one": lambda mark: database.execute(INSERT, [mark, 0], timeout=TIMEOUT),
            "pair": lambda mark: database.transaction(awaited_pair(mark), timeout=TIMEOUT),
            "read": lambda mark: database.scalar(echo(engine), [mark], timeout=TIMEOUT),
        }
    while True:
        for kind, call in calls.items():
            mark, began = notes.begin(engine, kind), time.monotonic()
            error: KataxError | None = None
            try:
                reply = await call(mark)
                said = "wrong" if kind == "read" and reply != mark else "done"
            except KataxError as caught:
                error = caught
                said = meaning(error)
            notes.end(engine, kind, mark, said, time.monotonic() - began)
            await asyncio.sleep(0.002)


def echo(engine: str) -> str:
    """A statement whose only value is the one that it is given."""
    return "select cast(? as char(60))" if engine == "mysql" else "select cast(? as text)"


async def tasks(folder: Path, notes: Notes) -> None:
    async with AsyncKatax(load_profile("soak", cwd=str(folder))) as katax, asyncio.TaskGroup() as group:
        for engine in (*SQL_ENGINES, "redis"):
            for _ in range(THREADS):
                group.create_task(in_task(katax, engine, notes))


def main(folder: Path, number: int) -> None:
    os.chdir(folder)
    notes = Notes(folder, number)
    katax = Katax(load_profile("soak", cwd=str(folder)))
    for engine in (*SQL_ENGINES, "redis"):
        for _ in range(THREADS):
            threading.Thread(target=in_thread, args=(katax, engine, notes), daemon=True).start()
    asyncio.run(tasks(folder, notes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
