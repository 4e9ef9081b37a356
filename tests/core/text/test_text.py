"""Text for terminals, files and wires."""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.core.text.text import (
    counted,
    duration_text,
    plain,
    printable,
    to_bytes,
    to_json,
    to_text,
    unique_names,
    width,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Grüße 漢字 😀", "Grüße 漢字 😀"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x00\x07\x7f", "\\x00\\x07\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202ecba", "abc\\u202ecba"),
        ("\u2066\u061c", "\\u2066\\u061c"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\udc80", "\\udc80"),
        ("[bold]", "[bold]"),
    ],
)
def test_a_terminal_obeys_nothing(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_what_is_printable_stays_so_on_one_line(text: str) -> None:
    shown = printable(text)

    assert printable(shown) == shown
    assert len(shown.splitlines()) <= 1
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in shown)


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("abc", 3), ("é", 1), ("e\u0301", 1), ("漢字", 4), ("\u200b", 0), ("ｶ", 1), ("😀", 2)],
)
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(0), "0:00:00"),
        (timedelta(days=1, hours=2, minutes=3, seconds=4), "26:03:04"),
        (timedelta(microseconds=500), "0:00:00.000500"),
        (-timedelta(hours=26, minutes=3, seconds=4, microseconds=500000), "-26:03:04.500000"),
    ],
)
def test_durations(value: timedelta, text: str) -> None:
    assert duration_text(value) == text


MOMENT = datetime(2026, 2, 28, 23, 59, 59, 5, tzinfo=UTC)
PAIRS: list[tuple[Any, str, str]] = [
    (None, "null", "null"),
    (True, "true", "true"),
    (1, "1", "1"),
    (0.1, "0.1", "0.1"),
    (Decimal("1.10"), "1.10", "1.10"),
    ("a\nb", '"a\\nb"', "a\nb"),
    (b"\x00\xff", '"\\\\x00ff"', "\\x00ff"),
    (memoryview(b"\x00\xff"), '"\\\\x00ff"', "\\x00ff"),
    (MOMENT, '"2026-02-28T23:59:59.000005+00:00"', "2026-02-28T23:59:59.000005+00:00"),
    (MOMENT.replace(tzinfo=None), '"2026-02-28T23:59:59.000005"', "2026-02-28 23:59:59.000005"),
    (date(2026, 2, 28), '"2026-02-28"', "2026-02-28"),
    (time(1, 2, 3), '"01:02:03"', "01:02:03"),
    (timedelta(hours=1), '"1:00:00"', "1:00:00"),
    ([1, "a", None], '[1, "a", null]', '[1, "a", null]'),
    ((1,), "[1]", "[1]"),
    ({"a": {"b": Decimal("1.0")}}, '{"a": {"b": 1.0}}', '{"a": {"b": 1.0}}'),
    (UUID(int=1), '"00000000-0000-0000-0000-000000000001"', "00000000-0000-0000-0000-000000000001"),
]


@pytest.mark.parametrize(("value", "as_json", "_"), PAIRS, ids=[one[1] for one in PAIRS])
def test_json(value: Any, as_json: str, _: str) -> None:
    assert to_json(value) == as_json
    json.loads(as_json)


@pytest.mark.parametrize(("value", "_", "text"), PAIRS, ids=[one[1] for one in PAIRS])
def test_plain(value: Any, _: str, text: str) -> None:
    assert plain(value) == text


def test_what_json_has_no_number_for_is_a_string() -> None:
    for make in (float, Decimal):
        values = [make("nan"), make("inf"), make("-inf")]
        assert json.loads(to_json(values)) == ["NaN", "Infinity", "-Infinity"]


def test_subclasses_are_what_they_are() -> None:
    class Name(str):
        pass

    class Row(dict[str, int]):
        pass

    assert to_json(Name("a")) == '"a"'
    assert to_json(Row(a=1)) == '{"a": 1}'


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_every_json_is_json(value: Any) -> None:
    assert json.loads(to_json(value)) == value


@pytest.mark.parametrize(
    ("names", "unique"),
    [
        ((), ()),
        (("a", "b"), ("a", "b")),
        (("a", "a", "a"), ("a", "a_2", "a_3")),
        (("a", "a", "a_2"), ("a", "a_3", "a_2")),
        (("", ""), ("", "_2")),
    ],
)
def test_names_made_distinct(names: tuple[str, ...], unique: tuple[str, ...]) -> None:
    assert unique_names(names) == unique


@given(st.lists(st.sampled_from(["a", "a_2", "a_3", "b", ""])))
def test_distinct_names_are_distinct(names: list[str]) -> None:
    found = unique_names(names)

    assert len(set(found)) == len(found) == len(names)
    assert all(new == old or new.startswith(f"{old}_") for new, old in zip(found, names, strict=True))


def test_text_of_any_bytes_and_counts() -> None:
    assert to_bytes("é") == b"\xc3\xa9"
    assert to_bytes(to_text(b"\xff\x00k")) == b"\xff\x00k"
    assert [counted(number, "row") for number in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
