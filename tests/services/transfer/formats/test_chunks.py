"""Chunks end where rows end, whatever stands in quotes; encodings."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.errors import ConfigError
from katax_cli.services.transfer.formats.chunks import chunks, in_utf8, row_end
from katax_cli.services.transfer.formats.writers import CsvForm, csv_lines

CELLS = st.text(st.sampled_from('a,"\n\r\\ é'), max_size=8)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), st.integers(1, 40))
def test_no_row_is_cut(rows: list[tuple[str, str]], size: int) -> None:
    data = csv_lines(rows, CsvForm())

    found = list(chunks(io.BytesIO(data), size=size, quoted=True))

    assert b"".join(chunk.data for chunk in found) == data
    read = [row for chunk in found for row in csv.reader(_lines(chunk.data.decode()))]
    assert read == [list(row) for row in rows]
    assert [chunk.end for chunk in found][-1] == len(data)
    before = b""
    for chunk in found:
        assert chunk.line == before.count(b"\n") + 1
        before += chunk.data
        assert chunk.next_line == before.count(b"\n") + 1


def _lines(text: str) -> list[str]:
    return [line + "\n" for line in text.split("\n")[:-1]]


def test_the_last_row_needs_no_line_end_and_goes_on_from_an_offset() -> None:
    stream = io.BytesIO(b"a\nb\nc")
    stream.seek(2)

    assert [
        (chunk.data, chunk.line, chunk.end) for chunk in chunks(stream, size=2, quoted=True, offset=2, line=2)
    ] == [
        (b"b\n", 2, 4),
        (b"c", 3, 5),
    ]
    assert (
        row_end(b'a\n"b\n', quoted=True),
        row_end(b'a\n"b\n', quoted=False),
        row_end(b"a", quoted=True),
    ) == (2, 5, 0)


def test_encodings() -> None:
    def read(data: bytes, encoding: str) -> bytes:
        return in_utf8(io.BytesIO(data), encoding).read()

    assert read("é".encode("utf-8-sig"), "utf-8") == "é".encode()
    assert read("é€".encode("cp1252"), "cp1252") == "é€".encode()
    assert read("a,é\n".encode("utf-16"), "utf-16") == "a,é\n".encode()
    assert read(b"a\x81\n", "cp1252") == b"a\x81\n"
    with pytest.raises(ConfigError, match="the file is UTF-16 by its first bytes; say --encoding utf-16"):
        read("a".encode("utf-16"), "utf-8")
    with pytest.raises(ConfigError, match="no encoding named 'utf-9'"):
        read(b"", "utf-9")
