"""Types are inferred only where every text comes back as it was."""

from __future__ import annotations

import pytest

from katax_cli.engines.transfers import ColumnKind
from katax_cli.services.transfer.formats.inference import inferred, json_text


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "-5", "9223372036854775807"], ColumnKind("integer", 64)),
        (["1", "02134"], ColumnKind("text")),
        (["1", "9223372036854775808"], ColumnKind("text")),
        (["1", " 2"], ColumnKind("text")),
        (["+1"], ColumnKind("text")),
        (["-0"], ColumnKind("text")),
        (["1.50", "-12.25"], ColumnKind("decimal", 4, 2)),
        (["1.50", "1.5"], ColumnKind("decimal")),
        (["1.5", "1"], ColumnKind("text")),
        (["1e5"], ColumnKind("text")),
        (["2020-02-29"], ColumnKind("date")),
        (["2021-02-29"], ColumnKind("text")),
        (["0000-00-00"], ColumnKind("text")),
        (["2020-01-01 00:00:00.5"], ColumnKind("timestamp")),
        (["2020-01-01 00:00:00+00"], ColumnKind("timestamptz")),
        (["2020-01-01 00:00:00+02"], ColumnKind("text")),
        (["t", "f"], ColumnKind("boolean")),
        (["00000000-0000-0000-0000-00000000000a"], ColumnKind("uuid")),
        (["00000000-0000-0000-0000-00000000000A"], ColumnKind("text")),
        ([None], ColumnKind("text")),
        (["", "1"], ColumnKind("text")),
        (["١"], ColumnKind("text")),
    ],
)
def test_a_type_that_loses_nothing(texts: list[str | None], kind: ColumnKind) -> None:
    [column] = inferred(1, [[text] for text in texts])

    assert column.kind() == kind


def test_a_string_of_json_is_no_number() -> None:
    assert [json_text(*pair) for pair in [(5, "5"), ("5", '"5"'), ("2020-01-01", '"2020-01-01"')]] == [
        "5",
        '"5"',
        "2020-01-01",
    ]
