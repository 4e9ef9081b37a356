"""`db.users.find({…}).limit(5)`: calls as MongoDB's shell writes them, their arguments in JSON."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from katax_cli.core.text.nesting import check_nesting

_NAME = re.compile(r"\s*([A-Za-z_$][\w$]*(?:\.[\w$-]+)*)")
_DECODER = json.JSONDecoder(strict=False)
_SHOW = re.compile(r"show\s+(collections|tables|dbs|databases)", re.IGNORECASE)
_OF_DATABASE = re.compile(r"db\s*\.\s*getCollection\s*\(\s*|db\s*\[\s*")


class MethodCall(NamedTuple):
    """One call of a chain; `arguments` are JSON texts."""

    name: str
    arguments: tuple[str, ...] = ()


class MongoCall(NamedTuple):
    """A chain of calls on a collection, on the database (`collection` is None), or `show WHAT` as a call `show`."""

    collection: str | None
    calls: tuple[MethodCall, ...]


def parse_call(text: str) -> MongoCall:
    """Reads one call. Raises ValueError that says where it stopped and what is expected."""
    text = text.strip().removesuffix(";").rstrip()
    if match := _SHOW.fullmatch(text):
        what = "collections" if match[1].lower() in ("collections", "tables") else "dbs"
        return MongoCall(None, (MethodCall("show", (json.dumps(what),)),))
    check_nesting(text)
    return _CallReader(text).call()


def is_whole(text: str) -> bool:
    """True when every bracket and quote of a call is closed, so that nothing of it is still to come."""
    depth = 0
    quoted = escaped = False
    for c in text:
        if quoted:
            escaped, quoted = (not escaped and c == "\\"), escaped or c != '"'
        elif c == '"':
            quoted = True
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
    return depth <= 0 and not quoted


class _CallReader:
    """Reads from left to right; `_at` is the next character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def call(self) -> MongoCall:
        collection, names = self._target()
        if collection is None and len(names) > 1:
            collection = ".".join(names[:-1])
        calls = [MethodCall(names[-1], self._arguments())]
        while not self._ended():
            self._take(".")
            calls.append(MethodCall(self._name(), self._arguments()))
        return MongoCall(collection, tuple(calls))

    def _target(self) -> tuple[str | None, list[str]]:
        """The collection, where its name is quoted, and the names up to the first `(`."""
        if match := _OF_DATABASE.match(self._text):
            self._at = match.end()
            name = json.loads(self._value())
            if not isinstance(name, str):
                raise ValueError("the name of a collection is a string")
            self._take(")" if "(" in match[0] else "]")
            self._take(".")
            return name, [self._name()]
        if not re.match(r"db\s*\.", self._text):
            raise ValueError("a call begins with 'db.', such as db.users.find({}); \\? lists the others")
        self._at = self._text.index(".") + 1
        return None, self._name().split(".")

    def _name(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            raise self._unexpected("a name")
        self._at = match.end()
        return match[1]

    def _arguments(self) -> tuple[str, ...]:
        self._take("(")
        arguments: list[str] = []
        while self._next() != ")":
            if arguments:
                self._take(",")
            arguments.append(self._value())
        self._take(")")
        return tuple(arguments)

    def _value(self) -> str:
        self._next()
        start = self._at
        try:
            _, self._at = _DECODER.raw_decode(self._text, start)
        except json.JSONDecodeError as error:
            self._at = error.pos
            raise self._unexpected("JSON, with names in double quotes") from error
        return self._text[start : self._at]

    def _next(self) -> str:
        """The next character that is no space; the empty string at the end."""
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _take(self, expected: str) -> None:
        if self._next() != expected:
            raise self._unexpected(repr(expected))
        self._at += 1

    def _ended(self) -> bool:
        return self._next() == ""

    def _unexpected(self, expected: str) -> ValueError:
        seen = self._text[self._at : self._at + 12]
        return ValueError(
            f"expected {expected} at column {self._at + 1}, found {seen!r}"
            if seen
            else f"expected {expected} at the end"
        )
