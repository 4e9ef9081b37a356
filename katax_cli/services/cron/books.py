"""Accounting that survives an outage of the state database.

Alone on a local file, a daemon goes on and writes later. With others on a shared server it cannot know what they
do: it skips and says so, and the rows are written when the database is back, unless somebody ran them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from katax_cli.errors import KataxError
from katax_cli.services.cron.store import Runs
from katax_cli.services.cron.values import Decide, Run

_log = logging.getLogger("katax.cron")
UNAVAILABLE = "the state database was not available"


class Books:
    """Writes what the daemon decides and what becomes of it."""

    def __init__(self, runs: Runs, *, shared: bool, known: bool = True) -> None:
        self._runs = runs
        self._shared = shared
        self._known = known
        self._late: dict[str, Run] = {}
        self._lock = threading.Lock()
        self._down = False

    @property
    def known(self) -> bool:
        """False until it is known up to where jobs are accounted for: nothing is written before, as if it were away."""
        return self._known

    def open(self) -> None:
        """Says that it is known."""
        self._known = True

    @property
    def available(self) -> bool:
        """False since the last call failed, until one succeeds."""
        return not self._down

    @property
    def waiting(self) -> int:
        """Rows that are still to be written."""
        with self._lock:
            return len(self._late)

    def claim(self, planned: Sequence[Run], decide: Decide, running: Sequence[Run]) -> list[Run]:
        """Those of `planned` that are ours to run or to account for; `running` is what runs in this process."""
        if not self._known:
            return self._without(planned, decide, running)
        try:
            won = self._runs.claim(planned, decide)
        except KataxError as error:
            self.failed(error)
            return self._without(planned, decide, running)
        self._worked()
        return won

    def _without(self, planned: Sequence[Run], decide: Decide, running: Sequence[Run]) -> list[Run]:
        decided: list[Run] = []
        for run in planned:
            others = [
                each for each in (*running, *decided) if each.job == run.job and each.state == "running"
            ]
            if self._shared and run.state == "running":
                decided.append(run.skipped(UNAVAILABLE))
            else:
                decided.append(decide(run, others) if run.state == "running" else run)
        with self._lock:
            self._late.update((run.run_id, run) for run in decided)
        return decided

    def others(self, jobs: Sequence[str]) -> list[Run]:
        """What runs of these jobs, anywhere; nothing when the database cannot say."""
        try:
            return self._runs.active(jobs)
        except KataxError as error:
            self.failed(error)
            return []

    def ask_to_stop(self, run_ids: Sequence[str], reason: str) -> None:
        """Leaves word for those who run them."""
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

    def flush(self) -> None:
        """Writes what could not be written before; stops at the first failure."""
        if not self._known:
            return
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
        """Says once that the database cannot be used, and what follows."""
        if not self._down:
            follow = "what is due is skipped" if self._shared else "jobs run, and rows are written later"
            _log.error("the state database cannot be used: %s; until then %s", error, follow)
        self._down = True

    def _worked(self) -> None:
        if self._down:
            _log.warning("the state database works again")
        self._down = False
