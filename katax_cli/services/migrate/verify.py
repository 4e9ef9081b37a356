"""`-- VERIFY` sections: statements that prove that a migration did what it should. They change nothing."""

from __future__ import annotations

from typing import NamedTuple

from katax_cli.core.sql import Statement
from katax_cli.errors import QueryError, RolledBack
from katax_cli.services.migrate.connection import MigrationConnection
from katax_cli.services.migrate.files.sections import parse, statements
from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.migrate.values import Standing


class _Undo(Exception):
    """Ends a transaction whose work is to be dropped."""


class Proof(NamedTuple):
    """The result of one statement of a VERIFY section."""

    version: str
    name: str
    line: int
    ok: bool
    message: str | None


def verify(migrator: Migrator) -> list[Proof]:
    """Runs the VERIFY sections of all applied migrations, each statement in a transaction that is undone.

    A statement fails when the server refuses it, and when it answers a row of one column that is false, 0 or
    NULL; no rows at all are no failure.
    """
    applied = [
        migration
        for migration in migrator.status()
        if migration.state in ("applied", "modified") and migration.file
    ]
    with migrator.session() as session:
        return [proof for migration in applied for proof in _proofs(migrator, session, migration)]


def _proofs(migrator: Migrator, session: MigrationConnection, standing: Standing) -> list[Proof]:
    file = standing.file
    if file is None or file.is_python or migrator.dialect is None:
        return []
    section = parse(file.text, file.name, migrator.dialect).verify
    checks = statements(section, migrator.dialect) if section is not None else []
    return [_proof(session, standing, statement) for statement in checks]


def _proof(session: MigrationConnection, standing: Standing, statement: Statement) -> Proof:
    message: str | None = None
    if statement.commits_by_itself or statement.begins_or_ends_transaction:
        message = f"no transaction undoes {statement.effect.verb}, so it was not run"
        return Proof(standing.version, standing.name, statement.line, ok=False, message=message)
    try:
        with session.transaction():
            message = _objection(session.run(statement.text).rows)
            raise _Undo
    except _Undo:
        pass
    except RolledBack:
        raise
    except QueryError as error:
        message = error.reason
    return Proof(standing.version, standing.name, statement.line, message is None, message)


def _objection(rows: list[tuple[object, ...]]) -> str | None:
    for row in rows:
        if len(row) == 1 and not row[0]:
            return f"answered {'null' if row[0] is None else row[0]}"
    return None
