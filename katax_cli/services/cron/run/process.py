"""One run as a process tree: started in a session of its own, its output streamed and capped, ended with force.

Output goes to files without a name, which are read as they grow: a job that outlives its daemon can go on writing.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from katax_cli.core.clock import SYSTEM
from katax_cli.services.calls.watchdog import watchdog
from katax_cli.services.cron.run.outputs import JobOutput, Sink, new_outputs, read_all
from katax_cli.services.processes.tree import Tree, to_group

HEAD_BYTES = TAIL_BYTES = 16 * 1024
_TICK = 0.2
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two reads of the output; the pauses grow while there is none."""
_FLOOD_PAUSE = 0.001
"""Seconds for which a job may write after it was stopped for writing faster than its output is read."""
_SLOW_SINK = 0.05
"""Seconds after which the receiver of output counts as slow: the job does not write meanwhile."""

_starting = threading.Lock()
_children: set[int] = set()


def children() -> set[int]:
    """The child processes that a thread of this process waits for."""
    with _starting:
        return set(_children)


class Captured:
    """The beginning and the end of an output, however long it is."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self.size = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        room = HEAD_BYTES - len(self._head)
        self._head += data[: max(0, room)]
        self._tail += data[max(0, room) :]
        if len(self._tail) > TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    @property
    def head(self) -> str:
        return self._head.decode(errors="replace").replace("\0", "\ufffd")

    @property
    def tail(self) -> str | None:
        """The last bytes; None when the head is all there is."""
        return self._tail.decode(errors="replace").replace("\0", "\ufffd") if self._tail else None


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a run: its exit status (128 + signal when one ended it), and why it was stopped, if it was.

    The status of what is no child of this process is not known: None.
    """

    exit_status: int | None
    stopped: str | None = None

    @property
    def succeeded(self) -> bool:
        """A job that was stopped has not done its work, whatever its exit status says."""
        return self.exit_status == 0 and self.stopped is None


@dataclass(frozen=True, slots=True)
class Account:
    """The user that a job runs as, and its groups."""

    user: int
    group: int
    groups: tuple[int, ...]


class _Brake:
    """Stops the processes of a run inside a `with` block once it is pulled, and lets them go on afterwards."""

    def __init__(self, tree: Tree) -> None:
        self.used = False
        self._tree = tree
        self._wide = False

    def pull(self) -> None:
        """Stops the group, which is quick; when pulled again, also what left it."""
        if self.used:
            self.pull_wide()
        else:
            self.used = True
            to_group(self._tree.leader, signal.SIGSTOP)

    def pull_wide(self) -> None:
        """Stops all of the tree, from any thread."""
        self.used = self._wide = True
        self._tree.signal(signal.SIGSTOP)

    def __enter__(self) -> None:
        self.used = self._wide = False

    def __exit__(self, *_: object) -> None:
        if self._wide:
            self._tree.signal(signal.SIGCONT)
        if self.used:
            to_group(self._tree.leader, signal.SIGCONT)


