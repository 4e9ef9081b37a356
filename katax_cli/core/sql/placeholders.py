"""`$1`, `?` and `:name` for every SQL engine.

Which style a statement uses:

* `$1`, `$2` (SQLite's `?1` too) may repeat and stand in any order; `?` takes values one by one;
  `:name` (SQLite's `@name` and `$name` too) takes them from a mapping. Mixing styles is an error.
* PostgreSQL's jsonb operators: `?|`, `?&` and `@?` are always operators (so `?||'x'` is a placeholder and
  a concatenation), `??` is an escaped `?` operator. A lone `?` is an operator in a statement that uses
  `$1` or `:name`, and where an operand stands before and after it (`data ? 'key'`);
  keywords such as LIMIT or AND are no operands.
* `::type` and `:=` are no placeholders, nor is `:n` inside `[…]` directly after an operand: `a[1:n]`.
* `:name` is doubtful inside `[…]` (`a[:n]`) and directly after a word (MySQL's `label:LOOP`): a
  placeholder when values are given and no other style is used, else left alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from katax_cli.core.sql.lexer import LAYOUT, Dialect, Token, find_outside_literals, keywords, tokens

Style = Literal["numbered", "positional", "named"]
Params = Sequence[Any] | Mapping[str, Any] | None
DriverParams = tuple[Any, ...] | None

_CACHED_LENGTH = 16_384
# Statements that may hold `$1` of their own, bound later or never.
_OWN_PARAMETERS = frozenset({"CREATE", "ALTER", "PREPARE", "EXPLAIN"})
_NO_OPERANDS = keywords(
    """ALL AND ANY AS ASC BETWEEN BY CASE COLLATE CROSS DEFAULT DELETE DESC DISTINCT DO ELSE END ESCAPE
    EXCEPT EXISTS FETCH FILTER FIRST FOLLOWING FOR FROM FULL GROUP HAVING ILIKE IN INNER INSERT INTERSECT
    INTO IS ISNULL JOIN LATERAL LEFT LIKE LIMIT NATURAL NEXT NOT NOTNULL NULLS OFFSET ON ONLY OR ORDER
    OVER OVERLAPS PARTITION PRECEDING RANGE RETURNING RIGHT ROWS SELECT SET SIMILAR SOME SYMMETRIC THEN TO
    UNION UPDATE USING VALUES VARIADIC WHEN WHERE WINDOW WITH"""
)


class PlaceholderError(ValueError):
    """Placeholders and values do not fit; the text is one line for the user and holds no value."""


class _Mark(NamedTuple):
    start: int
    end: int
    style: Style
    key: int | str
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class CompiledQuery:
    """A statement whose placeholders are known; made by `compile_query`, immutable, safe to share."""

    text: str = field(repr=False)
    style: Style | None
    keys: tuple[int | str, ...]
    doubtful: bool
    plain_sql: str = field(repr=False)
    driver_sql: str = field(repr=False)
    raw_sql: str = field(repr=False)
    empty_params: DriverParams = None
    needed: int = field(init=False, default=0)
    """The values that `?` or `$1` take."""

    def __post_init__(self) -> None:
        needed = max((key for key in self.keys if isinstance(key, int)), default=0)
        object.__setattr__(self, "needed", needed)

    def bind(self, params: Params = None) -> tuple[str, DriverParams]:
        """SQL and values for the driver's `execute(sql, values)`, to be passed on exactly as they are.

        psycopg and PyMySQL get `%s` (a literal `%` is doubled only when there are values; without
        values the second part is None), sqlite3 gets `?` and a tuple. A `$1` that is used twice sends
        its value twice. Raises PlaceholderError.
        """
        if not params or not self.keys:
            return self._bind_nothing(params)
        return self.driver_sql, self._values(params)

    def bind_raw(self, params: Params = None) -> tuple[str, DriverParams]:
        """The same in `$1` style, each value once: for psycopg's RawCursor, which does no conversion."""
        if not params or not self.keys:
            return self._bind_nothing(params)
        if self.style != "named":
            self._check_count(params)
            return self.raw_sql, tuple(params)
        first_uses = dict(zip(self.keys, self._values(params), strict=True))
        return self.raw_sql, tuple(first_uses.values())

    def _bind_nothing(self, params: Params) -> tuple[str, DriverParams]:
        if params:
            _refuse_text(params)
            raise PlaceholderError(f"query has no placeholders but {_given(len(params))}")
        if self.keys and not self.doubtful:
            if self.style == "named":
                raise PlaceholderError(f"no value for {self._names()}; given: nothing")
            raise PlaceholderError(f"query has {self._count()} but no value was given")
        return self.plain_sql, self.empty_params

    def _values(self, params: Sequence[Any] | Mapping[str, Any]) -> tuple[Any, ...]:
        if self.style == "named":
            _refuse_text(params)
            return self._named_values(params)
        values = self._check_count(params)
        if self.style == "positional":
            return tuple(values)
        return tuple(values[key - 1] for key in self.keys if isinstance(key, int))

    def _check_count(self, params: Sequence[Any] | Mapping[str, Any]) -> Sequence[Any]:
        """The values of `?` or `$1`; raises PlaceholderError unless there is one for each."""
        # To ask for a Mapping costs as much as all the rest.
        if not isinstance(params, list | tuple):
            _refuse_text(params)
            if isinstance(params, Mapping):
                raise PlaceholderError(f"query has {self._count()}; give its values in order, not by name")
        if len(params) != self.needed:
            gaps = self.needed != len(set(self.keys))
            seen = f"needs {self.needed} values ({self._names()})" if gaps else f"has {self._count()}"
            raise PlaceholderError(f"query {seen} but {_given(len(params))}")
        return params

    def _named_values(self, params: Sequence[Any] | Mapping[str, Any]) -> tuple[Any, ...]:
        if not isinstance(params, Mapping):
            raise PlaceholderError(f"query has {self._count()}; give its values by name, not in order")
        missing = [f":{key}" for key in dict.fromkeys(self.keys) if key not in params]
        given = ", ".join(sorted(map(str, params)))
        if missing:
            raise PlaceholderError(f"no value for {', '.join(missing)}; given: {given}")
        unknown = sorted(str(name) for name in params if name not in self.keys)
        if unknown:
            raise PlaceholderError(f"no placeholder for {', '.join(unknown)}; query has {self._names()}")
        return tuple(params[str(key)] for key in self.keys)

    def _names(self) -> str:
        sign = {"numbered": "$", "named": ":"}.get(self.style or "", "")
        keys = dict.fromkeys(self.keys)
        shown = sorted(keys, key=int) if self.style == "numbered" else list(keys)
        return ", ".join("?" if self.style == "positional" else f"{sign}{key}" for key in shown)

    def _count(self) -> str:
        count = len(set(self.keys))
        return f"{count} placeholder{'' if count == 1 else 's'} ({self._names()})"


