"""SQL as text: tokens, statements, placeholders, classification, redaction. Pure; knows three dialects."""

from katax_cli.core.sql.classify import Classification, StatementKind, classify, commits_by_itself
from katax_cli.core.sql.lexer import (
    Dialect,
    Kind,
    Token,
    code_tokens,
    find_outside_literals,
    quote_identifier,
    tokens,
)
from katax_cli.core.sql.placeholders import (
    CompiledQuery,
    DriverParams,
    Params,
    PlaceholderError,
    Style,
    compile_query,
    with_values,
)
from katax_cli.core.sql.redact import fingerprint, normalise, redact
from katax_cli.core.sql.residue import Residue, residue
from katax_cli.core.sql.split import Statement, split

__all__ = [
    "Classification",
    "CompiledQuery",
    "Dialect",
    "DriverParams",
    "Kind",
    "Params",
    "PlaceholderError",
    "Residue",
    "Statement",
    "StatementKind",
    "Style",
    "Token",
    "classify",
    "code_tokens",
    "commits_by_itself",
    "compile_query",
    "find_outside_literals",
    "fingerprint",
    "normalise",
    "quote_identifier",
    "redact",
    "residue",
    "split",
    "tokens",
    "with_values",
]
