"""Compares two texts of one migration: by bytes first, by meaning when those differ."""

from __future__ import annotations

import ast
import difflib
from hashlib import sha256

from katax_cli.core.sql import Dialect, normalise
from katax_cli.errors import MigrationError
from katax_cli.services.migrate.files.sections import parse
from katax_cli.services.migrate.values import MigrationFile


def same_meaning(name: str, applied: str, now: str, dialect: Dialect | None) -> bool:
    """True if both texts apply the same: whitespace, comments and line ends outside literals do not count.

    Of a `.sql` file the UP section and its directives count; DOWN and VERIFY may be improved later.
    """
    return _meaning(name, applied, dialect) == _meaning(name, now, dialect)


def meaning_digest(name: str, text: str, dialect: Dialect | None) -> str:
    """Equal for texts of the same meaning."""
    return sha256(repr(_meaning(name, text, dialect)).encode("utf-8", "surrogatepass")).hexdigest()


def _meaning(name: str, text: str, dialect: Dialect | None) -> object:
    if name.endswith(".py") or dialect is None:
        return _python_meaning(name, text)
    try:
        up = parse(text, name, dialect).up
    except MigrationError:
        return text
    return normalise(up.text, dialect), up.directives.transaction


def _python_meaning(name: str, text: str) -> str:
    try:
        return ast.dump(ast.parse(text, name))
    except (SyntaxError, ValueError):
        return text


def difference(file: MigrationFile, applied: str) -> list[str]:
    """The lines of a unified diff from the applied text to the file; line ends are shown when only they differ."""
    before, after = applied.removeprefix("\ufeff"), file.text
    visible = before.splitlines() == after.splitlines()
    return list(
        difflib.unified_diff(
            _lines(before, visible), _lines(after, visible), "applied", file.name, lineterm="", n=2
        )
    )


def _lines(text: str, visible: bool) -> list[str]:
    return [repr(line)[1:-1] for line in text.splitlines(keepends=True)] if visible else text.splitlines()
