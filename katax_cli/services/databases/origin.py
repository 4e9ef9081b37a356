"""The origin of sessions and transactions: the database that leases their connection, and what its role allows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.sql import Statement
from katax_cli.engines.base import ReadOnlyGuard, SqlEngine
from katax_cli.errors import Refused, WrongEngine, unknown_name
from katax_cli.services.calls.guard import Guard, Safety
from katax_cli.services.calls.observer import Observer

_NO_GUARD = nullcontext()


Isolation = Literal["read uncommitted", "read committed", "repeatable read", "serializable"]
_LEVELS: tuple[Isolation, ...] = get_args(Isolation)


@dataclass(frozen=True, slots=True)
class TransactionMode:
    """The characteristics of one transaction: None and False as the session has it."""

    isolation: Isolation | None = None
    read_only: bool = False
    deferrable: bool = False

    def __post_init__(self) -> None:
        if self.deferrable and not (self.read_only and self.isolation == "serializable"):
            raise ValueError('deferrable=True needs isolation="serializable" and read_only=True')
        if self.isolation not in (None, *_LEVELS):
            raise ValueError(unknown_name("isolation level", str(self.isolation), _LEVELS, "levels"))

    def characteristics(self, engine: SqlEngine) -> str:
        """The words after BEGIN or SET TRANSACTION; SQLite's transactions are serializable, whatever was asked for."""
        if self.deferrable and not engine.facts.deferrable:
            lacks, wanted_by = "deferrable transactions", "transaction(deferrable=True)"
            raise WrongEngine(engine.name, lacks, wanted_by=wanted_by, works_on=("postgresql",))
        level = f"ISOLATION LEVEL {self.isolation.upper()}" if self.isolation else ""
        return f"{level}{' DEFERRABLE' if self.deferrable else ''}".strip()


@dataclass(frozen=True, slots=True)
class TransactionOrigin:
    """The origin of a transaction: engine, guard and observer of its connection, and how to lease one."""

    engine: SqlEngine
    guard: Guard
    lease: Callable[[Deadline], AbstractContextManager[Any]]
    observer: Observer
    mode: TransactionMode = TransactionMode()

    @property
    def read_only(self) -> bool:
        return self.engine.settings.read_only or self.mode.read_only

    def safety(self, statement: Statement) -> Safety:
        """The safety of a statement that lasts: READ only when the server enforces it; what merely looks like a read is
        not repeated."""
        if self.read_only:
            return Safety.READ
        return Safety.LOOKUP if statement.effect.kind == "read" else Safety.WRITE

    @property
    def begin(self) -> tuple[str, ...]:
        """The statements that begin a transaction that may write."""
        facts, wanted = self.engine.facts, self.mode.characteristics(self.engine)
        if not wanted or not facts.begin_as:
            return (facts.begin,)
        return tuple(sql.format(wanted) for sql in facts.begin_as)

    def refuse_unless_reading(self, statement: Statement) -> None:
        """Raises Refused on a read-only connection for what is not known to read; the server refuses the rest."""
        if self.read_only and statement.kind != "read":
            what = statement.effect.verb or "this statement"
            name = repr(self.engine.settings.name)
            reads = name if self.engine.settings.read_only else f"this transaction on {name}"
            raise Refused(f"{reads} is read-only; {what} is not known to read")

    def reading(self, connection: Any) -> AbstractContextManager[None]:
        """On a read-only connection a transaction that the server keeps from writing, read back; else nothing."""
        if not self.read_only:
            return _NO_GUARD
        assert isinstance(self.engine, ReadOnlyGuard)
        return self.engine.read_only(connection, self.mode.characteristics(self.engine))

    def guarded(self, connection: Any, statement: Statement) -> AbstractContextManager[None]:
        """Around one statement: both of them."""
        self.refuse_unless_reading(statement)
        return self.reading(connection)
