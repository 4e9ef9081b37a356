"""Parquet of other programs: times of any unit and zone, lists, and what has no room."""

from __future__ import annotations

import gc
import io
import weakref
from collections.abc import Iterator
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from katax_cli.errors import KataxError
from katax_cli.services.transfer.formats.parquet import read_parquet, write_parquet
from katax_cli.services.transfer.formats.readers import AsText, array_literal

_END = 253_402_300_799_000_000
"""The last second of the year 9999, in microseconds."""


def read(values: list[Any], type: Any, make: AsText = None) -> list[Any]:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"v": pyarrow.array(values, type)}), file)
    _, batches = read_parquet(file, "rows.parquet", [make])
    return [value for batch in batches for (value,) in batch]


def test_moments_are_in_utc_and_keep_their_nanoseconds() -> None:
    nanos = 1_700_000_000_123_456_789
    assert read([nanos - 789, None], pyarrow.timestamp("ns")) == ["2023-11-14 22:13:20.123456", None]
    assert read([nanos], pyarrow.timestamp("ns")) == ["2023-11-14 22:13:20.123456789"]
    assert read([nanos], pyarrow.timestamp("ns", "UTC")) == ["2023-11-14 22:13:20.123456789Z"]
    assert read([_END], pyarrow.timestamp("us", "Asia/Tokyo")) == ["9999-12-31 23:59:59+00:00"]
    assert read([0], pyarrow.timestamp("s", "+05:30")) == ["1970-01-01 00:00:00+00:00"]
    assert read([1, 1000], pyarrow.time64("ns")) == ["00:00:00.000000001", "00:00:00.000001000"]


def test_a_moment_beyond_all_years_is_refused_by_its_column() -> None:
    with pytest.raises(KataxError, match=r"'rows.parquet', column 'v' cannot be read: "):
        read([2**62], pyarrow.timestamp("us", "UTC"))


def test_lists_are_what_their_column_takes() -> None:
    kind = pyarrow.list_(pyarrow.date32())
    assert read([[0, None], None, []], kind, lambda value, _: array_literal(value)) == [
        '{"1970-01-01",NULL}',
        None,
        "{}",
    ]
    assert read([[0]], kind, lambda _, raw: raw) == read([[0]], kind) == ['["1970-01-01"]']


class Held(list[str]):
    """A row that tells when it is gone."""


def test_a_row_group_is_not_held_as_pythons_values() -> None:
    made: list[weakref.ref[Held]] = []
    file, counts = io.BytesIO(), list[int]()

    def batches() -> Iterator[list[Any]]:
        for number in range(70):
            gc.collect()
            assert [row for row in made[:-1000] if row() is not None] == []
            yield (batch := [Held([str(number)]) for _ in range(1000)])
            made.extend(map(weakref.ref, batch))
            del batch

    assert write_parquet(file, ["v"], None, batches(), counts.append) == 70_000
    assert counts == [66_000, 70_000]
    groups = pyarrow.parquet.read_metadata(file)
    assert [groups.row_group(at).num_rows for at in range(groups.num_row_groups)] == [66_000, 4_000]
