"""The guard of calls that are made for tasks, which may be cancelled."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.errors import OutcomeUnknown
from katax_cli.services.calls.guard import Guard, Safety, Sent

T = TypeVar("T")
_WRITES = (Safety.WRITE, Safety.IDEMPOTENT)


class AwaitedGuard(Guard):
    """Notes on a cancellation that a write was sent before it, unless the server refused that write.

    The cancellation itself goes on: what handles an OutcomeUnknown inside would otherwise swallow it.
    `OwnLoop.call` turns it into one.
    """

    def call(
        self, attempt: Callable[[Sent], T], *, deadline: Deadline, safety: Safety, doing: str = "query"
    ) -> T:
        if safety not in _WRITES and safety is not Safety.WHOLE:
            return super().call(attempt, deadline=deadline, safety=safety, doing=doing)
        latest = Sent()

        def noted(sent: Sent) -> T:
            nonlocal latest
            latest = sent
            return attempt(sent)

        try:
            return super().call(noted, deadline=deadline, safety=safety, doing=doing)
        except CancelledError as cancelled:
            if latest.doubt or latest.sent:
                note_doubt(cancelled, self.connection, doing)
            raise

    @contextmanager
    def translating(self, *, deadline: Deadline, safety: Safety, doing: str = "query") -> Iterator[None]:
        try:
            with super().translating(deadline=deadline, safety=safety, doing=doing):
                yield
        except CancelledError as cancelled:
            if safety in _WRITES:
                note_doubt(cancelled, self.connection, doing)
            raise


def note_doubt(cancelled: CancelledError, connection: str, doing: str) -> None:
    """Notes that something was sent that the server has not refused."""
    if not getattr(cancelled, "undone", False):
        error = OutcomeUnknown(connection, f"the task was cancelled after its {doing} was sent")
        cancelled.doubt = error  # type: ignore[attr-defined]


def doubt_of(cancelled: CancelledError) -> OutcomeUnknown | None:
    """The error that the cancellation is to its caller; None when nothing can have been applied."""
    return getattr(cancelled, "doubt", None)
