"""One run as a process tree: started in a session of its own, its output streamed and capped, ended with force."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from katax_cli.core.clock import SYSTEM
from katax_cli.services.cron.tree import Tree

HEAD_BYTES = TAIL_BYTES = 16 * 1024
_CHUNK = 64 * 1024
_DRAIN_SECONDS = 0.5
"""How long output is still read when the job has ended and something else holds its end of the pipe."""
_TICK = 0.2

Sink = Callable[[str, bytes], None]
"""Gets output as it arrives: `stdout` or `stderr`, and bytes."""

_starting = threading.Lock()
_children: set[int] = set()


def children() -> set[int]:
    """The processes that somebody here waits for."""
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
    """How a run ended: its exit status (128 + signal when one ended it), and why it was stopped, if it was."""

    exit_status: int
    stopped: str | None = None


class JobProcess:
    """A started process. Raises OSError when it cannot be started."""

    def __init__(
        self,
        words: str | Sequence[str],
        *,
        folder: str,
        environ: Mapping[str, str],
        mark: str,
        sink: Sink,
    ) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._stop: str | None = None
        self._force = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._popen = self._start(words, folder, environ)
        self._tree = Tree(self._popen.pid, mark)

    def _start(
        self, words: str | Sequence[str], folder: str, environ: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with _starting:
            started = subprocess.Popen(
                words,
                shell=isinstance(words, str),
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
            _children.add(started.pid)
        return started

    @property
    def pid(self) -> int:
        return self._popen.pid

    def stop(self, reason: str, *, force: bool = False) -> None:
        """Asks for its end from another thread: TERM and then KILL, or KILL at once. Returns immediately."""
        with self._lock:
            self._stop = self._stop or reason
            self._force = self._force or force
            if self._wake_write >= 0:
                with contextlib.suppress(BlockingIOError):
                    os.write(self._wake_write, b".")

    def run(self, *, timeout: float | None, kill_after: float) -> Ended:
        """Reads until it ended. After `timeout` seconds: TERM, and KILL of all that is left `kill_after` later."""
        try:
            with selectors.DefaultSelector() as selector:
                self._register(selector)
                reason = self._watch(selector, timeout, kill_after)
                self._drain(selector)
        finally:
            self._close()
        status = self._popen.wait()
        return Ended(status if status >= 0 else 128 - status, reason)

    def _register(self, selector: selectors.BaseSelector) -> None:
        for name, stream in (("stdout", self._popen.stdout), ("stderr", self._popen.stderr)):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, name)
        selector.register(self._wake_read, selectors.EVENT_READ, None)

    def _watch(
        self, selector: selectors.BaseSelector, timeout: float | None, kill_after: float
    ) -> str | None:
        """Until the process has ended, and when it was stopped, all of its tree; returns why it was stopped."""
        end = None if timeout is None else SYSTEM.monotonic() + timeout
        with _pidfd(self._popen.pid, selector):
            while not self._ended and self._stop is None:
                left = None if end is None else end - SYSTEM.monotonic()
                if left is not None and left <= 0:
                    self._stop = f"timed out after {timeout:g} s"
                    break
                self._read(selector, _TICK if not _HAS_PIDFD else left)
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

    @property
    def _ended(self) -> bool:
        """True when it has; it stays a zombie, so that nobody else gets its number while its tree is hunted."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self._popen.returncode is not None or os.waitid(os.P_PID, self.pid, options) is not None

    def _read(self, selector: selectors.BaseSelector, seconds: float | None) -> bool:
        """Hands on what is there within `seconds`; True when something was."""
        got = False
        for key, _ in selector.select(seconds):
            if key.data is None:
                if key.fileobj == self._wake_read:
                    os.read(self._wake_read, 64)
                continue
            data = _some(key.fileobj)
            if data:
                got = True
                self._sink(str(key.data), data)
            elif data == b"":
                selector.unregister(key.fileobj)
        return got

    def _drain(self, selector: selectors.BaseSelector) -> None:
        """What is still in the pipes; a background process that keeps them open is not waited for."""
        self._popen.wait()
        end = SYSTEM.monotonic() + _DRAIN_SECONDS
        while any(key.data for key in selector.get_map().values()) and SYSTEM.monotonic() < end:
            self._read(selector, 0.05)

    def _close(self) -> None:
        if not self._ended:
            self._tree.kill()
        self._popen.wait()
        with _starting:
            _children.discard(self._popen.pid)
        for stream in (self._popen.stdout, self._popen.stderr):
            assert stream is not None
            stream.close()
        with self._lock:
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_write = -1


_HAS_PIDFD = hasattr(os, "pidfd_open")


class _pidfd:  # noqa: N801 - reads as a function
    """Wakes the selector when the process ends; without pidfds the caller polls."""

    def __init__(self, pid: int, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._fd = os.pidfd_open(pid) if _HAS_PIDFD else None

    def __enter__(self) -> None:
        if self._fd is not None:
            self._selector.register(self._fd, selectors.EVENT_READ, None)

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            self._selector.unregister(self._fd)
            os.close(self._fd)


def _some(stream: IO[bytes] | int | object) -> bytes | None:
    """Bytes, b"" at the end, None when there is nothing now."""
    try:
        return os.read(stream.fileno(), _CHUNK)  # type: ignore[union-attr]
    except BlockingIOError:
        return None
