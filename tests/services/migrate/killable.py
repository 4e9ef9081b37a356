"""A runner in a process of its own that dies without a word before its n-th exchange with the server.

    python -m tests.services.migrate.killable URL FOLDER KILL_AT up|down

Without words it reads such words from stdin, a line for each run, and answers each with a line: the exit
status of the process that it forked for it, negative for a signal. That spares many runs the imports.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any

from katax_cli.services.migrate.migrator import Migrator
from tests.services.connections import open_database

PATIENCE = 600.0
"""Seconds that a runner waits for others: their number and the machine's load are not what tests are about."""


class Counted:
    """An engine's `execute` that kills its own process before the n-th statement: after the one before."""

    def __init__(self, execute: Any, kill_at: int) -> None:
        self._execute = execute
        self._kill_at = kill_at
        self.count = 0

    def __call__(self, *args: Any, **more: Any) -> Any:
        self.count += 1
        if self.count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._execute(*args, **more)


def run_on_mongodb(url: str, folder: str, kill_at: int, action: str) -> None:
    from pymongo import monitoring

    from tests.services.connections import open_database

    class Counting(monitoring.CommandListener):
        """The driver tells it of every command before it is sent."""

        count = 0

        def started(self, event: monitoring.CommandStartedEvent) -> None:
            self.count += 1
            if self.count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

        def failed(self, event: monitoring.CommandFailedEvent) -> None: ...

    monitoring.register(Counting())
    with open_database(url) as database:
        getattr(Migrator(database, folder, lock_timeout=PATIENCE), action)()


def main(url: str, folder: str, kill_at: int, action: str) -> None:
    if url.startswith("mongodb"):
        run_on_mongodb(url, folder, kill_at, action)
        return
    database = open_database(url)
    counted = Counted(database.engine.execute, kill_at)
    database.engine.execute = counted
    migrator = Migrator(database, folder, lock_timeout=PATIENCE)
    getattr(migrator, action)()
    database.close()


WHAT_RUNS = (
    "services.migrate.runner",
    *(f"engines.{name}.migrate" for name in ("postgresql", "mysql", "sqlite")),
)


def serve() -> None:
    for name in WHAT_RUNS:
        import_module(f"katax_cli.{name}")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            run(line.split())
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


CROWD = """
import sys
from tests.services.migrate.killable import main
all_at_once()
main(sys.argv[1], sys.argv[2], 0, "up")
"""
"""A runner among many: a script for `crowd`."""


def run(words: list[str]) -> None:
    url, folder, kill_at, action = words
    main(url, folder, int(kill_at), action)


if __name__ == "__main__":
    run(sys.argv[1:]) if sys.argv[1:] else serve()
