"""Work in a thread: in order, one ahead, with its errors, and no longer than somebody reads."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from threading import enumerate as threads

import pytest

from katax_cli.services.transfer.ahead import Background, ahead
from tests.waiting import until


def test_items_come_in_order_and_one_is_made_ahead() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    items = ahead(numbers())
    assert next(items) == 0
    until(lambda: made == [0, 1, 2])  # one is held ready, the next one waits to be
    assert [*items] == [1, 2, 3, 4]


def test_what_making_raises_is_raised_behind_the_items_before() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no second")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no second"):
        next(items)


def test_nothing_is_made_once_the_reader_has_left() -> None:
    ended = Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.set()

    others = threads()
    items = ahead(endless())
    next(items)
    items.close()  # type: ignore[attr-defined]
    until(ended.is_set)
    until(lambda: all(thread.name != "katax-ahead" for thread in threads() if thread not in others))


def test_a_value_is_made_in_the_background() -> None:
    began = Event()

    def seven() -> int:
        began.set()
        return 7

    def broken() -> int:
        raise OSError("gone")

    value = Background(seven)
    until(began.is_set)
    assert value.result() == 7
    with pytest.raises(OSError, match="gone"):
        Background(broken).result()
