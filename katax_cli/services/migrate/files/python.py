"""Migrations in Python: `up(db)` and `down(db)`, with steps where no transaction protects them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from katax_cli.core.callables import completed, plain
from katax_cli.core.sql import AnySql
from katax_cli.core.text.duration import Duration
from katax_cli.engines.base import Params, Result
from katax_cli.errors import MigrationError, UntrustedFile
from katax_cli.profiles.sources.ownership import refuse_untrusted
from katax_cli.services.databases.statements import Queries
from katax_cli.services.migrate.values import Direction, Directives, MigrationFile

_NO_TRANSACTION = re.compile(r"^#[ \t]*katax:[ \t]*no-transaction\b", re.MULTILINE)


class Steps(Protocol):
    """Remembers which steps of a migration are done."""

    def begin(self, name: str) -> bool:
        """Ends the step before, begins this one; False when it is done already."""
        ...


class Once:
    """Steps inside a transaction: all of them run, and all are undone together."""

    def begin(self, name: str) -> bool:
        return True


class MigrationDb(Queries):
    """The argument of `up(db)` and `down(db)` on an SQL engine."""

    def __init__(self, session: Queries, steps: Steps) -> None:
        self.engine = session.engine
        self._session = session
        self._steps = steps

    def run(
        self, sql: AnySql, params: Params = None, *, timeout: Duration | None = None, idempotent: bool = False
    ) -> Result:
        return self._session.run(sql, params, timeout=timeout, idempotent=idempotent)

    def execute_many(self, sql: AnySql, rows: Sequence[Params], *, timeout: Duration | None = None) -> int:
        return self._session.execute_many(sql, rows, timeout=timeout)

    def step(self, name: str) -> bool:
        """`if db.step("backfill"): …` runs its block once, also when the migration is resumed."""
        return self._steps.begin(name)


def load(file: MigrationFile, direction: Direction) -> Callable[[Any], object] | None:
    """The function of a direction; None when the file has none. Runs the file's own code.

    Raises MigrationError when it cannot be run, UntrustedFile when others could have written it.
    """
    refuse_untrusted(file.path)
    namespace: dict[str, Any] = {"__name__": f"migration_{file.version}", "__file__": file.path}
    try:
        exec(compile(file.text, file.path, "exec"), namespace)
    except (UntrustedFile, MigrationError):
        raise
    except Exception as error:
        raise MigrationError(
            f"migration {file.name} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    function = namespace.get(direction)
    return _plain(file, direction, function) if callable(function) else None


def _plain(
    file: MigrationFile, direction: Direction, function: Callable[[Any], object]
) -> Callable[[Any], object]:
    """The function, which must not hand back a coroutine: that would be recorded as applied and never run."""
    try:
        plain(function, direction)
    except TypeError as error:
        raise MigrationError(f"migration {file.name} cannot be run: {error}") from error
    return lambda db: completed(function(db), function, f"{direction}()")


def directives(text: str) -> Directives:
    """`# katax: no-transaction` in a line of its own."""
    return Directives(transaction=_NO_TRANSACTION.search(text) is None)
