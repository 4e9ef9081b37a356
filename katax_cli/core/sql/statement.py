"""SQL text with what it does: classified once, and carried so to whatever decides about it or runs it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from katax_cli.core.sql.classify import Classification, StatementKind, classify, commits_by_itself
from katax_cli.core.sql.lexer import Dialect, code_tokens
from katax_cli.core.sql.placeholders import CompiledQuery, compile_query
from katax_cli.core.sql.residue import Residue, calls_others, residue
from katax_cli.core.sql.split import pieces

_KEPT_LENGTH = 16_384
_IGNORABLE = frozenset(
    ["\\restrict", "\\unrestrict", "\\echo", "\\qecho", "\\warn", "\\timing", "\\pset", "\\x", "\\a", "\\t"]
)


@dataclass(frozen=True)
class Statement:
    """One statement, alone or of a script; its text is read when that is first asked for, and then never again.

    `text` has no terminator but keeps the comments before it; `offset` is where it starts in the
    script, in characters; `line` is the 1-based line of its first token that is no comment.
    `copy_data` is the block after `COPY … FROM stdin;`, without the closing `\\.`.
    """

    text: str
    dialect: Dialect
    line: int = 1
    offset: int = 0
    copy_data: str | None = None
    client_line: str | None = None
    """A line that means psql, such as `\\restrict key`; no server takes it."""

    @cached_property
    def effect(self) -> Classification:
        """The effect, by its syntax; of several statements in one text the gravest."""
        return classify(self.text, self.dialect)

    @cached_property
    def query(self) -> CompiledQuery:
        """Its placeholders, to be bound. Raises PlaceholderError where styles are mixed."""
        return compile_query(self.text, self.dialect)

    @property
    def kind(self) -> StatementKind:
        return self.effect.kind

    @cached_property
    def residue(self) -> Residue:
        """The part of its session that it may change."""
        return residue(self.text, self.dialect, self.effect)

    @cached_property
    def calls_others(self) -> bool:
        """True when it calls a function that is not known to change nothing."""
        return calls_others(self.text, self.dialect)

    @cached_property
    def commits_by_itself(self) -> bool:
        """True for what MySQL commits before and after it runs, along with everything before it in the transaction."""
        return commits_by_itself(self.text, self.dialect, self.effect)

    @property
    def begins_or_ends_transaction(self) -> bool:
        """True for BEGIN, COMMIT, ROLLBACK and their like; going back to a savepoint does neither."""
        verb = self.effect.verb
        if verb == "ROLLBACK":
            words = {token.text.upper() for token in code_tokens(self.text, self.dialect)}
            return "TO" not in words
        return verb in ("BEGIN", "START", "COMMIT", "END", "ABORT")

    @property
    def ends_transaction(self) -> bool:
        """True for COMMIT, ROLLBACK and their like."""
        return self.begins_or_ends_transaction and self.effect.verb not in ("BEGIN", "START")

    @property
    def is_ignorable(self) -> bool:
        """True for a line for psql without which the script does the same."""
        words = (self.client_line or "").split()
        return bool(words) and (words[0] in _IGNORABLE or words[:2] == ["\\set", "ON_ERROR_STOP"])


AnySql = str | Statement
"""SQL as callers give it: a text, or a statement that was read before."""


def statement_of(sql: AnySql, dialect: Dialect) -> Statement:
    """The statement of a text, the same one for the same text while it is short; a statement as it is."""
    if isinstance(sql, Statement):
        return sql
    return _kept(sql, dialect) if len(sql) <= _KEPT_LENGTH else Statement(sql, dialect)


@lru_cache(maxsize=1024)
def _kept(text: str, dialect: Dialect) -> Statement:
    return Statement(text, dialect)


def split(text: str, dialect: Dialect) -> Iterator[Statement]:
    """The statements of a script, lazily and in one pass; see `pieces`."""
    for piece in pieces(text, dialect):
        yield Statement(piece.text, dialect, *piece[1:])
