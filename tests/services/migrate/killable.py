"""A runner in a process of its own that dies without a word before its n-th exchange with the server.

    python -m tests.services.migrate.killable URL FOLDER KILL_AT [resume|up|down]

It prints `exchanges N` when it comes to its end.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from katax_cli.services.migrate.migrator import Migrator

from .conftest import open_database


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


def run_on_mongodb(url: str, folder: str, action: str) -> None:
    from .test_documents import open_mongo

    with open_mongo(url) as database:
        getattr(Migrator(database, folder), action)()


def main(url: str, folder: str, kill_at: int, action: str) -> None:
    if url.startswith("mongodb"):
        run_on_mongodb(url, folder, action)
        return
    database = open_database(url)
    counted = Counted(database.engine.execute, kill_at)
    database.engine.execute = counted  # type: ignore[method-assign]
    migrator = Migrator(database, folder)
    getattr(migrator, action)()
    database.close()
    sys.stdout.write(f"exchanges {counted.count}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
