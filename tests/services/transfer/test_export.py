"""Exports on real servers: every value in one form, nothing but reading, bounded memory."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow.parquet as parquet
import pytest

from katax_cli.errors import ConfigError, KataxError, QueryError, Refused
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.transfer.export import Wanted, export
from katax_cli.services.transfer.formats.files import FORMATS, Format
from katax_cli.services.transfer.formats.writers import CsvForm
from tests.servers.fixtures import Target
from tests.services.transfer.connections import open_sql
from tests.services.transfer.values import CREATE, ROWS_AS_CSV, fill


def exported(database: SqlDatabase, wanted: Wanted) -> bytes:
    stream = io.BytesIO()
    export(database, wanted, stream)
    return stream.getvalue()


def test_csv_of_every_type(sql_engine: Target) -> None:
    with open_sql(sql_engine.url) as database:
        fill(database)
    with open_sql(sql_engine.url, read_only=True) as database:
        stream = io.BytesIO()
        done = export(database, Wanted("things", None, "csv"), stream)
        semicolons = exported(database, Wanted("things", None, "csv", CsvForm("-", ";", header=False)))
        query = "select id, name as n from things order by id -- the end"
        asked = exported(database, Wanted(None, query, "csv"))

    header, *rows = stream.getvalue().decode().split("\n1,", 1)
    assert (done.rows, done.left_out) == (3, ("doubled",))
    assert header == ",".join(name for name in CREATE[sql_engine.engine])
    assert "1," + rows[0] == ROWS_AS_CSV[sql_engine.engine]
    assert (b"id" in semicolons, b"\n1;-;" in b"\n" + semicolons) == (False, True)
    assert (asked[:7], asked.count(b"\n")) == (b"id,n\n1,", 5)


def test_the_estimate_of_a_table_comes_before_its_rows(postgresql_url: str) -> None:
    heard: list[tuple[str, int | None]] = []
    with open_sql(postgresql_url) as database:
        fill(database)
        for statement in ("select 1", "analyze things"):
            database.run(statement)
            export(
                database,
                Wanted("things", None, "csv"),
                io.BytesIO(),
                on_rows=lambda count: heard.append(("rows", count)),
                on_estimate=lambda count: heard.append(("estimate", count)),
            )

    assert (heard[0][0], heard[-1]) == ("estimate", ("rows", 3))
    assert ("estimate", 3) in heard


def test_an_export_only_reads(sql_engine: Target) -> None:
    with open_sql(sql_engine.url) as database:
        fill(database)
    with open_sql(sql_engine.url, read_only=True) as database:
        for query in (
            "insert into things (id) values (9)",
            "select 1) to stdout; drop table things; --",
            "delete from things",
        ):
            with pytest.raises((Refused, QueryError)):
                exported(database, Wanted(None, query, "csv"))
        with pytest.raises(KataxError, match="no table named 'nothing'"):
            exported(database, Wanted("nothing", None, "csv"))
        with pytest.raises(ConfigError, match="no table to insert into"):
            exported(database, Wanted(None, "select 1", "sql"))

        assert database.run("select count(*) from things").rows == [(3,)]


def test_sql_makes_the_same_rows_again(sql_engine: Target) -> None:
    from katax_cli.core.sql import split
    from katax_cli.services.tables.scripts import run_script

    with open_sql(sql_engine.url) as database:
        fill(database)
        if sql_engine.engine != "postgresql":
            database.execute("insert into things (id, name) values (9, ?)", ["a\0'b"])
        before = exported(database, Wanted("things", None, "csv"))
        script = exported(database, Wanted("things", None, "sql")).decode()
        database.execute("delete from things")
        run_script(database, list(split(script, database.dialect)))

        assert exported(database, Wanted("things", None, "csv")) == before


def test_json_lines_are_typed(sql_engine: Target) -> None:
    with open_sql(sql_engine.url) as database:
        fill(database)
        lines = exported(database, Wanted("things", None, "jsonl")).decode().splitlines()

    first, second, third = map(json.loads, lines)
    assert (first["id"], first["name"], second["name"]) == (1, None, "")
    assert third["name"] == "é😀 \"q\" 's' , \\ \r\n\tx"
    assert first["bytes"] == "\\x00ff27"


@pytest.mark.parametrize("format", ["csv", "jsonl", "sql", "parquet"])
def test_an_empty_table_is_a_whole_file(format: Format, sqlite_url: str) -> None:
    with open_sql(sqlite_url) as database:
        database.execute("create table t (a integer, b text)")
        data = exported(database, Wanted("t", None, format))

    if format == "parquet":
        assert parquet.read_table(io.BytesIO(data)).schema.names == ["a", "b"]
    else:
        assert data == {"csv": b"a,b\n", "jsonl": b"", "sql": b""}[format]


def test_parquet_has_the_types_of_the_table(postgresql_url: str) -> None:
    with open_sql(postgresql_url) as database:
        database.execute(
            "create table t (i int, n numeric(10,2), free numeric, ts timestamptz, b bytea, ok boolean, d date)"
        )
        database.execute(
            "insert into t values (1, 1.50, 'NaN', '2020-01-01 12:00:00.5+02', '\\x00', true, '2020-02-29')"
        )
        database.execute("insert into t (i) values (null)")
        table: Any = parquet.read_table(io.BytesIO(exported(database, Wanted("t", None, "parquet"))))
        database.execute("insert into t (d) values ('infinity')")
        with pytest.raises(KataxError, match="column 'd' has a value that date32"):
            exported(database, Wanted("t", None, "parquet"))

    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        "i": "int32",
        "n": "decimal128(10, 2)",
        "free": "string",
        "ts": "timestamp[us, tz=UTC]",
        "b": "binary",
        "ok": "bool",
        "d": "date32[day]",
    }
    rows = table.to_pylist()
    assert (str(rows[0]["n"]), rows[0]["free"], rows[0]["b"]) == ("1.50", "NaN", b"\0")
    assert rows[0]["ts"].isoformat() == "2020-01-01T10:00:00.500000+00:00"
    assert set(rows[1].values()) == {None}


def test_a_table_without_columns_is_named(postgresql_url: str) -> None:
    with open_sql(postgresql_url) as database:
        database.execute("create table bare ()")
        for format in FORMATS:
            stream = io.BytesIO()
            with pytest.raises(
                KataxError, match="table 'bare' on 'main' has no columns: there is nothing to"
            ):
                export(database, Wanted("bare", None, format), stream)
            assert stream.getvalue() == b""


def test_rows_of_tables_that_inherit_are_in_every_format(postgresql_url: str) -> None:
    with open_sql(postgresql_url) as database:
        for sql in (
            "create table parent (id int)",
            "create table child () inherits (parent)",
            "insert into parent values (1)",
            "insert into child values (2)",
        ):
            database.execute(sql)

        assert exported(database, Wanted("parent", None, "csv")) == b"id\n1\n2\n"
        assert exported(database, Wanted("parent", None, "jsonl")) == b'{"id": 1}\n{"id": 2}\n'
