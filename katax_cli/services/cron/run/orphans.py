"""Jobs that outlived their daemon: seen by another daemon of the machine, and watched until they end."""

from __future__ import annotations

import signal

from katax_cli.services.cron.identity import daemon_id, is_known_dead, is_of_this_machine, live_pid
from katax_cli.services.cron.ledger.values import Run
from katax_cli.services.cron.run.outputs import Sink, outputs_of
from katax_cli.services.cron.run.process import WatchedProcess
from katax_cli.services.processes.tree import HAS_PROC, carries, processes


class OrphanProcess(WatchedProcess):
    """A process that is no child of this one: its end is seen, its exit status is not."""

    def __init__(self, identity: str, mark: str, sink: Sink) -> None:
        pid = int(identity.split(":")[-2])
        super().__init__(pid, mark, outputs_of(pid), sink)
        self._identity = identity
        self._left = False
        # Its daemon may have died while the job was stopped for writing faster than it was read.
        self._tree.signal(signal.SIGCONT)

    def leave(self) -> None:
        """Stops watching from another thread; the process goes on."""
        self._left = True
        self.wake()

    @property
    def _ended(self) -> bool:
        return self._left or is_known_dead(self._identity)

    def _exit_status(self) -> int | None:
        return None


def identity_of_orphan(run: Run) -> str | None:
    """The process of a run whose daemon is gone, if it lives on this machine."""
    if run.process is not None:
        return run.process if live_pid(run.process) is not None else None
    if not HAS_PROC or not is_of_this_machine(run.daemon):
        return None
    # The daemon died before it could write which process it had started.
    mark = mark_of(run).encode()
    leader = next(
        (seen.pid for seen in processes() if seen.pid == seen.session and carries(seen.pid, mark)), None
    )
    return None if leader is None else daemon_id(leader)


def mark_of(run: Run) -> str:
    """The variable that marks the environment of every process of a run."""
    return f"KATAX_RUN_ID={run.run_id}"
