"""The error for what a server refused."""

from __future__ import annotations

from katax_cli.core.resilience.failure import ConstraintKind, Failure
from katax_cli.errors import (
    CheckViolation,
    ConstraintViolation,
    ForeignKeyViolation,
    NotNullViolation,
    QueryError,
    UniqueViolation,
)

_VIOLATIONS: dict[ConstraintKind, type[ConstraintViolation]] = {
    "unique": UniqueViolation,
    "foreign_key": ForeignKeyViolation,
    "not_null": NotNullViolation,
    "check": CheckViolation,
}


def refusal(connection: str, failure: Failure) -> QueryError:
    """The error for what the server answered no to; of a constraint, its own."""
    words = failure.words._asdict()
    if failure.violation is None:
        return QueryError(connection, failure.message, code=failure.code, **words)
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
