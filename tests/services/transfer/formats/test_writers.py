"""Rows as CSV, JSON lines and INSERTs."""

from __future__ import annotations

import csv
import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from katax_cli.core.text.text import RawJson
from katax_cli.services.transfer.formats.writers import CsvForm, csv_header, csv_lines, inserts, json_lines

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5), st.sampled_from(",;\t|"))
def test_any_text_is_read_back_by_the_standard_library(rows: list[tuple[str, str]], delimiter: str) -> None:
    written = csv_lines(rows, CsvForm(delimiter=delimiter)).decode()

    assert list(csv.reader(_lines(written), delimiter=delimiter)) == [list(row) for row in rows]


def _lines(text: str) -> list[str]:
    """Not splitlines, which also ends lines where CSV does not."""
    return [line + "\n" for line in text.split("\n")[:-1]]


def test_null_is_bare_and_a_text_like_it_is_quoted() -> None:
    assert csv_lines([(None, "", "x", b"\x00\xff", 5)], CsvForm()) == b',"",x,\\x00ff,5\n'
    assert csv_lines([(None, "NULL", "")], CsvForm(null="NULL")) == b'NULL,"NULL",""\n'
    assert csv_lines([("\\.", " x", 'a"b')], CsvForm()) == b'"\\."," x","a""b"\n'
    assert csv_lines([], CsvForm()) == b""


def test_the_header_may_be_left_out() -> None:
    assert csv_header(["a", "b,c"], CsvForm()) == b'a,"b,c"\n'
    assert csv_header(["a"], CsvForm(header=False)) == b""


def test_json_of_a_server_stays_on_one_line() -> None:
    write = json_lines(["a", "j"])

    text = write([(Decimal("1.50"), RawJson('{"x":\n 1e400}')), (None, RawJson("[1,\r2]"))]).decode()

    assert text == '{"a": 1.50, "j": {"x":  1e400}}\n{"a": null, "j": [1, 2]}\n'
    assert [json.loads(line)["a"] for line in text.splitlines()] == [1.5, None]


def test_inserts_hold_a_hundred_rows_at_the_most() -> None:
    write = inserts("INSERT INTO t (a, b)", lambda value: f"'{value}'", [None, lambda value: value * 2])

    text = write([(number, None if number else "x") for number in range(101)]).decode()

    assert text.startswith("INSERT INTO t (a, b) VALUES\n('0', 'xx'),\n('1', NULL),\n")
    assert text.endswith(";\nINSERT INTO t (a, b) VALUES\n('100', NULL);\n")
