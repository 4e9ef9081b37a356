"""The identity of a migration runner: a random id, and the one place where its process number means anything."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple
from uuid import uuid4

from katax_cli.services.processes.identity import boot_id, is_running, pid_namespace


class RunnerIdentity(NamedTuple):
    """A runner as the ledger names it; `session` is what its lock is held by.

    Process numbers mean the same within one boot of one machine and one namespace of processes only: a container's
    pid 7 is none of its neighbour's, whatever their host names. None where a system does not say.
    """

    id: str
    session: str
    host: str
    boot_id: str | None
    pid_namespace: str | None
    pid: int

    @property
    def is_gone(self) -> bool:
        """True only when it is certain that the process has ended."""
        known = (self.host, self.boot_id, self.pid_namespace)
        here = (socket.gethostname(), boot_id(), pid_namespace())
        return None not in known and known == here and not is_running(self.pid)


def this_runner(session: str) -> RunnerIdentity:
    """Another one for each lock that is taken."""
    return RunnerIdentity(uuid4().hex, session, socket.gethostname(), boot_id(), pid_namespace(), os.getpid())
