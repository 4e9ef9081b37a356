"""Who a daemon is, and whether another one of this machine still lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def host_name() -> str:
    return socket.gethostname()[:200]


def daemon_id(pid: int | None = None) -> str:
    """`host:boot:namespace:pid:start`; no other process ever has the same one."""
    pid = os.getpid() if pid is None else pid
    return ":".join((*_machine(), str(pid), _started(pid) or "0"))


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
    """When the process started; None when there is none."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) > 19:
        return fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "0"


def is_known_dead(daemon: str) -> bool:
    """True for a daemon of this very machine that has ended; of others only their lease can say."""
    *machine, pid, started = daemon.split(":")
    if tuple(machine) != _machine() or not pid.isdigit():
        return False
    return _started(int(pid)) != started
