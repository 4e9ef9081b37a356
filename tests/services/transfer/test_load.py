"""Imports on real servers: each row once, whatever happens; what is refused has a line and a reason."""

from __future__ import annotations

import csv
import gzip
import io
import random
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from katax_cli.errors import ConfigError, KataxError, LockHeld, QueryError, Refused
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.transfer import checkpoint, load
from katax_cli.services.transfer.checkpoint import Checkpoints, ImportCheckpoint
from katax_cli.services.transfer.export import Wanted, export
from katax_cli.services.transfer.formats.files import Compression, FileKind, Format
from katax_cli.services.transfer.formats.sources import Batch, RowFile
from katax_cli.services.transfer.formats.writers import CsvForm
from katax_cli.services.transfer.import_run import ImportPlan, LoadedRows
from katax_cli.services.transfer.load import Import
from tests.servers.fixtures import MakeFresh, Target
from tests.services.transfer.connections import open_sql
from tests.services.transfer.killing import ended
from tests.services.transfer.values import create, fill
from tests.waiting import until


def source(data: bytes, format: Format = "csv", **changes: Any) -> RowFile:
    return RowFile("rows", io.BytesIO(data), FileKind(format, None), **changes)


def imported(
    database: SqlDatabase, data: bytes, plan: ImportPlan, format: Format = "csv", **changes: Any
) -> LoadedRows:
    return Import(database, source(data, format, **changes), plan).run()


def exported(database: SqlDatabase, table: str, format: Format = "csv") -> bytes:
    stream = io.BytesIO()
    export(database, Wanted(table, None, format), stream)
    return stream.getvalue()


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_what_was_exported_is_imported_as_it_was(format: Format, sql_engine: Target) -> None:
    with open_sql(sql_engine.url) as database:
        fill(database)
        if format == "parquet" and sql_engine.engine == "postgresql":
            database.execute("update things set day = null, moment = null, zoned = null where id < 3")
        if format == "jsonl" and sql_engine.engine == "postgresql":
            # JSON's null cannot be told from NULL.
            database.execute("update things set doc = null, docs = null where id = 2")
        if format == "parquet" and sql_engine.engine == "sqlite":
            database.execute("update things set bytes = null where id = 3")
        create(database, "copies")
        data = exported(database, "things", format)
        done = imported(database, data, ImportPlan("copies"), format)
        again = imported(database, data, ImportPlan("copies", key=("id",), again=True), format)

        assert exported(database, "copies") == exported(database, "things")
        assert (done.imported, done.rejected, again.imported) == (3, 0, 3)


def test_arrays_of_json_and_odd_scales_come_back(postgresql_url: str) -> None:
    with open_sql(postgresql_url) as database:
        for name in ("things", "copies"):
            database.execute(f"create table {name} (a jsonb[], j json[], n numeric(3, 5), m numeric(5, -2))")
        database.execute(
            "insert into things values (array['\"null\"'::jsonb, '1', '\"1\"', '[1, {\"a\": null}]', null], "
            "array['{\"b\": 1.0}'::json], 0.00123, 12300)"
        )
        for format in ("jsonl", "parquet"):
            imported(
                database,
                exported(database, "things", format),
                ImportPlan("copies"),
                format,
            )
            assert exported(database, "copies") == exported(database, "things"), format
            database.execute("delete from copies")


def test_bad_rows_are_told_with_line_and_reason(sql_engine: Target, tmp_path: Path) -> None:
    data = b'id,name\n1,a\n2,\n3,"x\ny"\n4\n5,\xff\n6,toolongtoolong\n1,dup\n,b\n8,h\n'
    rejects = str(tmp_path / "rejects.csv")
    with open_sql(sql_engine.url) as database:
        check = ", check (length(name) < 10)" if sql_engine.engine == "sqlite" else ""
        database.execute(f"create table t (id bigint not null primary key, name varchar(9) not null{check})")
        with pytest.raises(KataxError, match="rows, line 6: has 1 cells, expected 2; nothing was imported"):
            imported(database, data, ImportPlan("t"))
        with pytest.raises(KataxError, match="more than --max-errors 2"):
            imported(database, data, ImportPlan("t", max_errors=2, rejects=rejects))
        assert database.run("select count(*) from t").rows == [(0,)]
        done = imported(database, data, ImportPlan("t", max_errors=9, rejects=rejects))

        assert database.run("select id from t order by id").rows == [(1,), (3,), (8,)]
    assert (done.imported, done.rejected) == (3, 6)
    header, *lines = csv.reader(io.StringIO(Path(rejects).read_bytes().decode("latin-1"), newline=""))
    assert header == ["line", "reason", "row"]
    assert sorted((int(line), row.strip('"')) for line, _, row in lines) == [
        (3, "2,"),
        (6, "4"),
        (7, "5,\xff"),
        (8, "6,toolongtoolong"),
        (9, "1,dup"),
        (10, ",b"),
    ]
    assert all(reason for _, reason, _ in lines)


