"""Cleaning up after Ctrl-C, a signal and a cancellation, where an error needs none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def if_interrupted(tidy: Callable[[], object]) -> Iterator[None]:
    """Calls `tidy` when an interrupt ends the block: an exception that is no Exception. It goes on afterwards."""
    try:
        yield
    except BaseException as raised:
        if not isinstance(raised, Exception):
            tidy()
        raise
