"""The identity of a process: where its number means anything, and whether it still lives."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


@cache
def boot_id() -> str | None:
    """The boot of this machine; None where a system does not say."""
    return read_proc("/proc/sys/kernel/random/boot_id")


def pid_namespace() -> str | None:
    """The namespace of process numbers, as Linux writes it: `pid:[4026531836]`; None where a system has none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def is_running(pid: int) -> bool:
    """False only when it is certain that this machine has no such process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def started(pid: int) -> str | None:
    """The start time of the process; None when there is none, or only its exit status is left."""
    fields = stat_fields(pid)
    if fields:
        return None if fields[0] in "ZX" else fields[19]
    return "0" if is_running(pid) else None


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from its state on (Linux); empty for no such process.

    The name before them may hold spaces and parentheses.
    """
    return (read_proc(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()


def read_proc(path: str) -> str | None:
    try:
        # The name of a program is in any encoding, and cut within a character.
        return Path(path).read_bytes().decode(errors="replace").strip()
    except OSError:
        return None
