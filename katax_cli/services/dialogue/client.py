"""Calls on a database whose driver pools its connections: what ends one of them ends its connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from katax_cli.errors import OutcomeUnknown, Unavailable
from katax_cli.services.databases.client_database import ClientDatabase

T = TypeVar("T")


class ClientDialogue:
    """One call at a time; `cancel` may come from another thread."""

    def __init__(self, database: ClientDatabase, *, seconds: float | None) -> None:
        self._database = database
        self._seconds = seconds
        self._cancelled = False

    def cancel(self) -> None:
        """Ends the call under way by closing its connection, at which the server ends its work."""
        self._cancelled = True
        self._database.cancel_running()

    interrupt = cancel

    @property
    def connected(self) -> bool:
        """False: what was cancelled has lost its connection."""
        return False

    def _cancellable(self, work: Callable[[], T], *, reads: bool) -> T:
        """Returns what `work` returns, on a client that is opened again after a cancelled call.

        Raises for a cancelled call Unavailable where it reads, else OutcomeUnknown.
        """
        self._cancelled = False
        if self._database.closed:
            self._database.connect()
        try:
            return work()
        except Exception as error:
            if not self._cancelled:
                raise
            self._database.close()
            if reads:
                raise Unavailable(self._database.name, "cancelled, and its connection closed") from error
            raise OutcomeUnknown(
                self._database.name, "cancelled, and its connection closed before the answer"
            ) from error
