"""SQL as text: tokens, statements, placeholders, classification, redaction. Pure; knows three dialects."""

from katax_cli.core.sql.classify import Classification, StatementKind, classify
from katax_cli.core.sql.lexer import (
    Dialect,
    Token,
    code_tokens,
    comments,
    find_outside_literals,
    mentioned,
    quote_identifier,
    statement_code,
    tokens,
)
from katax_cli.core.sql.placeholders import (
    CompiledQuery,
    PlaceholderError,
    compile_query,
    with_values,
)
from katax_cli.core.sql.redact import fingerprint, normalise, redact
from katax_cli.core.sql.residue import Residue
from katax_cli.core.sql.split import ends_statement
from katax_cli.core.sql.statement import AnySql, Statement, split, statement_of

__all__ = [
    "AnySql",
    "Classification",
    "CompiledQuery",
    "Dialect",
    "PlaceholderError",
    "Residue",
    "Statement",
    "StatementKind",
    "Token",
    "classify",
    "code_tokens",
    "comments",
    "compile_query",
    "ends_statement",
    "find_outside_literals",
    "fingerprint",
    "mentioned",
    "normalise",
    "quote_identifier",
    "redact",
    "split",
    "statement_code",
    "statement_of",
    "tokens",
    "with_values",
]
