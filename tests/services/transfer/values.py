"""A table `things` with a column of every type of an engine, three rows of awkward values, and what they are as CSV."""

from __future__ import annotations

from typing import Any

from katax_cli.services.databases.sql import SqlDatabase

_TEXT = "é😀 \"q\" 's' , \\ \r\n\tx"
_IN_CSV = '"é😀 ""q"" \'s\' , \\ \r\n\tx"'

CREATE: dict[str, dict[str, str]] = {
    "postgresql": {
        "id": "bigint primary key", "name": "text", "amount": "numeric", "price": "numeric(12,4)",
        "ratio": "double precision", "bytes": "bytea", "doc": "json", "docs": "jsonb", "words": "text[]", "uid": "uuid",
        "span": "interval", "day": "date", "hour": "time", "zoned_hour": "timetz", "moment": "timestamp",
        "zoned": "timestamptz", "ok": "boolean",
    },
    "mysql": {
        "id": "bigint unsigned primary key", "name": "varchar(50)", "amount": "decimal(40,10)", "ratio": "double",
        "bytes": "varbinary(20)", "blob_": "longblob", "doc": "json", "bits": "bit(9)", "choice": "enum('a','b')",
        "year_": "year", "span": "time(6)", "day": "date", "moment": "datetime(6)", "zoned": "timestamp(6) null",
        "ok": "tinyint(1)", "place": "point", "small": "float",
    },
    "sqlite": {
        "id": "integer primary key", "name": "text", "ratio": "real", "bytes": "blob", "amount": "numeric",
        "moment": "datetime",
    },
}  # fmt: skip

_INSERTED: dict[str, list[tuple[Any, ...]]] = {
    "postgresql": [
        (1, None, "1.50", "-0.0001", "NaN", "\\x00ff27", '{"a":  1.0}', '{"b": 1e30}', '{a,NULL,"x,y",""}',
         "00000000-0000-0000-0000-000000000001", "P1M2DT-3.5S", "0044-03-15 BC", "24:00:00", "10:00:00+02",
         "infinity", "2020-06-01 12:00:00.123456+02", "t"),
        (2, "", "NaN", None, "-Infinity", "\\x", "null", "null", "{}", None, None, "infinity", None, None,
         "2020-01-01 00:00:00", "-infinity", "f"),
        (3, _TEXT, "123456789012345678901234567890.123456789", None, "1e-300", None, None, '"s"', *[None] * 9),
    ],
    "mysql": [
        (1, None, "123456789012345678901234567890.0123456789", 1e-300, b"\x00\xff'", b"", '{"a":  1.0}', 341, "a",
         2020, "-838:59:59.5", "1000-01-01", "9999-12-31 23:59:59", "2020-06-01 12:00:00.123456", 1,
         bytes.fromhex("000000000101000000000000000000f03f0000000000000040"), 16777216),
        (2, "", None, -1.5, b"", b"\\x", "null", 0, "b", 0, "00:00:00", None, None, None, 0, None, 0.1),
        (18446744073709551615, _TEXT, *[None] * 15),
    ],
    "sqlite": [
        (1, None, 1.5, b"\x00\xff'", 12.5, "2020-01-01 00:00:00"),
        (2, "", float("inf"), b"", None, None),
        (3, _TEXT, 1e-300, "text", 9223372036854775807, None),
    ],
}  # fmt: skip

_FIRST_CSV = {
    "postgresql": (
        "1,,1.50,-0.0001,NaN,\\x00ff27,\"{\"\"a\"\":  1.0}\",\"{\"\"b\"\": 1000000000000000000000000000000}\","
        '"{a,NULL,""x,y"",""""}",00000000-0000-0000-0000-000000000001,P1M2DT-3.5S,0044-03-15 BC,24:00:00,10:00:00+02,'
        "infinity,2020-06-01 10:00:00.123456+00,t\n"
    ),
    "mysql": (
        "1,,123456789012345678901234567890.0123456789,1e-300,\\x00ff27,\\x,\"{\"\"a\"\":  1.0}\",341,a,2020,"
        "-838:59:59.500000,1000-01-01,9999-12-31 23:59:59.000000,2020-06-01 12:00:00.123456,1,"
        "\\x000000000101000000000000000000f03f0000000000000040,16777216\n"
    ),
    "sqlite": "1,,1.5,\\x00ff27,12.5,2020-01-01 00:00:00\n",
}  # fmt: skip
ROWS_AS_CSV = {
    "postgresql": _FIRST_CSV["postgresql"]
    + '2,"",NaN,,-Infinity,\\x,null,null,{},,,infinity,,,2020-01-01 00:00:00,-infinity,f\n'
    + f'3,{_IN_CSV},123456789012345678901234567890.123456789,,1e-300,,,"""s""",,,,,,,,,\n',
    "mysql": _FIRST_CSV["mysql"]
    + '2,"",,-1.5,\\x,\\x5c78,null,0,b,0000,00:00:00.000000,,,,0,,0.10000000149011612\n'
    + f"18446744073709551615,{_IN_CSV},,,,,,,,,,,,,,,\n",
    "sqlite": _FIRST_CSV["sqlite"] + f'2,"",Inf,\\x,,\n3,{_IN_CSV},1e-300,text,9223372036854775807,\n',
}


def create(database: SqlDatabase, name: str = "things") -> None:
    columns = ", ".join(f"{column} {type}" for column, type in CREATE[database.engine.name].items())
    generated = "stored" if database.engine.name == "postgresql" else "virtual"
    base = "ratio" if database.engine.name == "mysql" else "id"
    database.execute(
        f"create table {name} ({columns}, doubled {'double precision' if base == 'ratio' else 'bigint'} "
        f"generated always as ({base} * 2) {generated})"
    )


def fill(database: SqlDatabase, name: str = "things") -> None:
    """Makes the table and its rows, with times that are UTC."""
    create(database, name)
    columns = CREATE[database.engine.name]
    marks = ", ".join("?" * len(columns))
    with database.session() as session:
        if database.engine.name == "mysql":
            session.execute("SET time_zone = '+00:00'")
        for row in _INSERTED[database.engine.name]:
            session.execute(f"insert into {name} ({', '.join(columns)}) values ({marks})", row)
