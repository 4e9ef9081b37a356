"""Bounds the output files of jobs while nobody reads them: after their run ended, after their daemon was killed.

A process of its own does that, for a killed process can bound nothing. This file is also that process: it imports the
standard library only, so that it is small and starts at once. Linux only.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

LIMIT = 8 * 1024 * 1024
"""How large a file that nobody reads may become, in bytes, before its middle is dropped."""
LARGEST = 256 * 1024 * 1024
"""The same of a file that is read: its reader, which stops those who write too much, was itself kept from running."""
KEPT = 64 * 1024
"""How many bytes of its beginning and of its end stay."""
_SHORT, _LONG = 0.001, 0.25
"""Seconds between two looks; the pauses grow while nothing is dropped."""
_STAYS = b"s"
_INODE = 8
"""Bytes of a message for each file: its number, with the file while it is read, and alone when it no longer is."""
_MOST_FILES = 2
"""In one message: the streams of a job."""
_ANSWER_SECONDS = 1.0
_PUNCH_HOLE, _KEEP_SIZE = 2, 1

_libc = ctypes.CDLL(None, use_errno=True)


def punch(fd: int, start: int, end: int) -> bool:
    """Frees the whole pages between two positions of a file; False where its file system cannot."""
    start, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if sys.platform != "linux" or start >= end:
        return False
    length = ctypes.c_long(end - start)
    return bool(_libc.fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_long(start), length) == 0)


class OutputKeeper:
    """Hands files to the process that bounds them, which starts with the first one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._inbox: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The number of the process; None before the first file."""
        return self._processes[-1].pid if self._processes else None

    def keep(self, *fds: int) -> None:
        """The files are bounded from `let_go`, or the end of this process, until nobody writes them. Raises OSError."""
        readable: list[int] = []
        try:
            for fd in fds:
                readable.append(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))
            with self._lock:
                # One that was killed, or is stopped and takes nothing any more, is replaced.
                if not self._sent(fds, readable):
                    self._inbox = self._start()
                    self._sent(fds, readable)
        finally:
            for fd in readable:
                os.close(fd)

    def let_go(self, fd: int) -> None:
        """The file is no longer read by this process."""
        with self._lock:
            self._sent([fd], [])

    def close(self) -> None:
        """Lets the process end; it stays while files are still written."""
        with self._lock:
            inbox, self._inbox = self._inbox, None
        if inbox is None:
            return
        with inbox, suppress(OSError):
            inbox.settimeout(_ANSWER_SECONDS)
            inbox.shutdown(socket.SHUT_WR)
            if not inbox.recv(1):
                self._processes[-1].wait()

    def _sent(self, fds: Sequence[int], files: Sequence[int]) -> bool:
        if self._inbox is None:
            return False
        try:
            socket.send_fds(self._inbox, [os.fstat(fd).st_ino.to_bytes(_INODE, "big") for fd in fds], files)
        except OSError:
            # At the end of this socket it bounds what it has.
            self._inbox.close()
            self._inbox = None
            return False
        return True

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._processes = [each for each in self._processes if each.poll() is None]
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                # Neither Ctrl-C nor a signal to the daemon's process group may end it.
                start_new_session=True,
            )
        self._processes.append(process)
        ours.settimeout(0.0)
        atexit.register(self.close)
        return ours


keeper = OutputKeeper()
"""That of this process."""


def is_written(fd: int) -> bool:
    """True while a process has the file open for writing; `fd` is open for reading only."""
    try:
        # A read lease is granted when there is no writer.
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def trim(fd: int, limit: int = LIMIT) -> bool:
    """Drops the middle of a file that has become too large; True when there was something to drop."""
    status = os.fstat(fd)
    if status.st_blocks * 512 <= limit:
        return False
    writable = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    try:
        return punch(writable, KEPT, status.st_size - KEPT)
    finally:
        os.close(writable)


def keep_all(inbox: socket.socket) -> None:
    """Bounds the files that are not read, until the sender has ended and nobody writes any more.

    A file that comes causes no look at all the others: it is read for now, and the job that gets it is starting.
    """
    files: dict[bytes, int] = {}
    is_read: set[bytes] = set()
    pause, look_at, is_open = _SHORT, 0.0, True
    while is_open or files:
        left = max(0.0, look_at - monotonic()) if files else None
        ready, _, _ = select.select([inbox] if is_open else [], [], [], left)
        if ready:
            message, arrived, _, _ = socket.recv_fds(inbox, _MOST_FILES * _INODE, _MOST_FILES)
            inodes = [message[at : at + _INODE] for at in range(0, len(message), _INODE)]
            if arrived:
                files.update(zip(inodes, arrived, strict=False))  # fewer came where no more may be open
                is_read.update(inodes)
            else:
                is_open = bool(message)
                is_read = is_read.difference(inodes) if is_open else set()
                pause, look_at = _SHORT, min(look_at, monotonic() + _SHORT)
        if is_open and monotonic() < look_at:
            continue
        files = _still_written(files, is_read)
        if ready and not is_open and files:
            with suppress(OSError):
                inbox.send(_STAYS)
        dropped = [trim(fd, LARGEST if inode in is_read else LIMIT) for inode, fd in files.items()]
        pause = _SHORT if any(dropped) else min(2 * pause, _LONG)
        look_at = monotonic() + pause


def _still_written(files: dict[bytes, int], is_read: set[bytes]) -> dict[bytes, int]:
    """Those without a writer are closed; the sender has those that it reads open for writing, too."""
    written = {inode: fd for inode, fd in files.items() if inode in is_read or is_written(fd)}
    for inode in files.keys() - written.keys():
        os.close(files[inode])
    return written


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with socket.socket(fileno=0) as inbox:
        keep_all(inbox)


if __name__ == "__main__":
    main()
