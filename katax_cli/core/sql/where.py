"""Finds an UPDATE or DELETE whose WHERE holds for every row: none, `1=1`, `a = 5 or a != 5`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation

from katax_cli.core.sql.lexer import Code, Dialect, keywords
from katax_cli.core.sql.truth import (
    ANY,
    COMPARE,
    AllOf,
    AnyOf,
    Constant,
    Fixed,
    Formula,
    Not,
    Test,
    holds_for_every_row,
)

_NO_COLUMNS = keywords(
    """TRUE FALSE NULL UNKNOWN NOT AND OR XOR IS IN LIKE ILIKE RLIKE REGEXP GLOB MATCH SIMILAR TO BETWEEN EXISTS SELECT
    ALL ANY SOME DISTINCT FROM CASE WHEN THEN ELSE END CAST AS INTERVAL DATE TIME TIMESTAMP DATETIME ISNULL NOTNULL
    DIV MOD COLLATE ESCAPE BINARY VALUES ROW ARRAY INT INTEGER BIGINT SMALLINT NUMERIC DECIMAL TEXT CHAR VARCHAR
    BOOL BOOLEAN SIGNED UNSIGNED CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP LOCALTIME LOCALTIMESTAMP CURRENT_USER"""
)
_AFTERWARDS = frozenset({"RETURNING", "ORDER", "LIMIT"})
_SWAPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_MOST_LEVELS = 60
_LONGEST_LIST = 2000
_CodePart = Sequence[Code]


def why_every_row(code: Sequence[Code], index: int, dialect: Dialect) -> str | None:
    """The defect in the WHERE of the change that begins at `index`; None when it chooses rows."""
    condition = _condition(code, index)
    if condition is None:
        return "without WHERE"
    if holds_for_every_row(_Reader(dialect).condition(condition)):
        return "with a WHERE that holds for every row"
    return None


def _condition(code: Sequence[Code], index: int) -> list[Code] | None:
    """The tokens behind WHERE; None without a WHERE."""
    depth = code[index].depth
    found: list[Code] | None = None
    for item in code[index + 1 :]:
        here = item.depth == depth and item.kind == "word"
        if item.depth < depth or (found is not None and here and item.text in _AFTERWARDS):
            break
        if found is not None:
            found.append(item)
        elif here and item.text == "WHERE":
            found = []
    return found


class _Reader:
    """Takes a condition apart; parts of an unknown shape become tests of which nothing is known."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._placeholders = 0

    def condition(self, code: _CodePart, level: int = 0) -> Formula:
        """Parts that OR connects, in them parts that AND connects, in them tests."""
        code = _unwrapped(code)
        if level > _MOST_LEVELS:
            return self._unknown(code)
        for made, word, sign in ((AnyOf, "OR", "||"), (AllOf, "AND", "&&")):
            parts = self._split(code, word, sign)
            if len(parts) > 1:
                return made(tuple(self.condition(part, level + 1) for part in parts))
        negations = next((at for at, item in enumerate(code) if item.text != "NOT"), len(code))
        if negations:
            inner = self.condition(code[negations:], level + 1)
            return Not(inner) if negations % 2 else inner
        return self._test(code)

    def _split(self, code: _CodePart, word: str, sign: str) -> list[_CodePart]:
        """The parts between the words; the AND of a BETWEEN is none of them."""
        parts: list[_CodePart] = []
        start = betweens = 0
        for at in _outer(code):
            item = code[at]
            betweens += item.text == "BETWEEN" and word == "AND"
            if (item.kind == "word" and item.text == word) or (
                self._dialect == "mysql" and item.text == sign
            ):
                if betweens:
                    betweens -= 1
                else:
                    parts.append(code[start:at])
                    start = at + 1
        return [*parts, code[start:]]

    def _test(self, code: _CodePart) -> Formula:
        signs = [at for at in _outer(code) if _decides(code[at])]
        if not signs:
            return self._alone(code)
        at = signs[0]
        negated = at > 0 and code[at - 1].text == "NOT"
        operand, rest = code[: at - negated], code[at + 1 :]
        test = self._decided(code[at].text, operand, rest, len(signs))
        if test is None:
            return self._unknown(code)
        return Not(test) if negated else test

    def _decided(self, sign: str, operand: _CodePart, rest: _CodePart, signs: int) -> Formula | None:
        if sign == "IS" and signs == 1:
            negated = bool(rest) and rest[0].text == "NOT"
            test = self._is(operand, rest[1:] if negated else rest)
            return Not(test) if negated and test else test
        if sign == "BETWEEN":
            return self._between(operand, rest)
        if signs > 1 or not operand:
            return None
        if sign in ("ISNULL", "NOTNULL"):
            test = self._is(operand, [Code("word", "NULL", 0)])
            return Not(test) if sign == "NOTNULL" and test else test
        if sign == "IN":
            return self._among(operand, rest)
        if sign in ("LIKE", "ILIKE"):
            anything = [item.kind for item in rest] == ["string"] and re.fullmatch(
                r"(['\"])%+\1", rest[0].text
            )
            if not anything:
                return None
            return Test(self._name(operand), "any") if _has_column(operand) else Fixed(ANY)
        return self._compared(operand, sign, rest)

    def _is(self, operand: _CodePart, rest: _CodePart) -> Formula | None:
        words = [item.text for item in rest]
        if words in (["NULL"], ["UNKNOWN"]):
            return Test(self._name(operand), "null") if _has_column(operand) else Fixed(ANY)
        if words in (["TRUE"], ["FALSE"]):
            truth = self._alone(operand)
            return AllOf((Not(Test(self._name(operand), "null")), truth if words == ["TRUE"] else Not(truth)))
        if words[:2] == ["DISTINCT", "FROM"]:
            return Not(self._compared(operand, "<=>", rest[2:]))
        return self._compared(operand, "<=>", rest) if self._dialect == "sqlite" else None

    def _between(self, operand: _CodePart, rest: _CodePart) -> Formula | None:
        ends = [at for at in _outer(rest) if rest[at].text == "AND"]
        if len(ends) != 1 or not operand:
            return None
        low, high = rest[: ends[0]], rest[ends[0] + 1 :]
        return AllOf((self._compared(operand, ">=", low), self._compared(operand, "<=", high)))

    def _among(self, operand: _CodePart, rest: _CodePart) -> Formula | None:
        inner = _unwrapped(rest)
        if len(inner) == len(rest) or len(inner) > _LONGEST_LIST or not _has_column(operand):
            return None
        given = [self._constant(part) for part in _listed(inner)]
        known = tuple(constant for constant in given if constant is not None)
        return Test(self._name(operand), "in", known) if len(known) == len(given) else None

    def _compared(self, first: _CodePart, op: str, second: _CodePart) -> Formula:
        """Two sides; a constant stands on the right."""
        first, second = _unwrapped(first), _unwrapped(second)
        if not _has_column(first):
            first, op, second = second, _SWAPPED.get(op, op), first
        if not _has_column(first):
            return self._fixed(self._constant(first), op, self._constant(second))
        if [item.text for item in second] == ["NULL"]:
            return Test(self._name(first), "null") if op == "<=>" else Fixed(frozenset({None}))
        constant = self._constant(second)
        if constant is not None:
            return Test(self._name(first), op, (constant,))
        one, other = self._name(first), self._name(second)
        if one == other:
            return _with_itself(one, op)
        if one > other:
            one, op, other = other, _SWAPPED.get(op, op), one
        return Test(f"{one} : {other}", op)

    def _fixed(self, first: Constant | None, op: str, second: Constant | None) -> Fixed:
        known = first is not None and second is not None and first.kind == second.kind != "param"
        if known and first and second and (first.kind == "number" or first == second):
            return Fixed(frozenset({bool(COMPARE[op](first.value, second.value))}))
        return Fixed(ANY)

    def _alone(self, code: _CodePart) -> Formula:
        """A constant or an operand that is no comparison: true, or in MySQL and SQLite not 0."""
        constant = self._constant(code)
        if constant is not None and constant.kind in ("number", "truth"):
            return Fixed(frozenset({bool(constant.value)}))
        if [item.text for item in code] == ["NULL"]:
            return Fixed(frozenset({None}))
        if not _has_column(code):
            return Fixed(ANY)
        if self._dialect == "postgresql":
            return Test(self._name(code), "=", (Constant("truth", value=True),))
        return Not(Test(self._name(code), "=", (Constant("number", Decimal(0)),)))

    def _unknown(self, code: _CodePart) -> Formula:
        return Test(f"{self._name(code)} ?", "true") if _has_column(code) else Fixed(ANY)

    def _constant(self, code: _CodePart) -> Constant | None:
        """The constant that the tokens are; texts are equal where the dialect's usual collation finds them so."""
        code = _unwrapped(code)
        sign = len(code) == 2 and code[0].text in ("-", "+")
        if not code or len(code) > 1 + sign:
            return None
        kind, text = code[-1].kind, code[-1].text
        if kind == "number":
            return _number(("-" if sign and code[0].text == "-" else "") + text)
        if sign or kind not in ("string", "param", "word"):
            return None
        if kind == "param":
            return Constant("param", self._name(code))
        if text in ("TRUE", "FALSE"):
            truth = Constant("truth", text == "TRUE")
            return truth if self._dialect == "postgresql" else Constant("number", Decimal(truth.value))
        return self._text(text) if kind == "string" else None

    def _text(self, written: str) -> Constant | None:
        quote = written[0]
        if quote not in "'\"" or "\\" in written:
            return None
        text = written[1:-1].replace(quote * 2, quote)
        if self._dialect == "mysql":
            plain = unicodedata.normalize("NFKD", text.casefold())
            text = "".join(char for char in plain if not unicodedata.combining(char)).rstrip(" ")
        return Constant("text", text)

    def _name(self, code: _CodePart) -> str:
        """The tokens as one text; every `?` is another value."""
        texts = []
        for item in _unwrapped(code):
            text = item.text
            if item.kind == "param" and text == "?":
                self._placeholders += 1
                text = f"?{self._placeholders}"
            elif item.kind == "quoted" and re.fullmatch(r"[\"`\[]\w+[\"`\]]", text):
                # Only PostgreSQL tells "Id" and id apart.
                plain = text[1:-1]
                text = text if self._dialect == "postgresql" and plain != plain.lower() else plain.upper()
            texts.append(text)
        return " ".join(texts)


