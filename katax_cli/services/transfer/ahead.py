"""Work that is done in a thread while a server is busy: the next batch of a file, its digest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")
_STEP = 0.1
"""Seconds after which a thread that nobody waits for looks whether it is wanted still."""


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, each made while the one before is used: one is held ready. Raises what making them raises.

    Once the reader has left, nothing more is made.
    """
    ready: Queue[tuple[T] | BaseException | None] = Queue(maxsize=1)
    left = Event()

    def hand_over(item: tuple[T] | BaseException | None) -> None:
        while not left.is_set():
            with suppress(Full):
                ready.put(item, timeout=_STEP)
                return

    def make() -> None:
        try:
            for item in items:
                hand_over((item,))
                if left.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - the reader raises it
            hand_over(error)
        else:
            hand_over(None)

    worker = Thread(target=make, name="katax-ahead", daemon=True)
    worker.start()
    try:
        while (item := _taken(ready)) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        left.set()


def _taken(ready: Queue[T]) -> T:
    """The next one; looks up now and then, so that a signal is noticed."""
    while True:
        with suppress(Empty):
            return ready.get(timeout=_STEP)


class Background(Generic[T]):
    """A value that is made in a thread from now on."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._made: Queue[tuple[T] | BaseException] = Queue(maxsize=1)

        def run() -> None:
            try:
                self._made.put((make(),))
            except BaseException as error:  # noqa: BLE001 - `result` raises it
                self._made.put(error)

        Thread(target=run, name="katax-background", daemon=True).start()

    def result(self) -> T:
        """Waits for the value, and is to be asked for once. Raises what making it raised."""
        made = _taken(self._made)
        if isinstance(made, BaseException):
            raise made
        return made[0]
