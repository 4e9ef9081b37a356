"""Texts for columns: what a number, a truth or a moment may be, where a server would guess."""

from decimal import Decimal

import pytest

from katax_cli.core.sql import Dialect
from katax_cli.core.sql.values import Kind, checked, column_kind, compared


@pytest.mark.parametrize(
    ("dialect", "types"),
    [
        (
            "postgresql",
            {"integer": "integer", "bigint": "integer", "numeric(10,2)": "number", "text": "other"},
        ),
        (
            "postgresql",
            {"double precision": "number", "date": "other", "interval": "other", "point": "other"},
        ),
        ("mysql", {"int(11) unsigned": "integer", "tinyint(1)": "boolean", "tinyint(4)": "integer"}),
        (
            "mysql",
            {"decimal(10,2)": "number", "varchar(40)": "other", "datetime(6)": "moment", "point": "other"},
        ),
        ("sqlite", {"INTEGER": "integer", "": "untyped", "BLOB": "untyped", "varchar(20)": "other"}),
        ("sqlite", {"BOOLEAN": "boolean", "DATETIME": "moment", "REAL": "number", "POINT": "other"}),
    ],
)
def test_kinds_of_columns(dialect: Dialect, types: dict[str, Kind]) -> None:
    assert {declared: column_kind(declared, dialect) for declared in types} == types


def test_text_that_a_column_cannot_hold_is_refused() -> None:
    refused: list[tuple[str, Kind, Dialect]] = [
        ("1 and name = b", "integer", "mysql"),
        ("x", "number", "sqlite"),
        ("", "integer", "postgresql"),
        ("0x10", "integer", "mysql"),
        ("1_000", "integer", "sqlite"),
        ("٣", "integer", "sqlite"),
        ("nan", "number", "mysql"),
        ("maybe", "boolean", "sqlite"),
        ("now", "moment", "sqlite"),
        ("12/31/2019", "moment", "sqlite"),
        ("2020", "moment", "mysql"),
    ]
    for text, kind, dialect in refused:
        with pytest.raises(ValueError, match="n takes "):
            checked("n", text, kind, dialect)
    for text in ("2030-01-31", "2030-01-31 10:00:00", "12:30", "1577836800"):
        assert checked("n", text, "moment", "sqlite") == text


def test_numbers_are_compared_as_numbers() -> None:
    big = "9007199254740993"
    assert compared("n", big, "integer", "mysql", computed=False) == int(big)
    assert compared("n", "1.10", "number", "mysql", computed=False) == Decimal("1.10")
    assert compared("n", "1.5", "integer", "postgresql", computed=False) == Decimal("1.5")
    assert compared("n", "nan", "number", "postgresql", computed=False) == "nan"
    assert compared("n", "5", "integer", "sqlite", computed=False) == "5"
    assert compared("length(n)", "5", "number", "sqlite", computed=True) == 5
    assert compared("n", "5", "untyped", "sqlite", computed=False) == 5
    assert compared("n", "b", "untyped", "sqlite", computed=False) == "b"
    assert compared("n", "TRUE", "boolean", "sqlite", computed=False) is True
    assert compared("n", "5", "other", "mysql", computed=False) == "5"
