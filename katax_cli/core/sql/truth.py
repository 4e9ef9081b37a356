"""Conditions as AND, OR and NOT of tests, tried on sample rows instead of a table.

A row gives every operand (a column, or what is computed of columns) a place on the line of the constants that it is
compared with: at, between, below and above them. A condition that is true at all these places holds for every row.
NULL is a place only where the condition asks for it, so that `a = 5 or a != 5` holds for every row.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from math import prod
from operator import eq, ge, gt, le, lt, ne
from typing import Literal, NamedTuple

Truths = frozenset[bool | None]
"""The truths that a condition may have for one row: several where a constant is not known."""
TRUE: Truths = frozenset({True})
FALSE: Truths = frozenset({False})
ANY: Truths = frozenset({True, False, None})
COMPARE = {"=": eq, "==": eq, "<=>": eq, "!=": ne, "<>": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
_TRIED = 100_000
"""Tests that are made at most; a condition that needs more counts as one that chooses rows."""


class Constant(NamedTuple):
    """A constant as it is written; constants of one kind can be told apart."""

    kind: Literal["number", "text", "truth", "param"]
    value: Decimal | str | bool


@dataclass(frozen=True)
class Fixed:
    """The same for every row."""

    truths: Truths


@dataclass(frozen=True)
class Test:
    """An operand beside constants, or with one of COMPARE beside another operand.

    `op` may also be `in`, `null`, `any` for what holds for all but NULL, and `true` for what is known no further.
    """

    operand: str
    op: str
    constants: tuple[Constant, ...] = ()


@dataclass(frozen=True)
class Not:
    """The contrary."""

    part: Formula


@dataclass(frozen=True)
class AllOf:
    """Parts that AND connects."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True)
class AnyOf:
    """Parts that OR connects."""

    parts: tuple[Formula, ...]


Formula = Fixed | Test | Not | AllOf | AnyOf


@dataclass(frozen=True)
class _Line:
    """The constants of one operand at odd places, and the places that are tried."""

    order: Mapping[Constant, int]
    places: Sequence[int | None]


_Row = Mapping[str, int | None]
_Lines = Mapping[str, _Line]


def holds_for_every_row(condition: Formula) -> bool:
    """True where that is certain, or would be with another value of a constant that the server computes."""
    if isinstance(condition, AllOf):
        return all(map(holds_for_every_row, condition.parts))
    if isinstance(condition, AnyOf) and any(map(holds_for_every_row, condition.parts)):
        return True
    tests = list(_tests(condition))
    lines: dict[str, _Line] = {}
    for name in dict.fromkeys(test.operand for test in tests):
        line = _line([test for test in tests if test.operand == name])
        if line is None:
            return False
        lines[name] = line
    if prod(len(line.places) for line in lines.values()) * len(tests) > _TRIED:
        return False
    rows = product(*(line.places for line in lines.values()))
    return all(True in _truths(condition, dict(zip(lines, row, strict=True)), lines) for row in rows)


def _tests(condition: Formula) -> Iterator[Test]:
    match condition:
        case Test():
            yield condition
        case Not(part):
            yield from _tests(part)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _tests(part)


def _line(tests: Sequence[Test]) -> _Line | None:
    """None where it is not known how the constants lie to each other."""
    keys = _of_one_kind({constant for test in tests for constant in test.constants})
    kinds = {key.kind for key in keys.values()}
    ordered = any(test.op in ("<", "<=", ">", ">=") for test in tests)
    sorted_keys = sorted(set(keys.values()))
    if len(kinds) > 1 or (
        len(sorted_keys) > 1 and ("param" in kinds or (ordered and not _sortable(sorted_keys)))
    ):
        return None
    at = {key: 2 * number + 1 for number, key in enumerate(sorted_keys)}
    # An operand that is compared with another has the other at place 1.
    places: list[int | None] = list(range(2 * max(len(at), 1) + 1))
    if kinds == {"truth"}:
        # There is nothing beside true and false.
        at, places = {key: int(key.value is True) for key in sorted_keys}, [0, 1]
    elif Constant("text", "") in at:
        places.remove(0)
    if any(test.op in ("null", "<=>") for test in tests):
        places.append(None)
    return _Line({constant: at[key] for constant, key in keys.items()}, places)


def _of_one_kind(constants: Collection[Constant]) -> dict[Constant, Constant]:
    """Beside a number a text that is one is a number, as the servers take it."""
    numeric = any(constant.kind == "number" for constant in constants) and all(
        constant.kind == "number"
        or (constant.kind == "text" and re.fullmatch(r"-?\d+(\.\d+)?", str(constant.value), re.ASCII))
        for constant in constants
    )
    return {one: Constant("number", Decimal(one.value)) if numeric else one for one in constants}


def _sortable(constants: Sequence[Constant]) -> bool:
    """False for texts that one collation sorts otherwise than another."""
    if constants[0].kind != "text":
        return True
    texts = [str(constant.value) for constant in constants]
    if all(re.fullmatch(r"[\d :.TZ+-]*", text, re.ASCII) for text in texts):
        return len(set(map(len, texts))) == 1
    plain = all(text.isascii() and text.isalnum() for text in texts)
    return plain and sorted(texts) == sorted(texts, key=str.casefold)


def _truths(condition: Formula, row: _Row, lines: _Lines) -> Truths:
    match condition:
        case Fixed(truths):
            return truths
        case Test():
            return frozenset({_truth(condition, row[condition.operand], lines[condition.operand])})
        case Not(part):
            return _inverted(_truths(part, row, lines))
        case AllOf(parts):
            return _least(parts, row, lines)
        case AnyOf(parts):
            # a OR b is NOT (NOT a AND NOT b).
            return _inverted(_least(tuple(map(Not, parts)), row, lines))


def _inverted(truths: Truths) -> Truths:
    return frozenset(None if truth is None else not truth for truth in truths)


def _least(parts: Sequence[Formula], row: _Row, lines: _Lines) -> Truths:
    least = TRUE
    for part in parts:
        truths = _truths(part, row, lines)
        least = frozenset(_and(a, b) for a in least for b in truths)
        if least == FALSE:
            break
    return least


def _and(first: bool | None, second: bool | None) -> bool | None:
    if first is False or second is False:
        return False
    return None if first is None or second is None else True


def _truth(test: Test, place: int | None, line: _Line) -> bool | None:
    if test.op == "null":
        return place is None
    if place is None:
        return False if test.op == "<=>" else None
    if test.op in ("any", "true"):
        return test.op == "any" or place == 1
    if test.op == "in":
        return any(line.order[constant] == place for constant in test.constants)
    other = line.order[test.constants[0]] if test.constants else 1
    return bool(COMPARE[test.op](place, other))
