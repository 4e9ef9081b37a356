"""Cleaning up after Ctrl-C, a signal and a cancellation, where an error needs none, and what they leave in doubt."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from katax_cli.errors import OutcomeUnknown


@contextmanager
def if_interrupted(tidy: Callable[[], object]) -> Iterator[None]:
    """Calls `tidy` when an interrupt ends the block: an exception that is no Exception. It goes on afterwards."""
    try:
        yield
    except BaseException as raised:
        if not isinstance(raised, Exception):
            tidy()
        raise


def note_doubt(interrupt: BaseException, connection: str, doing: str, *, earlier: bool = False) -> None:
    """Notes on an interrupt that something was sent that the server has not refused, now or in an `earlier` attempt.

    The interrupt itself goes on: what handles an OutcomeUnknown inside would otherwise swallow it.
    """
    if earlier or not getattr(interrupt, "undone", False):
        error = OutcomeUnknown(connection, f"the {doing} was cancelled after it was sent")
        interrupt.doubt = error  # type: ignore[attr-defined]


def doubt_of(interrupt: BaseException) -> OutcomeUnknown | None:
    """The error that the interrupt is to its caller; None when nothing can have been applied."""
    return getattr(interrupt, "doubt", None)


def was_interrupted(error: BaseException) -> bool:
    """True for an interrupt, and for the OutcomeUnknown that one became: whoever interrupts waits for it."""
    raised = error.__cause__ if isinstance(error, OutcomeUnknown) else error
    return raised is not None and not isinstance(raised, Exception)


def settle_doubt(interrupt: BaseException) -> None:
    """Notes on an interrupt that nothing is in doubt: nothing was sent, or the server has said what came of it."""
    interrupt.undone, interrupt.doubt = True, None  # type: ignore[attr-defined]
