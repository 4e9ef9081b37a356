"""Tells beforehand what no rollback would undo of statements that change rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from katax_cli.core.sql import Statement, mentioned, split
from katax_cli.engines.migrations import DdlImpacts, LacksTransactions
from katax_cli.engines.registry import part
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.sql import SqlDatabase


class Unprotected(NamedTuple):
    """Why no rollback undoes all of some statements; `divides`: they cannot even run in one transaction."""

    reason: str
    divides: bool


def unprotected(database: SqlDatabase, statements: Sequence[Statement]) -> Unprotected | None:
    """The first reason that is found; None when a transaction protects all of it.

    Asks the server for its tables without transactions, where it has such.
    """
    abilities = part(database.engine, "migrate")
    for statement in statements:
        why = _dividing(statement, abilities)
        if why is not None:
            return Unprotected(f"line {statement.line}: {why}", divides=True)
    if isinstance(abilities, LacksTransactions):
        named = set().union(*(mentioned(statement.text, statement.dialect) for statement in statements))
        lacking = database.ask(
            lambda connection, _: abilities.without_transactions(connection),
            safety=Safety.READ,
            doing="asking for tables without transactions",
        )
        kept = sorted(named & lacking)
        if kept:
            return Unprotected(f"{', '.join(kept)}: no rollback undoes what is written there", divides=False)
    return None


def _dividing(statement: Statement, abilities: DdlImpacts) -> str | None:
    """Why a statement cannot stand in a transaction with others."""
    verb = statement.effect.verb
    if len(list(islice(split(statement.text, statement.dialect), 2))) > 1:
        return "it is more than one statement"
    if statement.begins_or_ends_transaction:
        return f"{verb} begins or ends a transaction"
    if statement.commits_by_itself:
        return f"{statement.dialect} commits at {verb}"
    return None if abilities.impact(statement).transactional else f"{verb} runs in no transaction"
