"""From a signal to the end of the process.

The handler only wakes a thread, so the main thread can finish the call that the signal met. When everything is
closed, the thread sends the signal once more: the handler then raises SystemExit on the main thread, whose
`finally` blocks and the exit handlers run as ever. What does not end by then is named and cut off.

Inside a server that has handlers of its own (uvicorn, gunicorn) the signal is the server's: its handler is called, it
drains, and everything is closed when the main thread has ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Protocol

from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.shutdown import ShutdownReport
from katax_cli.errors import PoolClosed

_LAST_SECONDS = 1.0
_UNNOTICED = 0.2
"""Seconds after which the main thread is taken not to have been woken by a signal: it began to wait for a lock then."""
_CALL_AGAIN = 0.02


class _ErrorLog(Protocol):
    def error(self, message: str, /) -> object: ...


SignalHandler = Callable[[int, FrameType | None], object]


class Terminator:
    """Ends this process after `execute()`; a second signal ends it at once with 128 + its number.

    One that is registered while another one has the signals joins it: they execute one after the other.
    """

    def __init__(
        self,
        execute: Callable[[], ShutdownReport],
        *,
        unfinished: Callable[[], Sequence[str]],
        timeout: float,
        reraise: bool,
        log: _ErrorLog,
    ) -> None:
        self._execute = execute
        self._unfinished = unfinished
        self._timeout = timeout
        self._reraise = reraise
        self._log = log
        self._process = os.getpid()
        self._joined: list[Terminator] = []
        self._servers: dict[int, SignalHandler] = {}
        self._arrived: SimpleQueue[int] = SimpleQueue()
        self._pipe: tuple[int, int] | None = None
        self._signalled = False
        self._calling = threading.RLock()
        self._left = self._leaving = False
        self._over = threading.Event()
        self._exit_code: int | None = None

    def register(self, signals: Iterable[signal.Signals]) -> None:
        wanted = tuple(signals)
        owner = next((owner for each in wanted if (owner := _owner(each)) is not None), None)
        if owner is not None:
            owner._joined.append(self)
        for each in wanted:
            if _owner(each) is None:
                (owner or self)._take(each)
        if owner is not None or not wanted:
            return
        self._pipe = _wakeup_pipe()
        threading.Thread(target=self._await, name="katax-signals", daemon=True).start()

    def _take(self, number: signal.Signals) -> None:
        before = signal.signal(number, self._on_signal)
        owner = getattr(before, "__self__", None)
        if (
            callable(before)
            and before is not signal.default_int_handler
            and not isinstance(owner, Terminator)
        ):
            self._servers[number] = before

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Takes no lock that the code which it interrupts may hold. SimpleQueue is made for this.
        server = self._servers.get(number)
        self._unnoticed()
        if os.getpid() != self._process:
            _die_of(number)  # a forked child has none of our threads
        elif server is not None and threading.main_thread().is_alive():
            if not self._signalled:
                self._signalled = True
                self._arrived.put(number)
                # A server that ends raises the signal once more on this thread, which would kill the process now.
                signal.pthread_sigmask(signal.SIG_BLOCK, {number})
            server(number, frame)
        elif not self._signalled:
            self._signalled = True
            self._arrived.put(number)
        elif self._exit_code is None:
            self._force(number)
        else:
            self._leave(number, self._exit_code)

    def _await(self) -> None:
        number = self._arrived.get()
        self._take_pool_closed_for_exit()
        end = self._end_after_main if number in self._servers else self._end
        # Not a daemon: a main thread that ends by itself waits for it.
        threading.Thread(target=end, args=(number,), name="katax-shutdown", daemon=False).start()
        if self._pipe is not None and number not in self._servers:
            self._watch(self._pipe[0])

    def _watch(self, pipe: int) -> None:
        """Ends the process for a second signal that the main thread does not notice."""
        while self._exit_code is None:
            if select.select([pipe], [], [], _UNNOTICED)[0]:
                SYSTEM.sleep(_UNNOTICED)
                ours = [number for number in self._unnoticed() if _owner(signal.Signals(number)) is self]
                if ours and self._exit_code is None:
                    self._force(ours[0])

    def _unnoticed(self) -> bytes:
        """Takes the numbers of the signals whose handlers have not run yet."""
        if self._pipe is None or os.getpid() != self._process:
            return b""
        with contextlib.suppress(BlockingIOError):
            return os.read(self._pipe[0], 4096)
        return b""

    def _end_after_main(self, _number: int) -> None:
        """The server drains on the main thread, and says itself how the process exits."""
        threading.main_thread().join()
        self._executed()

    def _end(self, number: int) -> None:
        deadline = Deadline(self._timeout + sum(other._timeout for other in self._joined))
        self._exit_code = self._executed()
        self._over.set()
        last = Deadline(max(deadline.remaining(), _LAST_SECONDS))
        self._call_main_away(number, last)
        others = _threads_that_keep_alive(last)
        if others:
            self._log.error(f"left behind at exit: {', '.join(others)}")
            _exit_now(self._exit_code)

    def _call_main_away(self, number: int, deadline: Deadline) -> None:
        # A signal that meets the main thread in a handler does not wake it from the lock that it then waits for.
        while not deadline.expired:
            with self._calling:
                if self._left:
                    return
                signal.pthread_kill(threading.main_thread().ident or 0, number)
            SYSTEM.sleep(_CALL_AGAIN)

    def _executed(self) -> int:
        try:
            code = 0 if self._execute().clean else 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the process must end
            self._log.error(f"shutdown failed: {type(error).__name__}: {error}")
            code = 1
        return max([code, *(other._executed() for other in self._joined)])

    def _leave(self, number: int, code: int) -> None:
        if self._leaving:
            return
        if self._left:
            self._force(number)
        self._leaving = True
        with self._calling:
            self._left = True
        # A call of ours that came meanwhile is no second signal: the kernel delivers it now, and its handler runs
        # within the loop, however long a busy machine takes over either.
        os.getppid()
        for _ in range(2):
            pass
        self._leaving = False
        if self._reraise:
            _die_of(number)
        elif threading.main_thread().is_alive():
            raise SystemExit(code)

    def _force(self, number: int) -> None:
        try:
            parts = [name for each in (self, *self._joined) for name in each._unfinished()]
            names = ", ".join(parts) or "nothing"
            self._log.error(f"forced by a second {signal.Signals(number).name}; left behind: {names}")
        finally:
            _exit_now(128 + number)

    def _take_pool_closed_for_exit(self) -> None:
        """A main thread that meets a pool which this shutdown closed did not fail: it ends with the shutdown."""
        before = sys.excepthook

        def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            if not isinstance(error, PoolClosed):
                before(kind, error, trace)
                return
            self._over.wait(self._timeout + sum(other._timeout for other in self._joined) + _LAST_SECONDS)
            raise SystemExit(self._exit_code)

        sys.excepthook = hook


def _wakeup_pipe() -> tuple[int, int] | None:
    """A pipe that each signal's number is written to, whichever thread it meets; None when another has that place."""
    pipe = os.pipe()
    for end in pipe:
        os.set_blocking(end, False)
    before = signal.set_wakeup_fd(pipe[1], warn_on_full_buffer=False)
    if before == -1:
        os.register_at_fork(after_in_child=lambda: _leave_pipe(pipe[1]))
        return pipe
    signal.set_wakeup_fd(before)
    for end in pipe:
        os.close(end)
    return None


def _leave_pipe(end: int) -> None:
    """In a child: its signals are not the parent's."""
    before = signal.set_wakeup_fd(-1)
    if before not in (-1, end):
        signal.set_wakeup_fd(before)


def _owner(number: signal.Signals) -> Terminator | None:
    """The terminator of this process that has the signal."""
    owner = getattr(signal.getsignal(number), "__self__", None)
    return owner if isinstance(owner, Terminator) and owner._process == os.getpid() else None


def _threads_that_keep_alive(deadline: Deadline) -> list[str]:
    """The threads that the interpreter would still wait for at the deadline; the main one among them."""
    mine = threading.current_thread()
    waited_for = [each for each in threading.enumerate() if each is not mine and not each.daemon]
    for each in waited_for:
        each.join(deadline.remaining())
    return [each.name for each in waited_for if each.is_alive()]


def _die_of(number: int) -> None:
    _flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _exit_now(code: int) -> None:
    _flush()
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            stream.flush()
