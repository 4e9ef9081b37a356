"""The identity of a daemon, as the ledger of jobs names it, and whether another one of this machine still lives."""

from __future__ import annotations

import os
import socket
from functools import cache

from katax_cli.services.processes.identity import boot_id, pid_namespace, started


def host_name() -> str:
    return socket.gethostname()[:200]


def daemon_id(pid: int | None = None) -> str:
    """`host:boot:namespace:pid:start`; no other process ever has the same one."""
    pid = os.getpid() if pid is None else pid
    return f"{machine()}:{pid}:{started(pid) or '0'}"


@cache
def machine() -> str:
    """The common prefix of the identities of all processes of this machine that see each other.

    Two containers may share a host name: the boot and the namespace of process numbers tell them apart.
    """
    namespace = (pid_namespace() or "").strip("pid:[]")
    return f"{host_name().replace(':', '-')}:{(boot_id() or '')[:8]}:{namespace}"


def is_of_this_machine(identity: str) -> bool:
    """True for a process that can be seen from here."""
    return identity.startswith(f"{machine()}:")


def is_known_dead(identity: str) -> bool:
    """True for a process of this very machine that has ended; of other daemons only their lease can say."""
    return is_of_this_machine(identity) and live_pid(identity) is None


def live_pid(identity: str) -> int | None:
    """The number of a process of this machine that lives; None for any other."""
    *_, pid, since = identity.split(":")
    if not is_of_this_machine(identity) or not pid.isdigit() or started(int(pid)) != since:
        return None
    return int(pid)
