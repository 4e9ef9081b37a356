"""SQL as text: tokens, statements, placeholders, classification, redaction. Pure; knows three dialects."""

from .classify import Classification, StatementKind, classify, commits_by_itself
from .lexer import Dialect, Kind, Token, code_tokens, find_outside_literals, quote_identifier, tokens
from .placeholders import CompiledQuery, DriverParams, Params, PlaceholderError, Style, compile_query
from .redact import fingerprint, normalise, redact
from .residue import Residue, residue
from .split import Statement, split

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
]
