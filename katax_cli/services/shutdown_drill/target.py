"""The program that is drilled: started in a session of its own, watched, signalled, and at the end all of it gone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from secrets import token_hex
from signal import Signals
from threading import Event, Thread
from typing import IO, Self

from katax_cli.core.clock import SYSTEM
from katax_cli.services.processes.programs import not_started, refuse_unknown, shell_status
from katax_cli.services.processes.tree import HAS_PROC, Tree, adopting, is_pending
from katax_cli.services.shutdown_drill.ports import client_ports

MARK = "KATAX_DRILL"
_SAMPLE_SECONDS = 0.1
_LINE_BYTES = 64 * 1024
_LAST_WORDS_SECONDS = 1.0
_TAKEN_TICK = 0.01
Sink = Callable[[bytes], object]


class DrillTarget:
    """A started program. A context manager: at its end nothing of its process tree is left.

    Its standard output and error go to `sink`; it reads nothing. `mark` is in its environment, and for libpq
    the name of its sessions.
    """

    def __init__(self, command: Sequence[str], *, environ: Mapping[str, str], sink: Sink) -> None:
        """Starts it. Raises ConfigError when there is no such program."""
        refuse_unknown(command)
        self.mark = f"katax-drill-{token_hex(4)}"
        self.ports: frozenset[int] = frozenset()
        self.exited: float | None = None
        self.status: int | None = None
        self._ended, self._closed = Event(), Event()
        self._stack = ExitStack()
        is_adopted = self._stack.enter_context(adopting())
        self._started = SYSTEM.monotonic()
        try:
            self._process = subprocess.Popen(
                command,
                env={"PGAPPNAME": self.mark, **environ, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self._stack.close()
            raise not_started(command[0], error.strerror) from error
        self._tree = Tree(self._process.pid, f"{MARK}={self.mark}", is_adopted=is_adopted)
        assert self._process.stdout is not None
        self._start("wait", self._wait)
        self._reader = self._start("read", lambda: _read(self._process.stdout, sink))
        self._sampler = self._start("sample", self._sample)

    @property
    def now(self) -> float:
        """Seconds since its start."""
        return SYSTEM.monotonic() - self._started

    def signal(self, number: Signals) -> None:
        """Signals the program itself, as Kubernetes signals a container's first process."""
        self._process.send_signal(number)

    def taken(self, number: Signals, seconds: float) -> bool:
        """Waits up to `seconds` until a signal has reached the program, as far as Linux shows it; True when it did."""
        until = SYSTEM.monotonic() + seconds
        while is_pending(self._process.pid, number) and not self.ended(_TAKEN_TICK):
            if SYSTEM.monotonic() >= until:
                return False
        return True

    def ended(self, seconds: float) -> bool:
        """Waits up to `seconds` for its end; True when it came."""
        return self._ended.wait(max(0.0, seconds))

    def children(self) -> tuple[int, ...]:
        """Processes of its tree that live on after its end."""
        members = self._tree.members() if HAS_PROC else []
        return tuple(seen.pid for seen in members if seen.pid != self._process.pid)

    def sample(self) -> None:
        """Remembers which ports its tree is connected from, now."""
        if HAS_PROC:
            self.ports |= client_ports([seen.pid for seen in self._tree.members()])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._sampler.join()
        self._tree.kill()
        self._ended.wait()
        # Where there is no /proc, what left the tree may hold the pipe for ever.
        self._reader.join(_LAST_WORDS_SECONDS)
        self._stack.close()

    def _wait(self) -> None:
        # Not reaped before its end is noted, and never by anybody else.
        returncode = self._process.wait()
        self.exited, self.status = self.now, shell_status(returncode)
        self._ended.set()

    def _sample(self) -> None:
        while not self._closed.is_set():
            self.sample()
            self._closed.wait(_SAMPLE_SECONDS)

    def _start(self, what: str, work: Callable[[], object]) -> Thread:
        thread = Thread(target=work, name=f"katax-drill-{what}", daemon=True)
        thread.start()
        return thread


def _read(stream: IO[bytes] | None, sink: Sink) -> None:
    assert stream is not None
    with stream:
        # By size, for a line may be longer than the memory.
        while part := stream.readline(_LINE_BYTES):
            sink(part)