def test_a_line_that_ends_a_copy_of_postgresql_ends_no_import(postgresql_url: str) -> None:
    with open_sql(postgresql_url) as database:
        database.execute("create table t (name text)")
        done = imported(database, b"name\na\n\\.\nb\n", ImportPlan("t"))

        assert database.run("select name from t").rows == [("a",), ("\\.",), ("b",)]
        assert done.imported == 3
        database.execute("create table pairs (id int, name text)")
        with pytest.raises(KataxError, match="rows, line 3: has 1 cells, expected 2"):
            imported(database, b"id,name\n1,a\n\\.\n2,b\n", ImportPlan("pairs"))


def test_quotes_within_a_cell_are_part_of_it(sql_engine: Target) -> None:
    with open_sql(sql_engine.url) as database:
        database.execute("create table t (id int, name varchar(9), note varchar(9))")
        imported(database, b'id,name,note\n1,5"x10","a""b"\n2,c""d,""\n3,,"x,\ny"\n', ImportPlan("t"))

        found = database.run("select name, note from t order by id").rows
        assert found == [('5"x10"', 'a"b'), ('c""d', ""), (None, "x,\ny")]


def test_half_a_character_is_refused(sql_engine: Target) -> None:
    """MariaDB would take it, and no one could read the row again."""
    with open_sql(sql_engine.url) as database:
        database.execute("create table t (id bigint, name varchar(20))")
        line = rb'{"id": 1, "name": "\ud800"}'
        with pytest.raises(
            KataxError, match=r"rows, line 1: .* surrogates not allowed; nothing was imported"
        ):
            imported(database, line, ImportPlan("t"), "jsonl")