def compile_query(sql: str, dialect: Dialect) -> CompiledQuery:
    """The placeholders of one statement, cached by text; raises PlaceholderError where styles are mixed."""
    return _cached(sql, dialect) if len(sql) <= _CACHED_LENGTH else _compile(sql, dialect)


def with_values(sql: str, params: Params, dialect: Dialect) -> str:
    """The statement with texts and numbers in their places: to be read, such as by `classify`, and never to be run."""
    if not params or len(sql) > _CACHED_LENGTH:
        return sql
    try:
        raw, values = compile_query(sql, dialect).bind_raw(params)
    except PlaceholderError:
        return sql
    pieces = []
    for token in tokens(raw, dialect):
        number = token.text[1:]
        bound = token.kind == "param" and number.isdecimal() and values and int(number) <= len(values)
        pieces.append(_literal(values[int(number) - 1], token.text) if bound and values else token.text)
    return "".join(pieces)


def _literal(value: object, unknown: str) -> str:
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    return str(value) if isinstance(value, int | float | Decimal) else unknown


@lru_cache(maxsize=1024)
def _cached(sql: str, dialect: Dialect) -> CompiledQuery:
    return _compile(sql, dialect)


def _compile(sql: str, dialect: Dialect) -> CompiledQuery:
    empty: DriverParams = () if dialect == "sqlite" else None
    if not _may_hold_placeholders(sql, dialect):
        return CompiledQuery(
            sql, None, (), doubtful=False, plain_sql=sql, driver_sql=sql, raw_sql=sql, empty_params=empty
        )
    code = [token for token in tokens(sql, dialect) if token.kind not in LAYOUT]
    marks, escapes = _find_marks(code, dialect)
    marks = _of_one_style(marks, dialect)
    first = next((token.text.upper() for token in code if token.kind == "word"), "")
    return CompiledQuery(
        text=sql,
        style=marks[0].style if marks else None,
        keys=tuple(mark.key for mark in marks),
        doubtful=first in _OWN_PARAMETERS or all(mark.doubtful for mark in marks),
        plain_sql=_rewrite(sql, [(start, end, "?") for start, end in escapes]),
        driver_sql=_driver_sql(sql, marks, escapes, dialect),
        raw_sql=_rewrite(sql, _edits(marks, escapes, _raw_names(marks))),
        empty_params=empty,
    )


def _may_hold_placeholders(sql: str, dialect: Dialect) -> bool:
    signs = [sign for sign in "?$:@" if sign in sql]
    if len(sql) <= _CACHED_LENGTH:
        return bool(signs)
    # A bulk INSERT holds megabytes of literals and casts, which need no tokens.
    if dialect != "sqlite":
        signs = [sign for sign in signs if sign in "?:" or (sign == "$" and re.search(r"\$[0-9]", sql))]
    return any(_stands_outside_literals(sql, sign, dialect) for sign in signs)


def _stands_outside_literals(sql: str, sign: str, dialect: Dialect) -> bool:
    """True for a sign that is not of a cast `::`, nor of `:=`."""
    at = find_outside_literals(sql, sign, dialect)
    while sign == ":" and sql[at + 1 : at + 2] in (":", "="):
        at = find_outside_literals(sql, sign, dialect, at + 2)
    return at < len(sql)


