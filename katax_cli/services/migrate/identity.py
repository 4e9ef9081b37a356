"""The identity of a runner: a random id, and the one place where its process number means anything."""

from __future__ import annotations

import os
import socket
from functools import cache
from typing import NamedTuple
from uuid import uuid4


class Identity(NamedTuple):
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
        place = (self.boot_id, self.pid_namespace)
        if None in place or place != _place() or self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


def this_runner(session: str) -> Identity:
    """Another one for each lock that is taken."""
    boot_id, namespace = _place()
    return Identity(uuid4().hex, session, socket.gethostname(), boot_id, namespace, os.getpid())


@cache
def _boot_id() -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def _place() -> tuple[str | None, str | None]:
    try:
        return _boot_id(), os.readlink("/proc/self/ns/pid")
    except OSError:
        return _boot_id(), None
