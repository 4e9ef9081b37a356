"""The output of a job: files without a name, written by the job and read as they grow.

They need no reader: a job goes on when its daemon was killed, and another daemon that watches it finds its
output through `/proc`. On Linux they are in memory, which is given back as they are read: making one on a disk costs
as much as starting a process (`benchmarks/cron.py`).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
import tempfile
from collections.abc import Callable, Sequence

from katax_cli.core.clock import SYSTEM

_CHUNK = 256 * 1024
_BACKLOG = 4 * 1024 * 1024
"""How much may lie there unread before those who write are stopped."""
_SLACK = 1024 * 1024
"""What may still arrive while those who write are being stopped."""
_KEPT = 1024 * 1024
"""How much of what was read stays in the file before it is given back."""
_SHORT, _LONG = 0.01, 1.0
_PUNCH_HOLE, _KEEP_SIZE = 2, 1

Sink = Callable[[str, bytes], None]
"""Gets output as it arrives: `stdout` or `stderr`, and bytes."""


class JobOutput:
    """One stream of a job, `stdout` or `stderr`, read from where data begins."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd
        self._at = _first_byte(fd)
        self._freed = 0

    def read(self) -> bytes:
        """The next bytes; none when there are none now."""
        data = os.pread(self.fd, _CHUNK, self._at)
        self._at += len(data)
        if self._at - self._freed >= _KEPT and _punch(self.fd, self._at):
            self._freed = self._at
        return data

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    @property
    def left(self) -> int:
        """The number of bytes that are there and not read."""
        size = self.size
        if size < self._at:
            self._at = self._freed = 0  # `> /dev/stdout` in a job truncates the file
        return size - self._at

    def close(self) -> None:
        os.close(self.fd)


def new_output(name: str) -> JobOutput:
    """A file without a name. Raises OSError."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(f"katax-{name}")
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        return JobOutput(name, fd)
    with tempfile.TemporaryFile("a+b", buffering=0) as file:
        return JobOutput(name, os.dup(file.fileno()))


def outputs_of(pid: int) -> list[JobOutput]:
    """The streams of a process that runs; those that cannot be opened are left out."""
    found = []
    for name, number in (("stdout", 1), ("stderr", 2)):
        try:
            found.append(JobOutput(name, os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_APPEND)))
        except OSError:
            continue
    return found


def read_all(outputs: Sequence[JobOutput], sink: Sink, brake: Callable[[], None] | None = None) -> bool:
    """Hands on what is there now; True when something was. What is written meanwhile is left for the next time.

    `brake` stops those who write: it is called when the backlog is large, and once more when it still grows.
    """
    some = [_read_backlog(output, sink, brake) for output in outputs]
    return any(some)


def _read_backlog(output: JobOutput, sink: Sink, brake: Callable[[], None] | None) -> bool:
    some, braked, left = False, 0, output.left
    while left > 0:
        if brake is not None and braked < 2 and output.left >= (left + _SLACK if braked else _BACKLOG):
            brake()
            braked, left = braked + 1, output.left
        data = output.read()
        if not data:
            break
        some = True
        left -= len(data)
        sink(output.name, data)
    return some


def discard_all(outputs: Sequence[JobOutput], while_needed: Callable[[], bool]) -> None:
    """Empties what is still being written and closes it when it is not needed any more."""
    pause = _SHORT
    while while_needed():
        some = any(output.size for output in outputs)
        for output in outputs:
            os.ftruncate(output.fd, 0)
        pause = _SHORT if some else min(2 * pause, _LONG)
        SYSTEM.sleep(pause)
    for output in outputs:
        output.close()


def _first_byte(fd: int) -> int:
    """The position where data begins: what was read before is a hole."""
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except (OSError, AttributeError):
        return 0


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _punch(fd: int, size: int) -> bool:
    """Frees the memory or the blocks of the first `size` bytes; not every file system can."""
    if _libc is None:
        return False
    done = _libc.fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(size))
    return bool(done == 0)
