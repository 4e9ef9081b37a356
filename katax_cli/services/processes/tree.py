"""The processes that belong to a run, also those that left its group, and how to end them all.

On Linux `/proc` is walked: a process belongs to a run when it is in its session or group, descends from one that
does, or carries the run's id in the environment it was started with. A process that cleared its environment,
left the session and lost its parent before the first signal cannot be told apart. Elsewhere only the process
group is reached.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from katax_cli.core.clock import SYSTEM
from katax_cli.services.processes.identity import stat_fields

_PR_SET_CHILD_SUBREAPER = 36
HAS_PROC = sys.platform == "linux" and os.path.exists("/proc/self/stat")


class SeenProcess(NamedTuple):
    """A process at one moment; pid and start time together are never used again."""

    pid: int
    started: int
    parent: int
    group: int
    session: int
    state: str


def become_subreaper(*, wanted: bool = True) -> bool:
    """Makes orphans of jobs children of this process, so that they can be seen and reaped (Linux)."""
    if not HAS_PROC:
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) == 0)


@contextlib.contextmanager
def adopting() -> Iterator[Callable[[SeenProcess], bool]]:
    """Inside the block orphans become children of this process; yields whether a process is one of them.

    Children that this process starts in its own session are not.
    """
    before = {(seen.pid, seen.started) for seen in processes()} if HAS_PROC else set()

    def is_adopted(seen: SeenProcess) -> bool:
        is_new = (seen.pid, seen.started) not in before
        return is_new and seen.parent == os.getpid() and seen.session != os.getsid(0)

    become_subreaper()
    try:
        yield is_adopted
    finally:
        become_subreaper(wanted=False)
        for seen in filter(is_adopted, list(processes()) if HAS_PROC else ()):
            if seen.state == "Z":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(seen.pid, os.WNOHANG)


def processes() -> Iterator[SeenProcess]:
    """Every process of this machine."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (seen := _seen(int(name))) is not None:
            yield seen


def _seen(pid: int) -> SeenProcess | None:
    fields = stat_fields(pid)
    if not fields:
        return None
    return SeenProcess(pid, int(fields[19]), int(fields[1]), int(fields[2]), int(fields[3]), fields[0])


def carries(pid: int, mark: bytes) -> bool:
    """True when the process was started with `mark`, `NAME=value`, in its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


def is_pending(pid: int, number: signal.Signals) -> bool:
    """True while a signal was sent to a process and has not reached it yet (Linux)."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            masks = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd:", "ShdPnd:"))]
    except OSError:
        return False
    return any(mask >> (number - 1) & 1 for mask in masks)


class Tree:
    """The processes of one run: the leader of a session of its own, and `mark`, `NAME=value` of its environment.

    `is_adopted` says which processes without a parent are its own.
    """

    def __init__(
        self, leader: int, mark: str, *, is_adopted: Callable[[SeenProcess], bool] = lambda _: False
    ) -> None:
        self.leader = leader
        self._mark = mark.encode()
        self._is_adopted = is_adopted
        self._known: set[tuple[int, int]] = set()

    def members(self) -> list[SeenProcess]:
        """Those that live now; zombies are dead."""
        everything = [seen for seen in processes() if seen.state not in "ZX" and seen.pid != os.getpid()]
        inside = {seen.pid: seen for seen in everything if self._is_inside(seen)}
        grew = True
        while grew:
            more = [seen for seen in everything if seen.parent in inside and seen.pid not in inside]
            inside.update((seen.pid, seen) for seen in more)
            grew = bool(more)
        self._known.update((seen.pid, seen.started) for seen in inside.values())
        return list(inside.values())

    def _is_inside(self, seen: SeenProcess) -> bool:
        ids = (seen.pid, seen.group, seen.session)
        if self.leader in ids or (seen.pid, seen.started) in self._known or self._is_adopted(seen):
            return True
        return carries(seen.pid, self._mark)

    def signal(self, number: signal.Signals) -> bool:
        """Sends a signal to all of them; True when there was one."""
        if not HAS_PROC:
            return to_group(self.leader, number)
        members = self.members()
        for seen in members:
            with contextlib.suppress(OSError):
                os.kill(seen.pid, number)
        return bool(members)

    def kill(self) -> bool:
        """Kills all of them; a child that was forked meanwhile is found in the next round. True when none is left.

        On a busy machine a killed process takes its time to end: rounds come at once, then with pauses, 5 s of them.
        """
        for pause in (*[0.0] * 50, *[0.05] * 100 * HAS_PROC):
            if not self.signal(signal.SIGKILL):
                return True
            SYSTEM.sleep(pause)
        return not HAS_PROC

    @property
    def alive(self) -> bool:
        return bool(self.members()) if HAS_PROC else to_group(self.leader, None)


def to_group(leader: int, number: signal.Signals | None) -> bool:
    """Sends a signal to a process group, or none to see whether it exists; True when it does."""
    try:
        os.killpg(leader, number or 0)
    except OSError:
        return False
    return True


class Reaper:
    """Reaps the orphans that became children of this process, and no other children.

    A child that a thread waits for may be a zombie for a moment, so only a zombie of two rounds is reaped.
    """

    def __init__(self) -> None:
        self._suspects: set[tuple[int, int]] = set()

    def reap(self, ours: Iterable[int]) -> int:
        """One round; `ours` are the children that a thread waits for. Returns the number of those reaped."""
        if not HAS_PROC or not _has_zombie():
            return 0
        mine = os.getpid()
        waited_for = set(ours)
        zombies = {
            (seen.pid, seen.started)
            for seen in processes()
            if seen.state == "Z" and seen.parent == mine and seen.pid not in waited_for
        }
        taken = [pid for pid, _started in zombies & self._suspects if _reaped(pid)]
        self._suspects = zombies
        return len(taken)


def _has_zombie() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
