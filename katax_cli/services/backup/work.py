"""The time that backups of one command may take, and their common end when it is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition

from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.errors import BackupError

_END_SECONDS = 15.0
"""How long an interrupted backup may take to end its tool and remove its files."""
_AGAIN_SECONDS = 0.5
"""How long an end may take before what runs is ended once more: it may have begun a moment after it was ended."""


class StoppableWork:
    """Shared by the threads of one command; `stop` ends them all."""

    def __init__(self, name: str, deadline: Deadline = NEVER) -> None:
        self.name = name
        self.deadline = deadline
        self._changed = Condition()
        self._stopped = False
        self._stops: list[Callable[[], object]] = []
        self._cuts: list[Callable[[], object]] = []
        self._active = 0

    @property
    def stopped(self) -> bool:
        """True when the work is to end."""
        return self._stopped or self.deadline.expired

    def check(self) -> None:
        """Raises DeadlineExceeded when the time is up, BackupError after `stop`."""
        if self._stopped:
            raise BackupError("the backup was stopped")
        self.deadline.check(self.name, "the backup")

    def wait(self, seconds: float) -> None:
        """Waits, and checks."""
        with self._changed:
            if not self._stopped:
                self._changed.wait(self.deadline.within(seconds))
        self.check()

    @contextmanager
    def stopping(self, stop: Callable[[], object]) -> Iterator[None]:
        """While the block runs, `stop` is called from another thread when the work is stopped, more than once."""
        with self._changed:
            self._stops.append(stop)
        try:
            self.check()
            yield
        finally:
            with self._changed:
                self._stops.remove(stop)

    def cut_by(self, cut: Callable[[], object]) -> None:
        """From now on `cut` is called from another thread when the server answers nothing."""
        with self._changed:
            self._cuts.append(cut)

    @contextmanager
    def active(self) -> Iterator[None]:
        """A part of the work that leaves nothing behind when it ends."""
        with self._changed:
            self._active += 1
        try:
            yield
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def cut(self) -> None:
        """Ends what runs without a word to the server, and waits for nothing."""
        with self._changed:
            self._stopped = True
            ends = [*self._cuts, *self._stops]
            self._changed.notify_all()
        for end in ends:
            end()

    def stop(self) -> None:
        """Ends what runs and returns when that is cleared away, or after a while."""
        patience = Deadline(_END_SECONDS)
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        is_over = False
        while not is_over:
            with self._changed:
                stops = list(self._stops)
            for stop in stops:
                stop()
            with self._changed:
                self._changed.wait_for(lambda: not self._active, patience.within(_AGAIN_SECONDS))
                is_over = not self._active or patience.expired
