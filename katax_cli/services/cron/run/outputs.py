"""The output of a job: files without a name, written by the job and read as they grow.

They need nobody who reads: a job goes on when its daemon was killed, and another daemon that watches it finds its
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

_CHUNK = 256 * 1024
_KEPT = 1024 * 1024
"""How much of what was read stays in the file before it is given back."""
_PUNCH_HOLE, _KEEP_SIZE = 2, 1


class Output:
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
    def left(self) -> int:
        """The number of bytes that are there and not read."""
        size = os.fstat(self.fd).st_size
        if size < self._at:
            self._at = self._freed = 0  # `> /dev/stdout` in a job truncates the file
        return size - self._at

    def close(self) -> None:
        os.close(self.fd)


def new_output(name: str) -> Output:
    """A file without a name. Raises OSError."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(f"katax-{name}")
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        return Output(name, fd)
    with tempfile.TemporaryFile("a+b", buffering=0) as file:
        return Output(name, os.dup(file.fileno()))


def outputs_of(pid: int) -> list[Output]:
    """The streams of a process that runs; those that cannot be opened are left out."""
    found = []
    for name, number in (("stdout", 1), ("stderr", 2)):
        try:
            found.append(Output(name, os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_APPEND)))
        except OSError:
            continue
    return found


def read_all(outputs: Sequence[Output], sink: Callable[[str, bytes], None]) -> bool:
    """Hands on what is there now; True when something was. What is written meanwhile is left for the next time."""
    some = False
    for output in outputs:
        left = output.left
        while left > 0 and (data := output.read()):
            some = True
            left -= len(data)
            sink(output.name, data)
    return some


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