def _with_itself(operand: str, op: str) -> Formula:
    if op == "<=>":
        return Fixed(frozenset({True}))
    test = Test(operand, "any")
    return test if COMPARE[op](0, 0) else Not(test)


def _number(text: str) -> Constant | None:
    try:
        return Constant("number", Decimal(text))
    except InvalidOperation:
        return None


def _unwrapped(code: _CodePart) -> _CodePart:
    """Without the parentheses around all of it."""
    opened = next((at for at, item in enumerate(code) if item.text != "("), len(code))
    closed = next((at for at, item in enumerate(reversed(code)) if item.text != ")"), len(code))
    if not opened or not closed:
        return code
    lowest = min((item.depth for item in code[opened : len(code) - closed]), default=code[0].depth + opened)
    around = min(opened, closed, lowest - code[0].depth)
    return code[around : len(code) - around]


def _outer(code: _CodePart) -> Iterator[int]:
    """The positions of the tokens in no parentheses and in no CASE … END."""
    depth = min((item.depth for item in code), default=0)
    cases = 0
    for at, item in enumerate(code):
        cases += item.kind == "word" and item.text == "CASE"
        if not cases and item.depth == depth:
            yield at
        cases -= item.kind == "word" and item.text == "END" and cases > 0


def _decides(item: Code) -> bool:
    if item.kind == "word":
        return item.text in ("IS", "IN", "LIKE", "ILIKE", "BETWEEN", "ISNULL", "NOTNULL")
    return item.kind == "operator" and item.text in COMPARE


def _listed(code: _CodePart) -> list[_CodePart]:
    parts: list[_CodePart] = []
    start = 0
    for at in _outer(code):
        if code[at].text == ",":
            parts.append(code[start:at])
            start = at + 1
    return [*parts, code[start:]]


def _has_column(code: _CodePart) -> bool:
    return any(_is_column(code, index) for index in range(len(code)))


def _is_column(code: _CodePart, index: int) -> bool:
    item = code[index]
    if item.kind == "quoted":
        return True
    after = code[index + 1].text if index + 1 < len(code) else ""
    before = code[index - 1].text if index else ""
    return item.kind == "word" and item.text not in _NO_COLUMNS and after != "(" and before != "::"
