"""Names of columns and conditions as people write them: parsed into values, so that no text becomes SQL."""

from __future__ import annotations

import re
from typing import NamedTuple

FUNCTIONS = ("count", "sum", "avg", "min", "max", "lower", "upper", "length", "abs")
OPERATORS = ("=", "!=", "<>", "<=", ">=", "<", ">", "like", "not like", "in", "not in", "is", "is not")
_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*){0,2}"
_CALL = rf"(?P<function>\w+)\s*\(\s*(?P<distinct>distinct\s+)?(?P<argument>{_NAME}|\*)\s*\)"
_TERM = rf"\s*(?:{_CALL}|(?P<name>(?:{_NAME}\.)?\*|{_NAME}))(?:\s+as\s+(?P<alias>[^\W\d]\w*))?\s*"
_PAIR = rf"\s*({_NAME})\s*(=|!=|<>|<=|>=|<|>)\s*({_NAME})\s*"


class Term(NamedTuple):
    """`table.name`, `*`, or a function of one, perhaps with an alias. `path`: its names, from the outermost."""

    path: tuple[str, ...]
    alias: str | None = None
    function: str | None = None
    distinct: bool = False


def parse_term(text: str) -> Term:
    """Raises ValueError for anything but a name, `*`, or one of FUNCTIONS of one, each perhaps `as alias`."""
    match = re.fullmatch(_TERM, text, re.IGNORECASE)
    function = match["function"].lower() if match and match["function"] else None
    if match is None or (function is not None and function not in FUNCTIONS):
        raise ValueError(
            f"{text!r} is no column: write name, table.name, * or {'|'.join(FUNCTIONS)}(name), perhaps 'as alias'"
        )
    path = tuple((match["argument"] or match["name"]).split("."))
    return Term(path, match["alias"], function, bool(match["distinct"]))


def parse_name(text: str, what: str = "table") -> tuple[str, ...]:
    """`name` or `schema.name`. Raises ValueError."""
    if not re.fullmatch(_NAME, text):
        raise ValueError(f"{text!r} is no name of a {what}: write letters, digits and _, or schema.name")
    return tuple(text.split("."))


def parse_on(text: str) -> list[tuple[Term, str, Term]]:
    """`a.id = b.a_id and …` of a join. Raises ValueError."""
    found = []
    for part in re.split(r"\s+and\s+", text, flags=re.IGNORECASE):
        match = re.fullmatch(_PAIR, part)
        if match is None:
            raise ValueError(f"{part!r} is no join: write table.column = other.column")
        found.append((parse_term(match[1]), match[2], parse_term(match[3])))
    return found
