"""CSV that is taken apart a column at a time: the same rows as row by row, or None."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.engines.transfers import NULL_CELL, column_in_utc, in_utc, one_or_zero
from katax_cli.services.transfer.formats import plain
from katax_cli.services.transfer.formats.chunks import Chunk
from katax_cli.services.transfer.formats.plain import plain_cells
from katax_cli.services.transfer.formats.readers import csv_rows
from katax_cli.services.transfer.formats.writers import CsvForm

MOMENTS = st.sampled_from(
    [
        "2026-01-02 03:04:05",
        "2026-01-02 03:04:05.5+00",
        "2026-01-02T03:04:05-05:30",
        "12:00Z",
        "2026-01-02",
        "",
    ]
)
CELLS = st.text(st.characters(codec="utf-8", exclude_characters=",\n"), max_size=5)


@given(
    st.lists(st.tuples(CELLS, MOMENTS, st.sampled_from(["t", "0", ""])), min_size=1, max_size=6),
    st.booleans(),
)
def test_it_reads_what_is_read_row_by_row(rows: list[tuple[str, str, str]], ended: bool) -> None:
    data = "\n".join(map(",".join, rows)).encode() + (b"\n" if ended else b"")
    binds = (None, in_utc, one_or_zero)
    found = plain_cells(data, binds, CsvForm())
    if any(mark in data for mark in b'"\r\0'):
        assert found is None
        return
    assert found is not None
    count, pieces = found
    cells = [None if cell == NULL_CELL else cell for piece in pieces for cell in piece]
    slow = csv_rows(Chunk(data, 1, len(data), 1), 3, CsvForm(), lambda *_: None)
    expected = [
        [cell if bind is None or cell is None else bind(cell) for bind, cell in zip(binds, row, strict=True)]
        for _, row in slow
    ]
    assert [cells[at : at + 3] for at in range(0, len(cells), 3)] == expected
    assert count == len(rows)


def test_what_takes_the_csv_module_is_left_to_it() -> None:
    for data in (b'1,"a"\n', b"1\n2,3\n", b"1,2,3\n4\n", b"1,2\n\n", b"1,\xff\n", b"1,a\r\n", b"1,\0\n"):
        assert plain_cells(data, (None, None), CsvForm()) is None
    assert plain_cells(b"1\n", (None,), CsvForm()) is None
    assert plain_cells(b"1,NULL\n", (None, None), CsvForm(null="NULL")) is None
    assert plain_cells(b"1;a,b\n", (None, None), CsvForm(delimiter=";")) is not None


def test_pieces_hold_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "_PIECE", 5)
    _, pieces = plain_cells(b"1,aaaa\n2,b\n3,c\n4,dddddddd\n", (None, None), CsvForm()) or (0, iter(()))
    assert list(pieces) == [["1", "aaaa"], ["2", "b", "3", "c"], ["4", "dddddddd"]]


@given(st.lists(MOMENTS.map(lambda text: text or NULL_CELL), min_size=1))
def test_a_column_of_times_is_in_utc_as_each_of_them(values: list[str]) -> None:
    assert column_in_utc(values) == [in_utc(value) for value in values]
