"""The error for what a server refused."""

from __future__ import annotations

from katax_cli.core.resilience.failure import ConstraintKind, Failure, FailureKind
from katax_cli.errors import (
    CheckViolation,
    ConstraintViolation,
    DeadlockDetected,
    ForeignKeyViolation,
    NotNullViolation,
    QueryError,
    RolledBack,
    SerializationFailure,
    UniqueViolation,
)

_VIOLATIONS: dict[ConstraintKind, type[ConstraintViolation]] = {
    "unique": UniqueViolation,
    "foreign_key": ForeignKeyViolation,
    "not_null": NotNullViolation,
    "check": CheckViolation,
}
_ROLLED_BACK: dict[FailureKind, type[RolledBack]] = {
    FailureKind.ROLLED_BACK: SerializationFailure,
    FailureKind.DEADLOCK: DeadlockDetected,
}


def refusal(connection: str, failure: Failure) -> QueryError:
    """The error for what the server answered no to; constraints and conflicts of transactions have their own."""
    words = failure.words._asdict()
    if failure.violation is None:
        made = _ROLLED_BACK.get(failure.kind, QueryError)
        return made(connection, failure.message, code=failure.code, **words)
    kind, constraint, table, column = failure.violation
    return _VIOLATIONS[kind](
        connection,
        failure.message,
        constraint=constraint,
        table=table,
        column=column,
        code=failure.code,
        **words,
    )
