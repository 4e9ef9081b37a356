"""A program in a process group of its own, which ends with us whatever ends us, and on our word within a second.

Two things hold it to us. On Linux the program asks the kernel for SIGKILL when its parent dies
(PR_SET_PDEATHSIG). That reaches one process only, so on every system a watcher beside it reads from a pipe
whose other end is ours: when that closes without a word, it kills the group.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Lock, current_thread, main_thread
from typing import IO, Self

from katax_cli.core.clock import SYSTEM
from katax_cli.services.processes.programs import not_started, refuse_unknown, shell_status

_LOOK_EVERY = 0.5
ProgramStream = IO[bytes] | int | None
_LOST_SECONDS, _ASKED_SECONDS = 0.5, 5.0
"""How long the group may take to end by itself when its lock is lost, and when we are asked to end."""

# argv: read end of the pipe, write end of the one that says why the program did not start, our process id, the program
# and its arguments. Runs before the program, in its
# place: the watcher is forked off, then the program takes the process over. (A preexec_fn would run Python
# between fork and exec of a process with threads.)
_LAUNCHER = """
import os, signal, sys
pipe, failure, parent, words = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
group = os.getpid()
if os.fork() == 0:
    os.close(failure)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    while True:
        said = os.read(pipe, 1)
        if said:
            os._exit(0)
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:
            pass
        os._exit(0)
os.close(pipe)
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
os.set_inheritable(failure, False)
try:
    os.execvp(words[0], words)
except OSError as error:
    os.write(failure, str(error.errno).encode())
    os._exit(126)
"""


class Supervised:
    """A running program. A context manager: at its end nothing of the group is left."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        inherited: Mapping[str, str] | None = None,
        stdin: ProgramStream = None,
        stdout: ProgramStream = None,
        stderr: ProgramStream = None,
    ) -> None:
        """Starts it. Raises ConfigError when there is no such program, or it cannot be executed.

        `environment` comes on top of `inherited`, ours by default; streams that are not given are ours.
        """
        refuse_unknown(command)
        self._ending = Lock()
        self._ended = False
        reads, self._pipe = os.pipe()
        failed, failure = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-IS", "-c", _LAUNCHER, *map(str, (reads, failure, os.getpid())), *command],
                env={**(os.environ if inherited is None else inherited), **environment},
                process_group=0,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(reads, failure),
            )
            os.close(failure)
            failure = -1
            self._check(command[0], os.read(failed, 16))
        except BaseException as error:
            if "_process" in vars(self):
                # It may run already: a signal that meets us here ends it as later ones do.
                self.__exit__(type(error), error, None)
            else:
                os.close(self._pipe)
            raise
        finally:
            for end in (reads, failed, failure):
                if end >= 0:
                    os.close(end)

    def _check(self, program: str, errno: bytes) -> None:
        """`errno` is empty when the program has started."""
        if not errno:
            return
        os.write(self._pipe, b".")
        self._process.wait()
        raise not_started(program, os.strerror(int(errno)))

    def wait(self) -> int:
        """Waits for its end; the status as a shell gives it."""
        with _foreground(self._process.pid):
            # In slices: a signal that meets us on the way into a wait does not end that wait.
            while not self.ends_within(_LOOK_EVERY):
                pass
        return self.status()

    @property
    def stdin(self) -> IO[bytes]:
        """Its input, of one that was started with a pipe."""
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """Its output, of one that was started with a pipe."""
        assert self._process.stdout is not None
        return self._process.stdout

    def ends_within(self, seconds: float) -> bool:
        """Waits for its end, at most so long; True when it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def status(self) -> int:
        """Waits for its end, without lending it the terminal; the status as a shell gives it."""
        return shell_status(self._process.wait())

    def stop(self, first: int = signal.SIGTERM, *, patience: float = _LOST_SECONDS) -> None:
        """Ends the whole group, from any thread: `patience` seconds after the signal by SIGKILL."""
        with self._ending:
            if self._ended:
                return
            self._signal(first)
            self._signal(signal.SIGCONT)  # what is stopped acts on no signal but this and SIGKILL
            until = SYSTEM.monotonic() + patience
            while self._signal(0) and SYSTEM.monotonic() < until:
                SYSTEM.sleep(0.01)
            self._signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            first = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
            self.stop(first, patience=_ASKED_SECONDS)
            self._process.wait()
        with self._ending:
            self._ended = True
        with suppress(BrokenPipeError):
            os.write(self._pipe, b".")
        os.close(self._pipe)

    def _signal(self, number: int) -> bool:
        """False when no process is left to receive it."""
        self._process.poll()  # or its leader would count as a member of the group after its end
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True


@contextmanager
def _foreground(group: int) -> Iterator[None]:
    """Lets the group have the terminal, if we have it: keys, Ctrl-C and job control are the program's."""
    terminal = _terminal()
    if terminal is None:
        yield
        return
    try:
        with _ignoring(signal.SIGTTOU):
            ours = os.tcgetpgrp(terminal)
            if ours != os.getpgrp():
                yield
                return
            _give(terminal, group)
            try:
                yield
            finally:
                _give(terminal, ours)
    finally:
        os.close(terminal)


def _give(terminal: int, group: int) -> None:
    with suppress(OSError):  # no such group any more
        os.tcsetpgrp(terminal, group)


def _terminal() -> int | None:
    """Ours, if there is one, and signals may be set here: in the main thread."""
    if current_thread() is not main_thread():
        return None
    try:
        return os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None


@contextmanager
def _ignoring(number: int) -> Iterator[None]:
    before: Callable[..., object] | int | None = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)
