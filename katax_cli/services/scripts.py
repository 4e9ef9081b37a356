"""SQL scripts: statement by statement, in one transaction where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import Statement, classify
from katax_cli.errors import Refused
from katax_cli.services.sql import SqlDatabase
from katax_cli.services.transaction import Transaction


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """How many statements there were, ran, and the rows that they changed."""

    statements: int
    executed: int
    affected: int


def destructive_reasons(statements: Sequence[Statement], settings: ConnectionSettings) -> list[str]:
    """Why statements lose data that they do not name, one reason each; empty when none does."""
    assert settings.type in ("postgresql", "mysql", "sqlite")
    found = [classify(statement.text, settings.type) for statement in statements]
    return [one.reason or one.verb for one in found if one.destructive]


def run_script(
    database: SqlDatabase,
    statements: Sequence[Statement],
    *,
    single_transaction: bool = False,
    max_rows: int | None = None,
) -> ScriptResult:
    """Runs the statements in order; the first error stops it and is raised.

    Raises Refused, after undoing it, for a statement that changes more than `max_rows` rows.
    """
    affected = 0
    with database.transaction() if single_transaction else nullcontext(database) as target:
        for statement in statements:
            affected += max(0, _run(target, statement, max_rows))
    return ScriptResult(len(statements), len(statements), affected)


def _run(target: SqlDatabase | Transaction, statement: Statement, max_rows: int | None) -> int:
    if max_rows is None:
        return target.execute(statement.text)
    with target.transaction() as transaction:
        changed = transaction.execute(statement.text)
        if changed > max_rows:
            raise Refused(
                f"line {statement.line} changes {changed} rows, more than --max-rows-affected {max_rows}; undone"
            )
    return changed
