"""The origin of sessions and transactions: the database that leases their connection, and what its role allows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.sql import Statement
from katax_cli.engines.base import ReadOnlyGuard, SqlEngine
from katax_cli.errors import Refused
from katax_cli.services.calls.guard import Guard
from katax_cli.services.calls.observer import Observer

_NO_GUARD = nullcontext()


@dataclass(frozen=True, slots=True)
class TransactionOrigin:
    """The origin of a transaction: engine, guard and observer of its connection, and how to lease one."""

    engine: SqlEngine
    guard: Guard
    lease: Callable[[Deadline], AbstractContextManager[Any]]
    observer: Observer

    @property
    def read_only(self) -> bool:
        return self.engine.settings.read_only

    def refuse_unless_reading(self, statement: Statement) -> None:
        """Raises Refused on a read-only connection for what is not known to read; the server refuses the rest."""
        if self.read_only and statement.kind != "read":
            what = statement.effect.verb or "this statement"
            raise Refused(f"{self.engine.settings.name!r} is read-only; {what} is not known to read")

    def reading(self, connection: Any) -> AbstractContextManager[None]:
        """On a read-only connection a transaction that the server keeps from writing, read back; else nothing."""
        if not self.read_only:
            return _NO_GUARD
        assert isinstance(self.engine, ReadOnlyGuard)
        return self.engine.read_only(connection)

    def guarded(self, connection: Any, statement: Statement) -> AbstractContextManager[None]:
        """Around one statement: both of them."""
        self.refuse_unless_reading(statement)
        return self.reading(connection)
