"""Rows out of CSV and JSON lines: what is NULL, what is no row, and where."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.services.transfer.formats.chunks import Chunk
from katax_cli.services.transfer.formats.files import FileKind
from katax_cli.services.transfer.formats.readers import array_literal, csv_rows, json_rows, parsed_object
from katax_cli.services.transfer.formats.sources import RowFile
from katax_cli.services.transfer.formats.writers import CsvForm, csv_lines

CELLS = (
    st.none()
    | st.text(st.characters(codec="utf-8"), max_size=8)
    | st.sampled_from(['"', "", "NULL", "\r", "\n"])
)


def chunk(data: bytes, line: int = 1) -> Chunk:
    return Chunk(data, line, len(data), line + data.count(b"\n"))


def read(
    data: bytes, columns: int, form: CsvForm, line: int = 1
) -> tuple[list[Any], list[tuple[int, str, str]]]:
    rejects: list[tuple[int, str, str]] = []
    rows = list(csv_rows(chunk(data, line), columns, form, lambda *reject: rejects.append(reject)))
    return rows, rejects


@given(
    st.lists(st.tuples(CELLS, CELLS), max_size=6),
    st.sampled_from(["", "NULL", "\\N"]),
    st.sampled_from(",;\t"),
)
def test_what_is_written_is_read(rows: list[tuple[Any, Any]], null: str, delimiter: str) -> None:
    form = CsvForm(null, delimiter)

    found, rejects = read(csv_lines(rows, form), 2, form)

    assert ([tuple(cells) for _, cells in found], rejects) == (rows, [])


@given(
    st.text(st.sampled_from("ab,;\n\0 \x85\u2028\\"), max_size=30),
    st.sampled_from(["", "a"]),
    st.sampled_from(",;"),
    st.sampled_from([1, 2]),
)
def test_a_text_without_quotes_is_read_as_the_same_lines_among_quoted_ones(
    text: str, null: str, delimiter: str, columns: int
) -> None:
    form, quoted = CsvForm(null, delimiter), delimiter.join(['"q"'] * columns) + "\n"

    alone = read(text.encode(), columns, form, line=2)
    rows, rejects = read(f"{quoted}{text}".encode(), columns, form)

    assert alone == (rows[1:], rejects)


def test_lines_are_counted_and_what_is_no_row_is_told() -> None:
    data = b'1,"a\nb"\r\n2\n\n3,x,y\n4,"u"v\n5,\xff\xfe\n6,""\n'

    rows, rejects = read(data, 2, CsvForm(), line=10)

    assert rows == [(10, ["1", "a\nb"]), (17, ["6", ""])]
    assert [(line, reason) for line, reason, _ in rejects] == [
        (12, "has 1 cells, expected 2"),
        (14, "has 3 cells, expected 2"),
        (15, "is no CSV: ',' expected after '\"'"),
        (16, "holds bytes that are not of the file's encoding"),
    ]
    assert [row.encode("utf-8", "surrogateescape") for _, _, row in rejects] == [
        b"2",
        b"3,x,y",
        b'4,"u"v',
        b"5,\xff\xfe",
    ]


def test_an_empty_line_is_a_row_of_a_single_column() -> None:
    assert read(b"a\n\nb\n", 1, CsvForm())[0] == [(1, ["a"]), (2, [None]), (3, ["b"])]


def test_json_lines() -> None:
    data = b'{"a": 1.50, "b": [1, {"x":  1e400}]}\n\n{"b": true}\n{"c": 1}\n[1]\n{"a": 1} x\n\xff\n{"a": "\\u00e9"}\n'
    rejects: list[tuple[int, str, str]] = []

    rows = list(json_rows(chunk(data), ["a", "b"], [None, None], lambda *reject: rejects.append(reject)))

    assert rows == [(1, ["1.50", '[1, {"x":  1e400}]']), (3, [None, "t"]), (8, ["é", None])]
    assert [(line, reason.split(":")[0]) for line, reason, _ in rejects] == [
        (4, "has the field 'c', which is no column"),
        (5, "is no JSON object"),
        (6, "is no JSON object"),
        (7, "is no JSON object"),
    ]


@given(
    st.dictionaries(
        st.text(max_size=5), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=4)
    )
)
def test_any_object_is_read_with_the_text_of_its_fields(fields: dict[str, Any]) -> None:
    found = parsed_object(json.dumps(fields, indent=1))

    assert {name: value for name, (value, _) in found.items()} == fields
    assert {name: json.loads(raw) for name, (_, raw) in found.items()} == fields


@pytest.mark.parametrize(
    "text", ["", "1", "{", '{"a"}', '{"a":1,}', '{"a":1}}', "{1:2}", '{"a":1 "b":2}', '{"a":1,"a":1}']
)
def test_what_nearly_is_an_object(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed_object(text)


def test_arrays_of_postgresql() -> None:
    assert array_literal(["a", None, 'x"\\', [1, True]]) == '{"a",NULL,"x\\"\\\\",{"1",t}}'


def test_a_file_without_a_question_for_its_columns_is_read_once() -> None:
    lines = [f"{n},row {n}" for n in range(500)]
    file = RowFile("t.csv", BytesIO("\n".join(["id,name", *lines]).encode()), FileKind("csv", None))

    batches = file.batches(size=1000, position=0, line=1)
    rows = [",".join(row) for batch in batches for _, row in batch.rows(lambda *_: pytest.fail("rejected"))]

    assert rows == lines
