"""Accounting that survives an outage of the state database.

Nothing starts without its claim: others may have it, and a daemon that starts later would not know of it. What is
due is claimed again until the database answers. What became of runs that were claimed is written when it is back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from katax_cli.errors import KataxError
from katax_cli.services.cron.ledger.store import Runs
from katax_cli.services.cron.ledger.values import Decide, Remaining, Run, unless_accounted

_log = logging.getLogger("katax.cron")


class StoredRunLedger:
    """Writes what the daemon decides and what becomes of it."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._late: dict[str, Run] = {}
        self._lock = threading.Lock()
        self._down = False

    @property
    def waiting(self) -> int:
        """Rows that are still to be written."""
        with self._lock:
            return len(self._late)

    @property
    def late(self) -> set[str]:
        """The ids of those rows."""
        with self._lock:
            return set(self._late)

    def claim(
        self,
        planned: Sequence[Run],
        decide: Decide,
        running: Sequence[Run],
        remaining: Remaining = unless_accounted,
    ) -> list[Run]:
        """Those of `planned` that are ours to run or to account for. Raises KataxError when that is unknown."""
        try:
            won = self._runs.claim(planned, decide, remaining)
        except KataxError as error:
            self.failed(error)
            raise
        self._worked()
        return won

    def record(self, run: Run) -> None:
        """Writes a run that needs no claim, and what becomes of it, as soon as that is possible."""
        with self._lock:
            self._late[run.run_id] = run

    def others(self, jobs: Sequence[str]) -> list[Run]:
        """The active runs of these jobs on all daemons; empty when the database cannot be asked."""
        try:
            return self._runs.active(jobs)
        except KataxError as error:
            self.failed(error)
            return []

    def ask_to_stop(self, run_ids: Sequence[str], reason: str) -> None:
        """Requests their end from the daemons that run them."""
        try:
            self._runs.ask_to_stop(run_ids, reason)
        except KataxError as error:
            self.failed(error)

    def update(self, run: Run) -> None:
        """Writes what has become of a run; later, when it cannot be written now."""
        with self._lock:
            waits = run.run_id in self._late
            if waits:
                self._late[run.run_id] = run
        if waits:
            return
        try:
            self._runs.update(run)
        except KataxError as error:
            with self._lock:
                self._late[run.run_id] = run
            self.failed(error)

    def note_processes(self, runs: Sequence[Run]) -> None:
        """Leaves word of their processes; a run that is not written yet, is written with it."""
        late = self.late
        try:
            self._runs.note_processes([run for run in runs if run.run_id not in late])
        except KataxError as error:
            self.failed(error)

    def flush(self) -> None:
        """Writes what could not be written before; stops at the first failure."""
        with self._lock:
            late = list(self._late.values())
        for run in late:
            try:
                self._runs.record([run])
                self._runs.update(run)
            except KataxError as error:
                self.failed(error)
                return
            with self._lock:
                if self._late.get(run.run_id) == run:
                    del self._late[run.run_id]
        self._worked()

    def failed(self, error: KataxError) -> None:
        """Logs once that the database cannot be used, and what follows."""
        if not self._down:
            _log.error("the state database cannot be used: %s; nothing starts until it can", error)
        self._down = True

    def _worked(self) -> None:
        if self._down:
            _log.warning("the state database works again")
        self._down = False
