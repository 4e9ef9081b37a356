"""Conditions and values as people write them: `age >= 18`, `role in (admin, owner)`, `name = :n`.

Everything behind the operator is one value, which is bound and never becomes SQL. Text that a person may have meant
as more than a value (`x or 1=1`, `now()`, the `=` of `==`) is refused unless it is quoted: bound as it stands it would
compare with a value that was not stored, and `!=` and `<` would then hold for every row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from katax_cli.core.sql.terms import OPERATORS

_QUOTES = "'\""
_OPERATOR = (
    r"\s*(?P<symbol><=|>=|<>|!=|=|<|>)|(?:\s+|(?<=\)))(?P<word>not\s+like|not\s+in|is\s+not|like|in|is)\b"
)
_CONDITION = rf"\s*(?P<term>[^\s=!<>(]+(?:\s*\([^)]*\))?)(?:{_OPERATOR})(?P<value>.*)"
_BOUND = r":([^\W\d]\w*)"
_QUOTED = r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\""
_ELEMENT = rf"\s*(?:(?P<quoted>{_QUOTED})|(?P<plain>[^,'\"\s][^,]*))\s*(?:,|\Z)"
_IS: dict[str, bool | None] = {"null": None, "true": True, "false": False}

# How SQL would go on behind a value. Possessive, so that long input costs no more than its length.
_COMPARED = (
    r"(?:[=!<>~^|]|(?:not\s+)?(?:like|ilike|rlike|regexp|glob|match|in|between)\b|is(?:null)?\b|notnull\b)"
)
_OPERAND = r"[-+@$:~!]*+(?:\w*+'[^']*+'|\"[^\"]*+\"|`[^`]*+`|\[[^]]*+\]|[\w.]++(?:\s*+\([^()]*+\))?)"
_CALCULATED = rf"{_OPERAND}(?:\s*+[-+*/%&]\s*+{_OPERAND}){{0,16}}+"
_CONNECTED = (
    r"(?<!\w)(?:and|or|xor|where|having|(?<=\s)&&|(?<=\s)\|\|)(?!\w)[(\s]*+(?:not\b[(\s]*+)?"
    r"(?:exists\s*\(|select\s|case\s+(?:\S+\s+)?when\b|(?:true|false|null|[\d.]+)[\s)]*+\Z"
    rf"|{_CALCULATED}[\s)]*+{_COMPARED})"
)
_NEXT_PAIR = rf"[,;]\s*+{_OPERAND}\s*+[=!<>]"
_CLAUSE = (
    r"\s(?:(?:order|group)\s+by\s+[\w\"`\[]|limit\s+\d+|union\s+(?:all\s+)?select|collate\s+\w+\s*\Z|escape\s+['\"]"
    r"|(?:and|or|xor|not|\|\||&&)\s*\Z|(?:\|\||&&)\s|--(?:\s|\Z))"
    r"|;\s*+(?:\Z|(?:delete\s+from|drop|truncate|insert\s+into|select)\s)"
)
_MORE = rf"{_CONNECTED}|{_NEXT_PAIR}"
# Conditions of other shapes: `and data->>'a' = 'b'`, `and (n + 1) * 2 > 5`, `and starts_with(name, 'A')`.
_CONNECTS = r"(?<!\w)(?:and|or|xor|where|having)(?=[\s(/\"`\[!~+-])|(?<=\s)(?:\|\||&&)"
_COMPUTES = r"[=<>~^]|(?<=\s)\||!\w|::|\w[(\[]"

# What SQL would compute.
_TYPES = (
    "text|varchar|char|int|integer|bigint|smallint|numeric|real|date|time|timestamp|timestamptz|interval|uuid"
    "|jsonb?|bool|boolean"
)
_COMPUTED = (
    r"\(.*\)|[^\W\d][\w.]*\(.*\).*|case\s+when\b.*|select\s.+|exists\s*\(.*|not\s+(?:null|true|false)"
    rf"|.*\S::(?:{_TYPES})(?:\(.*\)|\[\])?|[^\W\d][\w&]*\s*'.*'"
    r"|current_(?:date|time|timestamp|user|role|schema)|local(?:time|timestamp)|session_user|sysdate"
)

# Names that are columns only where the table has such a column: alone, calculated or compared with, behind `and`.
_ALONE = r"\A(?P<alone>[^\W\d][\w.]*)\s*(?=\Z|[-+*/%|])"
_COMPARED_NAME = r"(?:\A|(?<=\s))(?P<compared>[^\W\d][\w.]*)\s*(?=[=!<>])"
_CONNECTOR = r"(?:(?<!\w)(?:and|or|xor|where|having)(?!\w)|(?<=\s)(?:\|\||&&))"
_QUOTED_NAME = r"\"[^\"]{1,128}+\"|`[^`]{1,128}+`|\[[^]]{1,128}+\]"
_NAME = rf"(?:[^\W\d]\w*+|{_QUOTED_NAME})(?:\.(?:\w++|{_QUOTED_NAME}))*+"
_WORDS = (
    "and|or|xor|is|isnull|notnull|not|in|i?like|rlike|regexp|glob|match|between|similar|sounds|member|overlaps"
    "|collate|div|mod"
)
_ENDS = rf"(?=\s*+(?:\Z|[^\w\s,.;:?'\"]|(?:{_WORDS})\b))"
_CONNECTED_NAME = rf"{_CONNECTOR}[\s(!~+-]*+(?:not\b[\s(!~+-]*+)*+(?P<connected>{_NAME}){_ENDS}"
# What a function gets: `and starts_with (name, 'A')`.
_GIVEN_NAME = rf"[(,][\s~+-]*+(?P<given>{_NAME})(?=\s*+[^\w\s.;:?'\"])"
_NAMES = rf"{_ALONE}|{_COMPARED_NAME}|{_CONNECTED_NAME}"
_URL = r"(?<!\w)\w++://[^\s'\"`]++"
_FLAGS = re.IGNORECASE | re.DOTALL


class Value(NamedTuple):
    """A value as it was written: a `word` as it stands, what stood in quotes, or the name of a `bound` value."""

    text: str
    kind: Literal["word", "quoted", "bound"] = "word"


class Condition(NamedTuple):
    """A column, or a function of one; an operator; its values: one, several for IN, a constant for IS."""

    term: str
    op: str
    values: tuple[Value, ...] = ()
    constant: bool | None = None


def parse_condition(text: str) -> Condition:
    """Raises ValueError for what is no condition, and for a value that may be meant as more than a value."""
    match = re.fullmatch(_CONDITION, text, _FLAGS)
    if match is None:
        raise ValueError(f"{text!r} is no condition: write 'column OP value' with {' '.join(OPERATORS)}")
    op = " ".join((match["symbol"] or match["word"]).lower().split())
    value = match["value"].strip()
    if op in ("is", "is not"):
        if value.lower() not in _IS:
            raise ValueError(f"{text!r}: IS takes null, true or false")
        return Condition(match["term"], op, constant=_IS[value.lower()])
    if op in ("in", "not in"):
        return Condition(match["term"], op, tuple(_elements(text, value)))
    if not value:
        raise ValueError(f"{text!r} has no value; write '' for an empty text")
    return Condition(match["term"], op, (_known(parse_value(value, compared=True), text),))


def parse_value(text: str, *, compared: bool = False) -> Value:
    """A value: a word, `'quoted'` with quotes inside it doubled, or `:name`.

    Raises ValueError for a word that begins with an operator or goes on with another condition; where it is
    `compared` also for one that goes on with another clause, or that SQL would compute.
    """
    if text[:1] and text[0] in _QUOTES:
        if not re.fullmatch(_QUOTED, text, re.DOTALL):
            raise ValueError(
                f"{text!r} has text after its quotes; quote the whole value, quotes inside it doubled"
            )
        return Value(text[1:-1].replace(text[0] * 2, text[0]), "quoted")
    bound = re.fullmatch(_BOUND, text)
    if bound:
        return Value(bound[1], "bound")
    if re.match(r"\s*[=!<>~^|&]", text):
        raise ValueError(f"{text!r} begins with an operator; {_quote_it(text)}")
    seen = _without_urls(text)
    if re.search(_MORE, seen, _FLAGS) or (compared and (_goes_on(seen) or _has_clause(seen))):
        raise ValueError(f"{text!r} has SQL after the value; {_quote_it(text)}, or write two conditions")
    if compared and re.fullmatch(_COMPUTED, text, _FLAGS):
        raise ValueError(f"{text!r} would be bound as text, not evaluated as SQL; {_quote_it(text)}")
    return Value(text)


def _goes_on(text: str) -> bool:
    connector = re.search(_CONNECTS, text, _FLAGS)
    return connector is not None and bool(re.compile(_COMPUTES).search(text, connector.end()))


def _has_clause(text: str) -> bool:
    return bool(re.search(_CLAUSE, text, _FLAGS)) or 0 <= text.find("/*") < text.rfind("*/")


def named_in(word: str) -> list[str]:
    """Names in a word that SQL would read as columns, if there are such columns."""
    text = _without_urls(word.strip())
    found = list(re.finditer(_NAMES, text, _FLAGS))
    connector = re.search(_CONNECTOR, text, _FLAGS)
    if connector is not None:
        found += re.compile(_GIVEN_NAME, _FLAGS).finditer(text, connector.end())
    return [re.sub(r"[\"`\[\]]", "", match[str(match.lastgroup)]) for match in found]


def _without_urls(text: str) -> str:
    """The same with `_` for what in an address looks like SQL."""
    return re.sub(_URL, lambda url: re.sub(r"[=|&]", "_", url[0]), text)


def _elements(text: str, value: str) -> Iterator[Value]:
    """The values of a list, in parentheses or not."""
    opens, closes = value.startswith("("), value.endswith(")")
    inner = value[1:-1].strip() if opens and closes else value
    if opens != closes or not inner or inner[0] in "[{":
        raise ValueError(
            f"{text!r}: IN takes values in parentheses, such as (a, 'b, c'), and nothing behind them"
        )
    position = 0
    while position < len(inner):
        match = re.compile(_ELEMENT, re.DOTALL).match(inner, position)
        if match is None or (match[0].endswith(",") and match.end() == len(inner)):
            raise ValueError(f"{text!r}: a value of the list is empty or not closed; quote it")
        plain = match["plain"] or ""
        if "(" in plain or ")" in plain:
            raise ValueError(f"{text!r}: {plain.strip()!r} holds a parenthesis; quote the values of the list")
        yield _known(parse_value(match["quoted"] or plain.rstrip(), compared=True), text)
        position = match.end()


def _known(value: Value, text: str) -> Value:
    if value.kind == "word" and value.text.lower() == "null":
        raise ValueError(
            f"{text!r} matches no row; write IS NULL or IS NOT NULL, or quote it for the text 'null'"
        )
    return value


def _quote_it(text: str) -> str:
    quoted = "'" + text.replace("'", "''") + "'"
    return f"quote it ({quoted}) if all of it is the value"
