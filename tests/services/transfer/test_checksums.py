"""Checksums compare values, not the texts by which servers write them."""

from __future__ import annotations

from typing import Any

import pytest

from katax_cli.engines.transfers import ColumnKind, Kind
from katax_cli.services.transfer.checksums import RowSum


def checksum(kinds: list[Kind], rows: list[tuple[Any, ...]]) -> str:
    found = RowSum([ColumnKind(kind) for kind in kinds])
    found.add(rows)
    return str(found)


@pytest.mark.parametrize(
    ("kind", "same", "other"),
    [
        ("boolean", ["t", "1", "true"], "f"),
        ("decimal", ["1.50", "1.5", "1.5000000000"], "1.51"),
        ("decimal", ["100", "1E+2", "100.0"], "10"),
        ("decimal", ["0", "-0.00"], "0.01"),
        ("float", ["1e-300", "0.1e-299"], "1e-301"),
        ("float", ["0", "-0"], "1"),
        ("binary", ["\\x00ff", b"\x00\xff"], "\\x00"),
        ("timestamp", ["2020-01-01 00:00:00", "2020-01-01 00:00:00.000000"], "2020-01-01 00:00:00.1"),
        (
            "timestamptz",
            ["2020-01-01 02:00:00+02", "2020-01-01 00:00:00+00", "2020-01-01 00:00:00"],
            "2020-01-01 02:00:00",
        ),
        ("interval", ["-838:59:59.500000", "PT-838H-59M-59.5S"], "838:59:59.500000"),
        ("interval", ["P1Y2M3DT4H", "P14M3DT4H"], "P1Y2M3D"),
        ("json", ['{"a": 1.0, "b": [2]}', '{"b":[2],"a":1.00}'], '{"a": "1"}'),
        ("text", ["a"], "a "),
        ("text", [""], None),
    ],
)
def test_the_same_value_in_other_words(kind: Kind, same: list[Any], other: Any) -> None:
    sums = {checksum([kind], [(value,)]) for value in same}

    assert len(sums) == 1
    assert checksum([kind], [(other,)]) not in sums


def test_order_does_not_count_and_places_do() -> None:
    assert checksum(["text"], [("a",), ("b",)]) == checksum(["text"], [("b",), ("a",)])
    assert checksum(["text", "text"], [("a", "b")]) != checksum(["text", "text"], [("b", "a")])
    assert checksum(["text"], [("a",), ("a",)]) != checksum(["text"], [("a",)])
