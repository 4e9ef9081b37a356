"""The output of a job: files without a name, written by the job and read as they grow.

They need no reader: a job goes on when its daemon was killed, and another daemon that watches it finds its
output through `/proc`. On Linux they are in memory, which is given back as they are read, and `output_keeper` bounds
what is not read: making one on a disk costs as much as starting a process (`benchmarks/cron.py`).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence

from katax_cli.services.cron.run.output_keeper import KEPT, LARGEST, keeper, punch

_CHUNK = 256 * 1024
_BACKLOG = 4 * 1024 * 1024
"""How much may lie there unread before those who write are stopped."""
_SLACK = 1024 * 1024
"""What may still arrive while those who write are being stopped."""
_KEPT = 1024 * 1024
"""How much of what was read stays in the file before it is given back."""

Sink = Callable[[str, bytes], None]
"""Gets output as it arrives: `stdout` or `stderr`, and bytes."""


class JobOutput:
    """One stream of a job, `stdout` or `stderr`, read from where data begins."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd
        self.at = _next_data(fd, 0)[0]
        """The position up to which it was read."""
        self._freed = 0

    def read(self) -> bytes:
        """The next bytes, those that were dropped meanwhile left out; none when there are none now."""
        self.at, end = _next_data(self.fd, self.at)
        data = os.pread(self.fd, min(_CHUNK, end - self.at), self.at)
        self.at += len(data)
        if self.at - self._freed >= _KEPT:
            punch(self.fd, 0, self.at)
            self._freed = self.at
        return data

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    @property
    def left(self) -> int:
        """The number of bytes that came and were not read."""
        size = self.size
        if size < self.at:
            self.at = self._freed = 0  # `> /dev/stdout` in a job truncates the file
        return size - self.at

    def close(self) -> None:
        """Bounds all that is written from now on."""
        keeper.let_go(self.fd)
        os.close(self.fd)


def new_outputs(*names: str) -> list[JobOutput]:
    """Files without a name. Raises OSError."""
    outputs: list[JobOutput] = []
    try:
        for name in names:
            outputs.append(JobOutput(name, _new_file(name)))
        if sys.platform == "linux":
            keeper.keep(*(output.fd for output in outputs))
    except BaseException:
        for output in outputs:
            os.close(output.fd)
        raise
    return outputs


def _new_file(name: str) -> int:
    if sys.platform != "linux":
        with tempfile.TemporaryFile("a+b", buffering=0) as file:
            return os.dup(file.fileno())
    made = os.memfd_create(f"katax-{name}")
    try:
        # Opened by its path: the kernel does not count those as writers who have what memfd_create returned.
        return os.open(f"/proc/self/fd/{made}", os.O_RDWR | os.O_APPEND)
    finally:
        os.close(made)


def outputs_of(pid: int) -> list[JobOutput]:
    """The streams of a process that runs; those that cannot be opened are left out."""
    outputs = []
    for name, number in (("stdout", 1), ("stderr", 2)):
        try:
            outputs.append(JobOutput(name, os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_APPEND)))
        except OSError:
            continue
    return outputs


def read_all(outputs: Sequence[JobOutput], sink: Sink, brake: Callable[[], None] | None = None) -> bool:
    """Hands on what is there now; True when something was. What is written meanwhile is left for the next time.

    `brake` stops those who write: it is called when the backlog is large, and once more when it still grows.
    """
    some = [_read_backlog(output, sink, brake) for output in outputs]
    return any(some)


def _read_backlog(output: JobOutput, sink: Sink, brake: Callable[[], None] | None) -> bool:
    some, braked = False, 0
    if output.left > LARGEST:
        # Looking for holes takes longer the more there is: it would never be read to its end. Only both ends stay.
        punch(output.fd, output.at + KEPT, output.size - KEPT)
    end = output.left + output.at
    while output.at < end:
        if brake is not None and braked < 2:
            limit = end - output.at + _SLACK if braked else _BACKLOG
            if output.left >= limit:
                brake()
                braked, end = braked + 1, output.left + output.at
        data = output.read()
        if not data:
            break
        some = True
        sink(output.name, data)
    return some


def _next_data(fd: int, position: int) -> tuple[int, int]:
    """The first position from there on that holds data, and where that data ends: what was given back is a hole."""
    try:
        start = os.lseek(fd, position, os.SEEK_DATA)
        return start, os.lseek(fd, start, os.SEEK_HOLE)
    except (OSError, AttributeError):
        return position, position + _CHUNK