def test_what_is_the_fault_of_no_row_refuses_none(fresh: MakeFresh, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.csv"
    with open_sql(fresh("postgresql").url) as database:
        database.execute("create view t as select 1 as id")
        with pytest.raises(QueryError, match="cannot copy to view"):
            imported(database, b"id\n1\n2\n", ImportPlan("t", max_errors=9, rejects=str(rejects)))
    assert not rejects.exists()
    with open_sql(fresh("sqlite").url) as database:
        database.execute("create table kept (id integer)")
        database.execute("create view t as select id from kept")
        database.execute(
            "create trigger i instead of insert on t begin insert into kept values (new.id); end"
        )

        assert imported(database, b"id\n1\n2\n", ImportPlan("t")).imported == 2


DROPS_ODD_ROWS = {
    "postgresql": """create function even() returns trigger language plpgsql as
        $$ begin if new.id % 2 = 1 then return null; end if; return new; end $$;
        create trigger even before insert on t for each row execute function even()""",
    "sqlite": """create trigger even before insert on t when new.id % 2 = 1
        begin select raise(ignore); end""",
}


@pytest.mark.parametrize("engine_name", DROPS_ODD_ROWS)
def test_rows_that_a_trigger_drops_are_not_counted(engine_name: str, fresh: MakeFresh) -> None:
    with open_sql(fresh(engine_name).url) as database:
        database.execute("create table t (id bigint primary key, name text)")
        for sql in DROPS_ODD_ROWS[engine_name].split(";\n"):
            database.execute(sql)
        lines = b"".join(b'{"id": %d, "name": "a"}\n' % number for number in range(10, 15))
        counts = [
            imported(database, b"id,name\n1,a\n2,b\n3,c\n4,d\n6,f\n", ImportPlan("t")).imported,
            imported(database, lines, ImportPlan("t"), "jsonl").imported,
        ]

        assert counts == [3, 3]
        assert database.run("select count(*) from t").rows == [(6,)]


def test_a_key_changes_the_rows_that_are_there(sql_engine: Target) -> None:
    with open_sql(sql_engine.url) as database:
        database.execute("create table t (id bigint primary key, name varchar(20), kept int default 7)")
        database.execute("insert into t values (1, 'old', 1), (9, 'stays', 9)")
        data = b"id,name\n1,first\n2,two\n1,last\n"
        done = imported(database, data, ImportPlan("t", key=("id",)))

        assert database.run("select * from t order by id").rows == [
            (1, "last", 1),
            (2, "two", 7),
            (9, "stays", 9),
        ]
        assert done.rejected == 0
        with pytest.raises(ConfigError, match="name is no unique key of 't'"):
            imported(database, b"id,name\n5,x\n", ImportPlan("t", key=("name",)))
        with pytest.raises(ConfigError, match="no column 'id', which is part of --key"):
            imported(database, b"name\nx\n", ImportPlan("t", key=("id",)))


def test_mysql_changes_no_row_by_another_key(mysql_url: str) -> None:
    with open_sql(mysql_url) as database:
        database.execute("create table t (id bigint primary key, mail varchar(20) unique, n int)")
        with pytest.raises(ConfigError, match=r"'t' has other unique keys \(mail\)"):
            imported(database, b"id,mail\n1,a\n", ImportPlan("t", key=("id",)))
        assert imported(database, b"id,n\n1,5\n", ImportPlan("t", key=("id",))).imported == 1


def test_mysql_takes_plain_rows_as_it_takes_them_one_by_one(mysql_url: str) -> None:
    """One cell in quotes has all rows read one by one; a row that is refused has its line."""
    data = "id,name,at,yes\n" + "".join(
        f"{number},{name},{at},{yes}\n"
        for number, (name, at, yes) in enumerate(
            [
                ("O'Brien", "2026-01-02 03:04:05.25+00", "t"),
                ("a\\'b\\", "2026-01-02 03:04:05-05", "0"),
                ("", "", ""),
                ("😀 \t''", "2026-01-02T03:04:05Z", "false"),
                ("\\N", "2026-01-02 03:04:05", "1"),
            ]
            * 3
        )
    )
    columns = "(id bigint, name varchar(20), at timestamp(6) null, yes tinyint(1))"
    for mode in ("STRICT_ALL_TABLES", "NO_BACKSLASH_ESCAPES"):
        with open_sql(f"{mysql_url}?sql_mode={mode}") as database:
            for name in ("plain", "slow"):
                database.execute(f"drop table if exists {name}")
                database.execute(f"create table {name} {columns}")
            done = [
                imported(database, text.encode(), ImportPlan(name, again=True)).imported
                for name, text in (("plain", data), ("slow", data.replace("\n0,", '\n"0",')))
            ]
            assert done == [15, 15]
            plain, slow = (
                database.run(f"select * from {name} order by id").rows for name in ("plain", "slow")
            )
            assert plain == slow
            assert plain[0] == (0, "O'Brien", datetime(2026, 1, 2, 3, 4, 5, 250000), 1)
            assert plain[2] == (2, None, None, None)
            with pytest.raises(KataxError, match="rows, line 9: Data truncated for column 'id'"):
                imported(database, data.replace("\n7,", "\n7x,").encode(), ImportPlan("slow"))


def test_a_table_without_transactions_needs_a_key(mysql_url: str) -> None:
    with open_sql(mysql_url) as database:
        database.execute("create table t (id bigint primary key) engine = myisam")
        with pytest.raises(
            ConfigError, match="'t' has no transactions, so a row could come twice; name its --key"
        ):
            imported(database, b"id\n1\n", ImportPlan("t"))
        assert imported(database, b"id\n1\n", ImportPlan("t", key=("id",))).imported == 1


def test_a_file_is_imported_once(sql_engine: Target) -> None:
    with open_sql(sql_engine.url) as database:
        database.execute("create table t (id bigint)")
        first = imported(database, b"id\n1\n", ImportPlan("t"))
        second = imported(database, b"id\n1\n", ImportPlan("t"))
        assert (first.finished_at, second.finished_at is None) == (None, False)
        assert database.run("select count(*) from t").rows == [(1,)]
        imported(database, b"id\n1\n", ImportPlan("t", again=True))
        assert database.run("select count(*) from t").rows == [(2,)]
        imported(database, b"id\n1\n", ImportPlan("t", replace=True))
        assert database.run("select count(*) from t").rows == [(1,)]


def test_a_table_is_created_with_types_that_lose_nothing(sql_engine: Target) -> None:
    data = b"id,zip,day,price\n1,02134,2020-02-29,1.50\n2,10001,,2.25\n"
    with open_sql(sql_engine.url) as database:
        said: list[object] = []
        Import(database, source(data), ImportPlan("t", key=("id",), create=True), note=said.append).run()
        types = [column.type.partition("(")[0].lower() for column in database.describe("t").columns]  # type: ignore[union-attr]

        assert (
            types
            == {
                "postgresql": ["bigint", "text", "date", "numeric"],
                "mysql": ["bigint", "longtext", "date", "decimal"],
                "sqlite": ["integer", "text", "text", "text"],
            }[sql_engine.engine]
        )
        assert exported(database, "t") == data
        assert str(said[0]).startswith("CREATE TABLE")
        with pytest.raises(ConfigError, match="'t' exists; leave out --create"):
            imported(database, b"id\n7\n", ImportPlan("t", create=True))


def test_another_file_is_kept_out_of_a_half_filled_table(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_READ", 8)
    good = b"id\n" + b"1\n" * 20
    with open_sql(sqlite_url) as database:
        database.execute("create table t (id integer not null)")
        with pytest.raises(
            KataxError, match=r"line 22: has 2 cells, expected 1; the rows up to line 2\d are in"
        ):
            imported(database, good + b"x,y\n", ImportPlan("t"))
        with pytest.raises(Refused, match="another file went into 't' up to its line 2"):
            imported(database, good, ImportPlan("t"))
        with pytest.raises(Refused, match="was begun with other options"):
            imported(database, good + b"x,y\n", ImportPlan("t"), csv=CsvForm(delimiter=";"))
        done = imported(database, good + b"x,y\n", ImportPlan("t", max_errors=1))

        assert (done.imported, done.rejected, done.earlier > 15) == (20, 1, True)
        assert database.run("select count(*) from t").rows == [(20,)]


def test_of_two_files_at_once_one_is_refused(sql_engine: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one goes on where it stopped: its checkpoint stays."""
    for name in ("_READ", "_READ_AT_ONCE", "_COPIED"):
        monkeypatch.setattr(load, name, 2000)
    first, second = (b"id\n" + b"".join(b"%d\n" % n for n in range(start, 3000)) for start in (0, 1))
    claim = Checkpoints.claim

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    def meanwhile(self: Checkpoints, options: str, *, forget: bool) -> ImportCheckpoint:
        monkeypatch.setattr(Checkpoints, "claim", claim)
        with pytest.raises(KeyboardInterrupt):
            Import(other, source(first), ImportPlan("t"), progress=stop).run()
        return claim(self, options, forget=forget)

    with open_sql(sql_engine.url) as database, open_sql(sql_engine.url) as other:
        database.execute("create table t (id bigint)")
        monkeypatch.setattr(Checkpoints, "claim", meanwhile)
        for _ in range(2):
            with pytest.raises(Refused, match="another file went into 't'"):
                imported(database, second, ImportPlan("t"))
        assert imported(database, first, ImportPlan("t")).earlier > 0
        assert database.run("select count(*), count(distinct id) from t").rows == [(3000, 3000)]
        assert imported(database, second, ImportPlan("t")).written == 2999


def test_half_a_character_of_json_is_refused(sql_engine: Target, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.csv"
    with open_sql(sql_engine.url) as database:
        database.execute("create table t (name varchar(9))")
        data = b'{"name": "a"}\n{"name": "\\ud800"}\n{"name": "\\ud83d\\ude00"}\n'
        done = imported(database, data, ImportPlan("t", max_errors=1, rejects=str(rejects)), "jsonl")

        assert (done.imported, done.rejected) == (2, 1)
        assert database.run("select name from t").rows == [("a",), ("\U0001f600",)]
    assert rejects.read_text().splitlines()[1].startswith("2,")


def test_of_two_runs_of_one_import_the_second_is_refused(
    sql_engine: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --again too: it would begin anew beside the rows of the first."""
    for name in ("_READ", "_READ_AT_ONCE", "_COPIED"):
        monkeypatch.setattr(load, name, 2000)
    monkeypatch.setattr(checkpoint, "_PATIENCE", 0.0)
    data = b"id\n" + b"".join(b"%d\n" % number for number in range(5000))
    refused: list[pytest.ExceptionInfo[LockHeld]] = []
    with open_sql(sql_engine.url) as database, open_sql(sql_engine.url) as other:
        database.execute("create table t (id bigint)")

        def meanwhile(count: int) -> None:
            for again in (False, True) if not refused else ():
                with pytest.raises(LockHeld, match="import into t") as error:
                    Import(other, source(data), ImportPlan("t", again=again)).run()
                refused.append(error)

        Import(database, source(data), ImportPlan("t"), progress=meanwhile).run()
        assert database.run("select count(*), count(distinct id) from t").rows == [(5000, 5000)]
        assert len(refused) == 2

        assert Import(other, source(data), ImportPlan("t", again=True)).run().written == 5000
    assert [*Path().glob("*.lock"), *Path(sql_engine.url.partition("///")[2]).parent.glob("*.lock")] == []


PROGRAM = """
import sys
from katax_cli.services.transfer import load
from katax_cli.services.transfer.formats.files import FileKind
from katax_cli.services.transfer.formats.sources import Batch, RowFile
from katax_cli.services.transfer.import_run import ImportPlan
from tests.services.transfer.connections import open_sql
load._READ = load._READ_AT_ONCE = load._COPIED = 20_000
with open_sql(sys.argv[1]) as database, open(sys.argv[2], "rb") as file:
    source = RowFile("rows", file, FileKind("csv", None))
    load.Import(database, source, ImportPlan("t"), lambda count: print(count, flush=True)).run()
"""


def test_a_killed_import_goes_on_where_it_stood(sql_engine: Target, tmp_path: Path) -> None:
    """Each time it is killed somewhere in the middle; in the end every row is there once."""
    file = tmp_path / "rows.csv"
    file.write_text("id,name\n" + "".join(f"{number},name {number}\n" for number in range(20_000)))
    with open_sql(sql_engine.url) as database:
        database.execute("create table t (id bigint, name varchar(40))")
    chance = random.Random(7)
    for _ in range(3):
        ended(PROGRAM, sql_engine.url, str(file), kill_after=chance.randrange(3) + 1)
    # A server that is busy may take its time to notice that the client is gone: until then the lock is held.
    until(lambda: ended(PROGRAM, sql_engine.url, str(file)) == 0)
    with open_sql(sql_engine.url) as database:
        until(lambda: database.run("select count(*) from katax_imports where state = 'done'").rows == [(1,)])
        rows = database.run("select count(*), count(distinct id), min(id), max(id) from t").rows

    assert rows == [(20_000, 20_000, 0, 19_999)]


def test_the_rows_of_a_file_are_estimated_by_those_that_were_read() -> None:
    data = b"id\n" + b"".join(b"%09d\n" % number for number in range(400_000))
    packings: list[tuple[bytes, Compression | None]] = [(data, None), (gzip.compress(data, 1), "gzip")]
    for packed, compression in packings:
        source = RowFile("rows", io.BytesIO(packed), FileKind("csv", compression))
        count, estimates = 0, []
        assert source.columns == ["id"]
        for batch in source.batches(size=2**20, position=0, line=1):
            count += sum(1 for _ in batch.rows(lambda _line, _reason, _row: None))
            estimates.append(source.rows_estimate(count))

        assert estimates[-1] == count == 400_000
        assert 100_000 < (estimates[0] or 0) < 600_000, estimates
    assert RowFile("rows", io.BytesIO(), FileKind("parquet", None)).rows_estimate(1) is None


class _ReadMeanwhile(io.FileIO):
    """A file from which another thread reads just when somebody stands at its end to see how long it is."""

    batches: Iterator[Batch]
    rows = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = super().seek(offset, whence)
        if whence == io.SEEK_END:
            self.rows += sum(1 for batch in self.batches for _ in batch.rows(lambda *_: None))
        return place


def test_an_estimate_takes_no_row_from_the_thread_that_reads_ahead(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"id\n" + b"".join(b"%09d\n" % number for number in range(300_000)))
    with _ReadMeanwhile(path) as file:
        read = RowFile("rows", cast(BinaryIO, file), FileKind("csv", None))
        file.batches = read.batches(size=2**18, position=0, line=1)
        first = sum(1 for _ in next(file.batches).rows(lambda *_: None))
        assert read.rows_estimate(first) is not None
        rest = sum(1 for batch in file.batches for _ in batch.rows(lambda *_: None))

    assert first + file.rows + rest == 300_000
