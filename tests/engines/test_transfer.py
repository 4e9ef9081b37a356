"""Declared types of each engine, read and made; texts as their values."""

from __future__ import annotations

from typing import Any

import pytest

from katax_cli.engines.registry import load, sql_part
from katax_cli.engines.transfers import ColumnKind, TransferSql, from_hex, in_utc, parsed_type
from tests.engines.connections import settings_for

URLS = {
    "postgresql": "postgresql://u@localhost/d",
    "mysql": "mysql://u@localhost/d",
    "sqlite": "sqlite:///x.db",
}


def sql(engine: str) -> TransferSql:
    made: TransferSql = sql_part(load(settings_for(URLS[engine])), "transfer")
    return made


def test_declared_types_have_a_kind() -> None:
    known = {
        "postgresql": {
            "numeric(10,2)": ColumnKind("decimal", 10, 2),
            "numeric": ColumnKind("decimal"),
            "timestamp(3) with time zone": ColumnKind("timestamptz", scale=3),
            "timestamp without time zone": ColumnKind("timestamp", scale=6),
            "time without time zone": ColumnKind("time", scale=6),
            "time with time zone": ColumnKind("other"),
            "character varying(20)": ColumnKind("text", 20, 0),
            "integer[]": ColumnKind("array"),
            "interval day to second": ColumnKind("interval", scale=6),
            "mood": ColumnKind("other"),
        },
        "mysql": {
            "bigint(20) unsigned": ColumnKind("integer", 64, unsigned=True),
            "tinyint(1)": ColumnKind("integer", 8),
            "decimal(40,10)": ColumnKind("decimal", 40, 10),
            "double": ColumnKind("float", 64),
            "enum('a','b (c)')": ColumnKind("other"),
            "timestamp(6)": ColumnKind("timestamptz", scale=6),
            "datetime": ColumnKind("timestamp", scale=0),
            "varchar(50)": ColumnKind("text", 50),
            "multipolygon": ColumnKind("binary"),
        },
        "sqlite": {
            "UNSIGNED BIG INT": ColumnKind("integer", 64),
            "VARCHAR(20)": ColumnKind("text"),
            "": ColumnKind("other"),
            "DECIMAL(10,5)": ColumnKind("decimal"),
            "DOUBLE PRECISION": ColumnKind("float", 64),
            "DATETIME": ColumnKind("text"),
        },
    }

    for engine, types in known.items():
        assert {declared: sql(engine).kind_of(declared) for declared in types} == types


@pytest.mark.parametrize(
    ("column", "types"),
    [
        (ColumnKind("integer", 64, unsigned=True), ("numeric(20)", "bigint unsigned", "TEXT")),
        (ColumnKind("decimal"), ("numeric", "longtext", "TEXT")),
        (ColumnKind("decimal", 10, 2), ("numeric(10,2)", "decimal(10,2)", "TEXT")),
        (ColumnKind("timestamptz"), ("timestamptz", "datetime(6)", "TEXT")),
        (ColumnKind("uuid"), ("uuid", "char(36)", "TEXT")),
        (ColumnKind("boolean"), ("boolean", "tinyint(1)", "INTEGER")),
        (ColumnKind("binary"), ("bytea", "longblob", "BLOB")),
    ],
)
def test_a_kind_has_a_type_that_holds_all_its_values(column: ColumnKind, types: tuple[str, ...]) -> None:
    assert tuple(sql(engine).type_of(column, key=False).type for engine in URLS) == types


def test_texts_become_values() -> None:
    def bound(engine: str, type: str, value: Any) -> Any:
        bind = sql(engine).bind(type)
        return value if bind is None else bind(value)

    assert bound("mysql", "varbinary(9)", "\\x00ff") == b"\x00\xff"
    assert bound("mysql", "bit(9)", "341") == 341
    assert bound("mysql", "datetime", "2020-01-01 12:00:00+02") == "2020-01-01 10:00:00"
    assert bound("mysql", "tinyint(1)", "t") == "1"
    assert bound("postgresql", "bytea", b"\0\xff") == "\\x00ff"
    assert bound("sqlite", "real", "-Infinity") == float("-inf")
    assert bound("sqlite", "blob", "text") == "text"


def test_forms_of_times_bytes_and_types() -> None:
    assert in_utc("2020-01-01T12:00:00.5Z") == "2020-01-01T12:00:00.5"
    assert in_utc("2020-01-01 00:30:00+0530") == "2019-12-31 19:00:00"
    assert in_utc("0000-00-00") == "0000-00-00"
    assert in_utc("1890-01-01 00:00:00-00:14:44") == "1890-01-01 00:14:44"
    with pytest.raises(ValueError, match="9999-12-31 23:59:59-05 is no moment of the years 1 to 9999 in UTC"):
        in_utc("9999-12-31 23:59:59-05")
    assert (from_hex("\\x"), from_hex("é")) == (b"", b"\xc3\xa9")
    with pytest.raises(ValueError, match="hexadecimal"):
        from_hex("\\x0")
    assert parsed_type("decimal(10, -2) unsigned") == ("decimal", 10, -2, "unsigned")