def _refuse_text(params: object) -> None:
    if isinstance(params, str | bytes | bytearray):
        raise PlaceholderError(f"values must be a list, a tuple or a mapping, not {type(params).__name__}")


def _given(count: int) -> str:
    return f"{count} value was given" if count == 1 else f"{count} values were given"


def _find_marks(code: list[Token], dialect: Dialect) -> tuple[list[_Mark], list[tuple[int, int]]]:
    """The candidates of every style, and the `??` to be written as `?`."""
    marks: list[_Mark] = []
    escapes: list[tuple[int, int]] = []
    may_be_jsonb = dialect == "postgresql" and any(token.text == "?" for token in code)
    questions = _question_marks(code) if may_be_jsonb else None
    brackets = 0
    for before, token in pairwise([Token("other", "", -1), *code]):
        if token.kind == "punct":
            brackets += (token.text == "[") - (token.text == "]")
        elif token.kind == "param":
            mark = _mark(token, before, brackets, len(marks))
            if mark and (questions is None or mark.style != "positional" or token.start in questions):
                marks.append(mark)
        elif token.text == "??" and dialect == "postgresql":
            escapes.append((token.start, token.start + 2))
    return marks, escapes


def _mark(token: Token, before: Token, brackets: int, position: int) -> _Mark | None:
    sign, key = token.text[0], token.text[1:]
    end = token.start + len(token.text)
    if not key:
        return _Mark(token.start, end, "positional", position + 1)
    if sign in "$?" and key.isdecimal():
        if not int(key):
            raise PlaceholderError(f"placeholder {token.text} does not exist; the first is {sign}1")
        return _Mark(token.start, end, "numbered", int(key))
    touches = before.start + len(before.text) == token.start and _is_operand(before, any_word=True)
    if touches and brackets > 0:
        return None
    return _Mark(token.start, end, "named", key, doubtful=touches or brackets > 0)


def _question_marks(code: list[Token]) -> set[int]:
    """The positions of lone `?` that are placeholders, read from left to right."""
    placeholders = set()
    operand_before = False
    for token, after in pairwise([*code, Token("other", "", -1)]):
        if token.text == "?" and token.kind == "param":
            is_operator = operand_before and _starts_operand(after)
            operand_before = not is_operator
            if not is_operator:
                placeholders.add(token.start)
        else:
            operand_before = _is_operand(token)
    return placeholders


def _is_operand(token: Token, any_word: bool = False) -> bool:
    if token.kind == "word":
        return any_word or token.text.upper() not in _NO_OPERANDS
    return token.kind in ("string", "quoted", "number", "param") or token.text in (")", "]")


def _starts_operand(token: Token) -> bool:
    if token.kind == "word":
        return token.text.upper() not in _NO_OPERANDS or token.text.upper() == "CASE"
    return token.kind in ("string", "quoted", "number", "param") or token.text == "("


def _of_one_style(marks: list[_Mark], dialect: Dialect) -> list[_Mark]:
    certain = [mark for mark in marks if not mark.doubtful]
    if dialect == "postgresql" and any(mark.style != "positional" for mark in certain):
        certain = [mark for mark in certain if mark.style != "positional"]
    styles = {mark.style for mark in certain}
    if len(styles) > 1:
        shown = {"numbered": "$1", "positional": "?", "named": ":name"}
        used = " and ".join(shown[style] for style in shown if style in styles)
        raise PlaceholderError(f"query mixes placeholder styles {used}; use one of them")
    if certain and styles != {"named"}:
        return certain
    return [mark for mark in marks if mark.style == "named"]


def _raw_names(marks: list[_Mark]) -> list[str]:
    if marks and marks[0].style == "numbered":
        return [f"${mark.key}" for mark in marks]
    numbers: dict[int | str, int] = {}
    return [f"${numbers.setdefault(mark.key, len(numbers) + 1)}" for mark in marks]


def _edits(
    marks: list[_Mark], escapes: list[tuple[int, int]], names: list[str]
) -> list[tuple[int, int, str]]:
    edits = [(mark.start, mark.end, name) for mark, name in zip(marks, names, strict=True)]
    return sorted(edits + [(start, end, "?") for start, end in escapes])


def _driver_sql(sql: str, marks: list[_Mark], escapes: list[tuple[int, int]], dialect: Dialect) -> str:
    sign = "?" if dialect == "sqlite" else "%s"
    return _rewrite(sql, _edits(marks, escapes, [sign] * len(marks)), double_percent=dialect != "sqlite")


def _rewrite(sql: str, edits: list[tuple[int, int, str]], *, double_percent: bool = False) -> str:
    pieces = []
    position = 0
    for start, end, replacement in [*edits, (len(sql), len(sql), "")]:
        kept = sql[position:start]
        pieces += [kept.replace("%", "%%") if double_percent else kept, replacement]
        position = end
    return "".join(pieces)
