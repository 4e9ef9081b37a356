"""Values as JSON.stringify writes them: known pairs, and whatever Node says about thousands of others."""

import json
import math
import random
import shutil
import subprocess
from collections import UserDict
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.core.text.js_json import jsonable, parse, stringify


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e21, "1e+21"),
        (1e20, "100000000000000000000"),
        (123456789012345680000.0, "123456789012345680000"),
        (-123456789012345680000.0, "-123456789012345680000"),
        (1e16, "10000000000000000"),
        (1e-6, "0.000001"),
        (-1.5e-6, "-0.0000015"),
        (1e-7, "1e-7"),
        (1.5e-10, "1.5e-10"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        ("", '""'),
        ("é漢😀", '"é漢😀"'),
        ('"\\\n\r\t\b\f', '"\\"\\\\\\n\\r\\t\\b\\f"'),
        ("\x00\x1f\x7f\u2028", '"\\u0000\\u001f\x7f\u2028"'),
        ("\ud800x", '"\\ud800x"'),
        ("\ud83d\ude00", '"\\ud83d\\ude00"'),
        ([], "[]"),
        ({}, "{}"),
        ([1, [2.0, None]], "[1,[2,null]]"),
        ({"a": {"b": 1.10}}, '{"a":{"b":1.1}}'),
        ({"é\ud800": 1}, '{"é\\ud800":1}'),
    ],
)
def test_known_pairs(value: Any, text: str) -> None:
    assert stringify(value) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [1, math.nan], {"a": math.inf}])
def test_what_json_cannot_hold(value: Any) -> None:
    with pytest.raises(ValueError) as error:
        stringify(value)
    assert "has no JSON form; use null or a string" in str(error.value)


@pytest.mark.parametrize("value", [{1, 2}, timedelta(1), object(), object])
def test_what_is_no_value_of_json(value: Any) -> None:
    with pytest.raises(ValueError) as error:
        stringify(value)
    assert f"a value of type {type(value).__name__} has no JSON form" in str(error.value)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "[NaN]", "", "{", "undefined", "'a'", "01"])
def test_what_is_not_json(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_what_is_written_reads_back(value: Any) -> None:
    """As text: a whole number beyond 2^53 comes back as the integer that its digits say."""
    text = stringify(value)

    assert stringify(parse(text)) == text


@given(values)
def test_no_space_and_nothing_but_utf8(value: Any) -> None:
    text = stringify(value)
    text.encode()
    assert json.dumps(parse(text), separators=(",", ":"), ensure_ascii=False).count(",") == text.count(",")


@pytest.mark.needs_node
def test_node_writes_the_same() -> None:
    """Numbers of all sizes, strings of all characters. Integers beyond 2^53 are exact here and rounded there."""
    dice = random.Random(20)
    numbers = [dice.choice((1, -1)) * dice.random() * 10.0 ** dice.randint(-30, 30) for _ in range(3000)]
    whole = [float(dice.randrange(10 ** dice.randint(1, 23))) for _ in range(1000)]
    texts = ["".join(chr(dice.randrange(0xD800)) for _ in range(8)) for _ in range(500)]
    sent = [*numbers, *whole, *texts, {"b": 1.0, "a": [None, True]}, 2**53, -(2**53)]

    program = (
        "const lines = require('fs').readFileSync(0, 'utf8').split('\\n').slice(0, -1);"
        "for (const line of lines) console.log(JSON.stringify(JSON.parse(line)));"
    )
    done = subprocess.run(
        [shutil.which("node") or "node", "-e", program],
        input="".join(json.dumps(value) + "\n" for value in sent),
        capture_output=True,
        text=True,
        check=True,
    )

    answers = done.stdout.split("\n")[:-1]
    assert len(answers) == len(sent)
    assert [stringify(value) for value in sent] == answers


class Colour(Enum):
    RED = "red"
    PAIR = (1, Decimal("1.10"))


class Level(IntEnum):
    HIGH = 3


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    next: Any = None


def test_values_of_databases() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    id = UUID("12345678-1234-5678-1234-567812345678")
    pairs: list[tuple[Any, str]] = [
        (datetime(2026, 1, 2, 3, 4, 5, 678_999), '"2026-01-02T03:04:05.678"'),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=zone), '"2026-01-01T21:34:05.000Z"'),
        (date(2026, 1, 2), '"2026-01-02"'),
        (time(1, 2, 3, 4), '"01:02:03.000004"'),
        (id, '"12345678-1234-5678-1234-567812345678"'),
        (Decimal("1.10"), '"1.10"'),
        (Decimal("1E+400"), '"1E+400"'),
        (b"\x00\xff", '"AP8="'),
        (bytearray(b"x"), '"eA=="'),
        (memoryview(b"abcdef")[::2], '"YWNl"'),
        (Colour.RED, '"red"'),
        (Colour.PAIR, '[1,"1.10"]'),
        (Level.HIGH, "3"),
        (Point(1, {"at": Point(2)}), '{"x":1,"next":{"at":{"x":2,"next":null}}}'),
        (UserDict(a=1), '{"a":1}'),
        (
            {5: "a", None: "b", 2.5: 1, Colour.RED: 2, date(2026, 1, 2): 3},
            '{"5":"a","null":"b","2.5":1,"red":2,"2026-01-02":3}',
        ),
    ]
    for value, text in pairs:
        assert stringify(value) == text
        assert jsonable(value) == json.loads(text)


def test_what_would_lose_something_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    far = datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))
    refused: list[tuple[Any, str]] = [
        (circle, "nested too deeply, or holds itself"),
        (deep, "nested too deeply, or holds itself"),
        (Point(1, circle), "nested too deeply, or holds itself"),
        ({1: "a", "1": "b"}, "two keys of an object are the same text in JSON"),
        ({(1, 2): 3}, "a key of type tuple has no JSON form; use text"),
        (far, "in UTC is beyond the years 1 to 9999"),
        (10**5000, "digits"),
    ]
    for value, told in refused:
        with pytest.raises(ValueError, match=told):
            stringify(value)
    for text in ("[" * 100_000, '{"a":' * 100_000, "1" * 5000):
        with pytest.raises(ValueError):
            parse(text)
