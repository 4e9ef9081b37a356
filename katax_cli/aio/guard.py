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
    """A write that was sent when its task was cancelled is OutcomeUnknown, unless the server refused it."""

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
            if latest.doubt or (latest.sent and not is_undone(cancelled)):
                raise unknown(self.connection, doing) from cancelled
            raise

    @contextmanager
    def translating(self, *, deadline: Deadline, safety: Safety, doing: str = "query") -> Iterator[None]:
        try:
            with super().translating(deadline=deadline, safety=safety, doing=doing):
                yield
        except CancelledError as cancelled:
            if safety in _WRITES and not is_undone(cancelled):
                raise unknown(self.connection, doing) from cancelled
            raise


def unknown(connection: str, doing: str) -> OutcomeUnknown:
    """The error of a task that was cancelled too late to know."""
    return OutcomeUnknown(connection, f"the task was cancelled after its {doing} was sent")


def is_undone(cancelled: CancelledError) -> bool:
    """True if the server refused what was under way because of the cancellation."""
    return getattr(cancelled, "undone", False)
