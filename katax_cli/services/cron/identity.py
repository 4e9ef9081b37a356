"""The identity of a process, and whether another process of this machine is alive."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path


def host_name() -> str:
    return socket.gethostname()[:200]


def daemon_id(pid: int | None = None) -> str:
    """`host:boot:namespace:pid:start`; no other process ever has the same one."""
    pid = os.getpid() if pid is None else pid
    return f"{machine()}:{pid}:{_started(pid) or '0'}"


@cache
def machine() -> str:
    """The common prefix of the identities of all processes of this machine that see each other."""
    return ":".join(_machine())


def _machine() -> tuple[str, str, str]:
    """Two containers may share a host name: the boot and the namespace of process numbers tell them apart."""
    return host_name().replace(":", "-"), _read("/proc/sys/kernel/random/boot_id")[:8], _namespace()


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """The start time of the process; None when there is none, or only its exit status is left."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) > 19:
        return None if fields[0] in "ZX" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "0"


def is_of_this_machine(identity: str) -> bool:
    """True for a process that can be seen from here."""
    return identity.startswith(f"{machine()}:")


def is_known_dead(identity: str) -> bool:
    """True for a process of this very machine that has ended; of other daemons only their lease can say."""
    return is_of_this_machine(identity) and live_pid(identity) is None


def live_pid(identity: str) -> int | None:
    """The number of a process of this machine that lives; None for any other."""
    *_, pid, started = identity.split(":")
    if not is_of_this_machine(identity) or not pid.isdigit() or _started(int(pid)) != started:
        return None
    return int(pid)
