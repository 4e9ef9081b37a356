"""A connection as SQLAlchemy wants one, which holds none: each of its statements is a guarded call of katax.

Pool, role, deadline, breaker and metrics therefore hold for models by construction. Transactions are katax's own:
`commit` and `rollback` of this connection do nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, NoReturn

from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.engines.base import Row
from katax_cli.services.databases.builder.selection import RunsStatements

_NO_TYPE = (None,) * 6


class Origin(NamedTuple):
    """A database or one connection of it, and until when its statements may run."""

    on: RunsStatements
    deadline: Deadline = NEVER

    def seconds(self) -> float | None:
        """The time that is left for the next statement. Raises DeadlineExceeded when there is none."""
        self.deadline.check(self.on.engine.settings.name, "the call")
        return self.deadline.within(None)


origin: ContextVar[Origin] = ContextVar("katax_models_origin")
"""The origin of the connections that SQLAlchemy opens in this context."""


class BridgeConnection:
    """Python's database API over the origin of its context."""

    def __init__(self) -> None:
        self.origin = origin.get()

    def cursor(self, *_: object, **__: object) -> BridgeCursor:
        return BridgeCursor(self.origin)

    def character_set_name(self) -> str:
        """The character set of katax's MySQL sessions."""
        return "utf8mb4"

    def commit(self) -> None:
        """Does nothing: see the module."""

    rollback = close = commit


class BridgeCursor:
    """The result of one statement, whole."""

    arraysize = 1

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._rows: list[Row] = []
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1
        self.told = b""

    def execute(self, sql: str, params: Sequence[object] = ()) -> None:
        result = self._origin.on.run(sql, params, timeout=self._origin.seconds())
        self._rows = result.rows
        self.rowcount = result.affected
        self.told = result.told
        self.description = [(name, *_NO_TYPE) for name in result.columns] if result.columns else None

    def executemany(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        self.rowcount = self._origin.on.execute_many(sql, rows, timeout=self._origin.seconds())

    @property
    def lastrowid(self) -> int:
        """The number that the server gave the last row; only where it cannot return the row itself."""
        [(number,)] = self._origin.on.run("SELECT last_insert_id()", timeout=self._origin.seconds()).rows
        return int(number)

    def fetchone(self) -> Row | None:
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, size: int = arraysize) -> list[Row]:
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows

    def fetchall(self) -> list[Row]:
        rows, self._rows = self._rows, []
        return rows

    def close(self) -> None:
        self._rows = []

    def callproc(self, *_: object) -> NoReturn:
        raise ValueError("models call no procedures; use query()")