class WatchedProcess(ABC):
    """A process whose output is read and which is stopped with its tree; how its end is seen, subclasses say."""

    def __init__(self, pid: int, mark: str, outputs: Sequence[JobOutput], sink: Sink) -> None:
        self.pid = pid
        self._sink = sink
        self._outputs = outputs
        self._lock = threading.Lock()
        self._stop: str | None = None
        self._force = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._tree = Tree(pid, mark)
        self._brake = _Brake(self._tree)
        self._pause = _FIRST_PAUSE

    @property
    @abstractmethod
    def _ended(self) -> bool: ...

    @abstractmethod
    def _exit_status(self) -> int | None: ...

    def stop(self, reason: str, *, force: bool = False) -> None:
        """Asks for its end from another thread: TERM and then KILL, or KILL at once. Returns immediately."""
        with self._lock:
            self._stop = self._stop or reason
            self._force = self._force or force
        self.wake()

    def wake(self) -> None:
        """Wakes the watching thread."""
        with self._lock:
            if self._wake_write >= 0:
                with contextlib.suppress(BlockingIOError):
                    os.write(self._wake_write, b".")

    def run(self, *, timeout: float | None, kill_after: float, elapsed: float = 0.0) -> Ended:
        """Reads until it ended. After `timeout` seconds: TERM, and KILL of all that is left `kill_after` later.

        `elapsed` of the seconds are over already.
        """
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake_read, selectors.EVENT_READ)
                reason = self._watch(selector, timeout, elapsed, kill_after)
            status = self._exit_status()
            read_all(self._outputs, self._sink)
        finally:
            self._close()
        return Ended(status, reason)

    def _watch(
        self, selector: selectors.BaseSelector, timeout: float | None, elapsed: float, kill_after: float
    ) -> str | None:
        """Until the process has ended, and when it was stopped, all of its tree; returns why it was stopped."""
        end = None if timeout is None else SYSTEM.monotonic() + timeout - elapsed
        with _pidfd(self.pid, selector):
            while not self._ended and self._stop is None:
                left = None if end is None else end - SYSTEM.monotonic()
                if left is not None and left <= 0:
                    self._stop = f"timed out after {timeout:g} s"
                    break
                self._read(selector, left)
            if not self._ended:
                self._end(selector, kill_after)
                return self._stop
        return None

    def _end(self, selector: selectors.BaseSelector, kill_after: float) -> None:
        if not self._force:
            self._tree.signal(signal.SIGTERM)
            end = SYSTEM.monotonic() + kill_after
            while not self._force and SYSTEM.monotonic() < end and self._lives():
                self._read(selector, min(_TICK, max(0.0, end - SYSTEM.monotonic())))
        self._tree.kill()

    def _lives(self) -> bool:
        return not self._ended or self._tree.alive

    def _read(self, selector: selectors.BaseSelector, seconds: float | None) -> None:
        """Hands on what is there, and waits for more, for the end or for a word, at most `seconds`."""
        # A job that writes faster than it is read is stopped meanwhile, as one that writes into a full pipe.
        with self._brake:
            read = read_all(self._outputs, self._hand_on, self._brake.pull)
        self._pause = _FIRST_PAUSE if read else min(2 * self._pause, _LONGEST_PAUSE)
        pause = _FLOOD_PAUSE if self._brake.used else self._pause
        for key, _ in selector.select(pause if seconds is None else min(pause, seconds)):
            if key.fileobj == self._wake_read:
                os.read(self._wake_read, 64)

    def _hand_on(self, name: str, data: bytes) -> None:
        with watchdog.limit(_SLOW_SINK, self._brake.pull_wide):
            self._sink(name, data)

    def _close(self) -> None:
        # What the run left behind may go on writing: the keeper bounds it.
        for output in self._outputs:
            output.close()
        with self._lock:
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_write = -1


class JobProcess(WatchedProcess):
    """A started process, as `account` when one is given. Raises OSError when it cannot be started."""

    def __init__(
        self,
        words: str | Sequence[str],
        *,
        folder: str,
        environ: Mapping[str, str],
        mark: str,
        sink: Sink,
        account: Account | None = None,
    ) -> None:
        outputs = new_outputs("stdout", "stderr")
        try:
            self._popen = self._start(words, folder, environ, outputs, account)
        except BaseException:
            for output in outputs:
                output.close()
            raise
        super().__init__(self._popen.pid, mark, outputs, sink)

    def _start(
        self,
        words: str | Sequence[str],
        folder: str,
        environ: Mapping[str, str],
        outputs: Sequence[JobOutput],
        account: Account | None,
    ) -> subprocess.Popen[bytes]:
        with _starting:
            started = subprocess.Popen(
                words,
                shell=isinstance(words, str),
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=outputs[0].fd,
                stderr=outputs[1].fd,
                start_new_session=True,
                user=account.user if account else None,
                group=account.group if account else None,
                extra_groups=account.groups if account else None,
            )
            _children.add(started.pid)
        return started

    @property
    def _ended(self) -> bool:
        """True when it has; it stays a zombie, so that no other process gets its number while its tree is killed."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self._popen.returncode is not None or os.waitid(os.P_PID, self.pid, options) is not None

    def _exit_status(self) -> int:
        status = self._popen.wait()
        return status if status >= 0 else 128 - status

    def _close(self) -> None:
        if not self._ended:
            self._tree.kill()
        self._popen.wait()
        with _starting:
            _children.discard(self._popen.pid)
        super()._close()


_HAS_PIDFD = hasattr(os, "pidfd_open")


@contextlib.contextmanager
def _pidfd(pid: int, selector: selectors.BaseSelector) -> Iterator[None]:
    """Wakes the selector when the process ends; without pidfds the caller polls."""
    try:
        fd = os.pidfd_open(pid) if _HAS_PIDFD else None
    except OSError:
        fd = None  # it has ended already
    if fd is None:
        yield
        return
    selector.register(fd, selectors.EVENT_READ)
    try:
        yield
    finally:
        selector.unregister(fd)
        os.close(fd)
