"""A program on a terminal of its own, for what is drawn and for how the terminal is left."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

from tests.cli.processes import SECONDS

KATAX = "from katax_cli.__main__ import main; main()"
# Its output is of a session of its own, whose terminal it becomes before anybody looks.
_IN_FRONT = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
program = sys.argv[1]
sys.argv[:2] = ["katax"]
exec(program)
"""


class Terminal:
    """A pseudo terminal with `katax WORDS…`, or another Python program, in its foreground; `seen`: what it was sent.

    `modes_before`: how the terminal treated what is typed before the program began.
    """

    def __init__(self, *words: str, columns: int, lines: int = 24, program: str = KATAX) -> None:
        self.seen = b""
        # No pty.fork: the threads of other tests may hold locks that a copy of this process would wait for.
        self._end, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.modes_before = self.modes
        self._process = subprocess.Popen(
            [sys.executable, "-c", _IN_FRONT, program, *words],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm"},
        )
        self.pid = self._process.pid
        os.close(inner)

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    @property
    def modes(self) -> list[object]:
        """How the terminal treats what is typed."""
        return termios.tcgetattr(self._end)

    def type(self, keys: bytes) -> None:
        os.write(self._end, keys)

    def read_until(self, count: int, what: bytes) -> None:
        """Reads until `what` was seen so many times since the last call."""
        start = len(self.seen)
        give_up = time.monotonic() + SECONDS
        while self.seen.count(what, start) < count:
            assert time.monotonic() < give_up, self.seen
            ready, _, _ = select.select([self._end], [], [], 0.1)
            if ready:
                self.seen += os.read(self._end, 65536)

    def answer(self, keys: bytes, *wanted: bytes) -> None:
        """Types, and reads until all of these were seen behind it, one after the other."""
        at = len(self.seen)
        self.type(keys)
        for what in wanted:
            give_up = time.monotonic() + SECONDS
            while (found := self.seen.find(what, at)) < 0:
                assert time.monotonic() < give_up, (what, self.seen)
                ready, _, _ = select.select([self._end], [], [], 0.1)
                if ready:
                    self.seen += os.read(self._end, 65536)
            at = found + len(what)

    def exit_code(self) -> int:
        """Reads to the end, and says how the program ended."""
        while True:
            try:
                chunk = os.read(self._end, 65536)
            except OSError:
                break
            if not chunk:
                break
            self.seen += chunk
        return self._process.wait()

    def hang_up(self) -> int:
        """Closes the terminal, and returns how the program ended."""
        os.close(self._end)
        return self._process.wait()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._end)
