"""Copies between each two engines: values kept, rows counted, stops gone on from once that was allowed."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from katax_cli.core.sql import split
from katax_cli.errors import ConfigError, KataxError, LockHeld, Refused
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables.scripts import run_script
from katax_cli.services.transfer import copy as copying
from katax_cli.services.transfer.copy import CopiedTable, Copy, CopyPlan, TableReport
from katax_cli.services.transfer.diff import DiffPlan, differences
from katax_cli.services.transfer.export import Wanted, export
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, Throwaway
from tests.services.transfer.connections import open_sql
from tests.services.transfer.killing import ended
from tests.services.transfer.values import fill
from tests.waiting import until

ENGINES = ("postgresql", "mysql", "sqlite")


@pytest.fixture
def urls(fresh: MakeFresh, postgresql: Server, mysql: Server) -> dict[str, tuple[str, str]]:
    """Two empty databases of each engine."""
    servers: dict[str, str | Server] = {"postgresql": postgresql, "mysql": mysql, "sqlite": "sqlite"}
    return {engine: (fresh(server).url, fresh(server).url) for engine, server in servers.items()}


def copied(
    source_url: str, target: SqlDatabase, plan: CopyPlan
) -> tuple[list[CopiedTable], list[TableReport]]:
    reports: list[TableReport] = []

    def report(tables: Sequence[TableReport]) -> bool:
        reports.extend(tables)
        return True

    with open_sql(source_url, read_only=True) as source:
        return Copy(source, target, plan).run(report), reports


def test_values_are_kept_between_each_two(urls: dict[str, tuple[str, str]]) -> None:
    """What an engine has no room for is cleared first: NaN, infinity and BC outside PostgreSQL."""
    for engine in ENGINES:
        with open_sql(urls[engine][0]) as database:
            fill(database)
    plain = "update things set ratio = 1, amount = 2, day = null, moment = null, zoned = null, hour = null where id < 3"
    for engine in ENGINES:
        for other in ENGINES:
            if (engine, other) == ("postgresql", "mysql"):
                with open_sql(urls[engine][0]) as database:
                    database.execute(plain)
            if (engine, other) == ("sqlite", "mysql"):
                with open_sql(urls[engine][0]) as database:
                    database.execute("update things set ratio = 1 where id = 2")
            if engine == "sqlite" and other != "sqlite":
                with open_sql(urls[engine][0]) as database:
                    database.execute("update things set bytes = null where id = 3")
            with open_sql(urls[other][1]) as target:
                [table], [report] = copied(urls[engine][0], target, CopyPlan(("things",), checksums=True))
                target.execute("drop table things")

            assert (table.source_rows, table.same) == (3, True), (engine, other, table)
            assert report.creation is not None
            changed = [column for column in report.columns if column.source_type != column.target_type]
            assert bool(changed) is (engine != other)


def test_what_the_target_has_no_room_for_is_refused_by_name(urls: dict[str, tuple[str, str]]) -> None:
    with open_sql(urls["postgresql"][0]) as source:
        source.execute("create table t (id int primary key, n double precision)")
        source.execute("insert into t values (1, 1.5), (2, 'NaN')")
    with open_sql(urls["mysql"][0]) as target:
        with pytest.raises(
            KataxError, match=r"table 't', the row \[\"2\"\]: .*NaN.*; the rows before its batch are in"
        ):
            copied(urls["postgresql"][0], target, CopyPlan())
        assert target.run("select count(*) from t").rows == [(0,)]


def test_zero_dates_are_refused_or_null_as_it_was_said(urls: dict[str, tuple[str, str]]) -> None:
    with open_sql(urls["mysql"][0]) as source, source.session() as session:
        session.execute("set sql_mode = ''")
        session.execute("create table t (id int primary key, d date, m datetime)")
        session.execute(
            "insert into t values (1, '0000-00-00', '2020-00-01 00:00:00'), (2, '2020-02-29', null)"
        )
    with open_sql(urls["postgresql"][0]) as target:
        with pytest.raises(KataxError, match=r"the row \[\"1\"\]"):
            copied(urls["mysql"][0], target, CopyPlan())
        _, [report] = copied(urls["mysql"][0], target, CopyPlan(zero_dates="null"))

        assert [str(row) for row in target.run("select id, d::text, m::text from t order by id").rows] == [
            "(1, None, None)",
            "(2, '2020-02-29', None)",
        ]
    assert report.columns[1].note == "zero dates are made NULL"


def test_parents_come_first_and_katax_stays_at_home(urls: dict[str, tuple[str, str]]) -> None:
    parts = (
        "create table users (id int primary key)",
        "create table aaa (id int primary key, user_id int references users (id))",
    )
    for url in urls["postgresql"]:
        with open_sql(url) as database:
            for sql in parts:
                database.execute(sql)
    with open_sql(urls["postgresql"][0]) as source:
        source.execute("insert into users values (1)")
        source.execute("insert into aaa values (5, 1)")
        source.execute("create table katax_imports (id int)")
    with open_sql(urls["postgresql"][1]) as target:
        tables, _ = copied(urls["postgresql"][0], target, CopyPlan())

    assert [(table.table, table.target_rows, table.same) for table in tables] == [
        ("users", 1, True),
        ("aaa", 1, True),
    ]


def test_rows_of_tables_that_inherit_are_copied_with_their_own_table(
    urls: dict[str, tuple[str, str]],
) -> None:
    """As they are compared; a table with partitions has no rows of its own."""
    made = (
        "create table aaa (id int, primary key (id))",
        "create table bbb (primary key (id), more text) inherits (aaa)",
        "create table parts (id int) partition by range (id)",
        "create table parts_low partition of parts for values from (0) to (10)",
    )
    here, there = urls["postgresql"]
    with open_sql(here) as source:
        for sql in (*made, "insert into aaa values (1)", "insert into parts values (5)"):
            source.execute(sql)
        source.execute("insert into bbb values (1, 'a'), (2, 'b')")
    for is_made in (False, True):
        with open_sql(there) as target:
            for sql in made if is_made else ():
                target.execute(sql)
            tables, _ = copied(here, target, CopyPlan(checksums=True))
            assert [(table.table, table.target_rows, table.same) for table in tables] == [
                ("aaa", 1, True),
                ("bbb", 2, True),
                ("parts", 1, True),
            ]
            with open_sql(here, read_only=True) as source:
                found = list(differences(source, target, DiffPlan(("aaa", "bbb"), rows=True)))
                assert [one for one in found if one.kind in ("rows", "row")] == []
            assert target.run("select id, more from bbb order by id").rows == [(1, "a"), (2, "b")]
            target.execute("drop table aaa, bbb, parts")


@pytest.mark.parametrize(
    "change",
    [
        "alter table zz alter v type bigint",
        "truncate zz",
        "alter table zz_low alter v set default 5, set unlogged",
    ],
)
def test_a_table_that_is_rewritten_meanwhile_is_not_taken_for_an_empty_one(
    change: str, urls: dict[str, tuple[str, str]]
) -> None:
    """PostgreSQL shows the snapshot of the copy no rows of it."""
    here, there = urls["postgresql"]
    with open_sql(here) as source:
        source.execute("create table aa (id int primary key)")
        source.execute("create table zz (id int primary key, v int) partition by range (id)")
        source.execute("create table zz_low partition of zz for values from (0) to (10)")
        for table in ("aa (id)", "zz (id)"):
            source.execute(f"insert into {table} values (1), (2)")

    def meanwhile(_: Sequence[TableReport]) -> bool:
        with open_sql(here) as other:
            other.execute(change)
        return True

    plan = CopyPlan(("aa", "zz"))
    with open_sql(there) as target:
        with (
            open_sql(here, read_only=True) as source,
            pytest.raises(KataxError, match="table 'zz' was rewritten or truncated since this began"),
        ):
            Copy(source, target, plan).run(meanwhile)
        tables, _ = copied(here, target, plan)

    assert [(table.target_rows, table.same) for table in tables] == [
        (2, True),
        (0 if "truncate" in change else 2, True),
    ]


def test_tables_are_of_one_snapshot_whatever_the_isolation_of_the_server(
    throwaway: Throwaway, fresh: MakeFresh
) -> None:
    server = throwaway("mysql", settings={"transaction-isolation": "READ-COMMITTED"})
    here, there = fresh(server).url, fresh(server).url
    with open_sql(here) as source:
        for table in ("aa", "zz"):
            source.execute(f"create table {table} (id int primary key)")
            source.execute(f"insert into {table} values (1)")
    with open_sql(here, read_only=True) as source, open_sql(there) as target:

        def meanwhile(count: int) -> None:
            if count == 1:
                with open_sql(here) as other:
                    other.execute("insert into zz values (2)")

        tables = Copy(source, target, CopyPlan(("aa", "zz")), progress=meanwhile).run(lambda _: True)
    assert [(table.table, table.target_rows, table.same) for table in tables] == [
        ("aa", 1, True),
        ("zz", 1, True),
    ]


def test_two_tables_of_one_name_do_not_become_one(urls: dict[str, tuple[str, str]]) -> None:
    here, there = urls["postgresql"]
    with open_sql(here) as source:
        source.execute("create table t (id int)")
        source.execute("insert into t values (1)")
        source.execute("create schema more")
        source.execute("create table more.t (id int)")
    with open_sql(there) as target:
        with pytest.raises(ConfigError, match="two tables are named 't'"):
            copied(here, target, CopyPlan(("t", "more.t")))
        [done], _ = copied(here, target, CopyPlan(("t", "public.t")))
        assert (done.target_rows, done.same) == (1, True)


def test_of_two_copies_at_once_the_second_is_refused(urls: dict[str, tuple[str, str]]) -> None:
    """Also of a table without a key, whose rows nobody sees before all are in."""
    with open_sql(urls["sqlite"][0]) as source:
        source.execute("create table keyless (n integer)")
        source.execute("insert into keyless values (1), (2)")
    for engine in ENGINES:
        with open_sql(urls[engine][1]) as target:
            target.execute("create table keyless (n bigint)")
            for _ in range(2):

                def meanwhile(_: Sequence[TableReport], target: SqlDatabase = target) -> bool:
                    [first], _ = copied(urls["sqlite"][0], target, CopyPlan(("keyless",)))
                    assert first.same
                    return True

                with (
                    open_sql(urls["sqlite"][0], read_only=True) as source,
                    pytest.raises(LockHeld, match="copy into keyless"),
                ):
                    Copy(source, target, CopyPlan(("keyless",))).run(meanwhile)
                assert target.run("select count(*) from keyless").rows == [(2,)], engine
                [again], _ = copied(urls["sqlite"][0], target, CopyPlan(("keyless",)))
                assert again.same
                target.execute("delete from keyless")


def test_a_copy_that_stopped_goes_on_when_it_may(
    urls: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_BATCH", 1000)
    with open_sql(urls["sqlite"][0]) as source:
        source.execute("create table t (a integer, b text, n integer, primary key (a, b))")
        source.execute_many("insert into t values (?, ?, ?)", [[n % 7, f"k{n}", n] for n in range(5000)])
        source.execute("create table keyless (n integer)")
        source.execute("insert into keyless values (1), (1)")
    for engine in ENGINES:
        with open_sql(urls["sqlite"][0], read_only=True) as source, open_sql(urls[engine][1]) as target:

            def stop(count: int) -> None:
                if count >= 3000:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                Copy(source, target, CopyPlan(("t", "keyless")), progress=stop).run(lambda _: True)
            assert 0 < target.run("select count(*) from t").rows[0][0] < 5000
            with pytest.raises(Refused, match=r"its snapshot is gone: .* go on with --not-consistent"):
                Copy(source, target, CopyPlan(("t", "keyless"))).run(lambda _: True)
            done = Copy(source, target, CopyPlan(("t", "keyless"), not_consistent=True, checksums=True)).run(
                lambda _: True
            )
            again = Copy(source, target, CopyPlan(("t", "keyless"))).run(lambda _: True)

            assert [(table.target_rows, table.same) for table in done] == [(5000, True), (2, True)], engine
            assert [table.target_rows for table in again] == [5000, 2]


def test_other_rows_are_not_mixed_with(urls: dict[str, tuple[str, str]]) -> None:
    for url in urls["sqlite"]:
        with open_sql(url) as database:
            database.execute("create table t (id integer primary key)")
            database.execute("insert into t values (1)")
    with open_sql(urls["sqlite"][1]) as target:
        with pytest.raises(Refused, match="'t' of 'main' holds rows already"):
            copied(urls["sqlite"][0], target, CopyPlan())
        target.execute("delete from t")
        target.execute("alter table t rename column id to other")
        with pytest.raises(KataxError, match="table 't' of 'main': no column named 'id'"):
            copied(urls["sqlite"][0], target, CopyPlan())


def test_what_may_be_rounded_is_said_beforehand(urls: dict[str, tuple[str, str]]) -> None:
    columns = {
        "postgresql": "n numeric, m timestamp, a varchar(3), i int",
        "mysql": "n decimal(20, 9), m datetime(6), a varchar(3), i int",
        "sqlite": "n text, m text, a text, i integer",
    }
    narrower = {
        "postgresql": "n numeric(10,2), m timestamp(0), a text, i bigint",
        "mysql": "n decimal(10,2), m datetime, a longtext, i bigint",
        "sqlite": "n numeric, m integer, a text, i integer",
    }
    for engine in ENGINES:
        with open_sql(urls[engine][0]) as source:
            source.execute(f"create table t (id int primary key, {columns[engine]})")
        for table, there in ((columns, False), (narrower, True)):
            with open_sql(urls[engine][1]) as target:
                target.execute(f"create table t (id int primary key, {table[engine]})")
                _, [report] = copied(urls[engine][0], target, CopyPlan(("t",)))
                target.execute("drop table t")
            noted = [column.name for column in report.columns if "may round or cut" in column.note]
            assert noted == (["n", "m"] if there else []), engine


def test_values_of_sqlite_keep_their_types(
    urls: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also as keys, behind which a copy goes on; text among bytes is refused elsewhere."""
    monkeypatch.setattr(copying, "_BATCH", 2)
    monkeypatch.setattr("katax_cli.engines.sqlite.engine.BATCH", 2)
    here, there = urls["sqlite"]
    values = ["1", "2", "10", "1.5", "'1'", "'b'", "x'00'", "'\\x31'", "'t'", "9e999"]
    with open_sql(here) as source:
        source.execute("create table t (k primary key, n integer, b blob)")
        for value in values:
            source.execute(f"insert into t values ({value}, {value}, {value})")
    wanted = "select quote(k), typeof(n), quote(n), quote(b) from t order by k"

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    for _ in range(len(values) // 2):
        with (
            open_sql(here, read_only=True) as source,
            open_sql(there) as target,
            pytest.raises(KeyboardInterrupt),
        ):
            Copy(source, target, CopyPlan(("t",), not_consistent=True), stop).run(lambda _: True)
    with open_sql(there) as target, open_sql(here, read_only=True) as source:
        copied(here, target, CopyPlan(("t",), not_consistent=True))
        assert target.run(wanted).rows == source.run(wanted).rows
        script = io.BytesIO()
        export(source, Wanted("t", None, "sql"), script)
        target.execute("delete from t")
        run_script(target, list(split(script.getvalue().decode(), "sqlite")))
        assert target.run(wanted).rows == source.run(wanted).rows
    with open_sql(here) as source:
        source.execute("create table bytes (id integer primary key, b blob)")
        source.execute("create table texts (id integer primary key, b text)")
        source.execute("insert into texts values (1, 'a'), (2, '\\x31')")
        source.execute("create table numbers (id integer primary key, n text)")
        source.execute("insert into numbers values (1, '99999999999999999999')")
    for engine, type in (("postgresql", "bytea"), ("mysql", "longblob")):
        with open_sql(urls[engine][1]) as target:
            target.execute(f"create table texts (id int primary key, b {type})")
            copied(here, target, CopyPlan(("texts",)))
            assert target.run("select b from texts order by id").rows == [(b"a",), (b"1",)]
            for value in ("5", "'\\x31'"):
                with open_sql(here) as source:
                    source.execute(f"replace into bytes values (1, {value})")
                with pytest.raises(KataxError, match="column 'b' holds text or numbers"):
                    copied(here, target, CopyPlan(("bytes",)))
    with open_sql(there) as target:
        target.execute("create table numbers (id integer primary key, n integer)")
        with pytest.raises(KataxError, match="99999999999999999999 has more than 64 bits"):
            copied(here, target, CopyPlan(("numbers",)))
        assert target.run("select count(*) from numbers").rows == [(0,)]


def test_no_number_is_rounded_on_its_way(urls: dict[str, tuple[str, str]]) -> None:
    """MySQL makes 2 of '1.5' for a whole number, also where it is strict, and takes no scale beyond the digits."""
    with open_sql(urls["sqlite"][0]) as source:
        source.execute("create table t (id integer primary key, n integer)")
        source.execute("insert into t values (1, -7), (2, 1.5)")
    with open_sql(urls["postgresql"][0]) as source:
        source.execute("create table small (n numeric(3, 5))")
        source.execute("insert into small values (0.00123)")
    for engine in ("postgresql", "mysql"):
        with open_sql(urls[engine][1]) as target:
            with pytest.raises(KataxError, match=r"column 'n' holds 1\.5, and its type .* whole numbers"):
                copied(urls["sqlite"][0], target, CopyPlan())
            assert target.run("select count(*) from t").rows == [(0,)]
            [done], _ = copied(urls["postgresql"][0], target, CopyPlan(checksums=True))
            assert done.same


def test_a_table_that_was_emptied_is_copied_anew(urls: dict[str, tuple[str, str]]) -> None:
    with open_sql(urls["sqlite"][0]) as source:
        source.execute("create table keyless (n integer)")
        source.execute("insert into keyless values (1), (2)")
    with open_sql(urls["sqlite"][1]) as target:
        for _ in range(2):
            [done], _ = copied(urls["sqlite"][0], target, CopyPlan())
            assert (done.target_rows, done.same) == (2, True)
            target.execute("delete from keyless")


def test_a_table_without_transactions_keeps_a_part_of_its_first_batch(
    urls: dict[str, tuple[str, str]],
) -> None:
    with open_sql(urls["sqlite"][0]) as source:
        source.execute("create table t (id integer primary key, name text)")
        source.execute_many("insert into t values (?, ?)", [[n, "longer"[: n // 16]] for n in range(100)])
    with open_sql(urls["mysql"][1]) as target:
        target.execute("create table t (id int primary key, name varchar(5)) engine = myisam")
        with pytest.raises(KataxError, match=r"the row \[\"96\"\]"):
            copied(urls["sqlite"][0], target, CopyPlan())
        assert target.run("select count(*) > 0 from t").rows == [(1,)]
        target.execute("alter table t modify name varchar(6)")
        with pytest.raises(Refused, match=r"stopped behind 0 rows, .* go on with --not-consistent"):
            copied(urls["sqlite"][0], target, CopyPlan())
        [table], _ = copied(urls["sqlite"][0], target, CopyPlan(not_consistent=True, checksums=True))
        assert (table.target_rows, table.same) == (100, True)


def test_no_copy_goes_on_behind_a_key_of_unknown_type(
    urls: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's 10 and '10' are one text, and behind one of them is not behind the other."""
    monkeypatch.setattr(copying, "_BATCH", 2)
    monkeypatch.setattr("katax_cli.engines.sqlite.engine.BATCH", 2)
    with open_sql(urls["sqlite"][0]) as source:
        source.execute("create table t (k primary key)")
        source.execute_many("insert into t values (?)", [[n] for n in range(5)])

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with open_sql(urls["sqlite"][0], read_only=True) as source, open_sql(urls["postgresql"][1]) as target:
        with pytest.raises(KeyboardInterrupt):
            Copy(source, target, CopyPlan(), stop).run(lambda _: True)
        plan = CopyPlan(not_consistent=True)
        with pytest.raises(Refused, match=r'behind the key \["1"\], which may be a text or a number'):
            Copy(source, target, plan).run(lambda _: True)
        target.execute("delete from t")
        [table] = Copy(source, target, plan).run(lambda _: True)
        assert (table.target_rows, table.same) == (5, True)


PROGRAM = """
import sys
from katax_cli.services.transfer import copy
from tests.services.transfer.connections import open_sql
copy._BATCH = 1000
with open_sql(sys.argv[1], read_only=True) as source, open_sql(sys.argv[2]) as target:
    plan = copy.CopyPlan(("t",), not_consistent=True)
    copy.Copy(source, target, plan, lambda count: print(count, flush=True)).run(lambda _: True)
"""


@pytest.mark.begins_first
def test_a_killed_copy_has_each_row_once(urls: dict[str, tuple[str, str]]) -> None:
    chance = random.Random(3)
    with open_sql(urls["postgresql"][0]) as source:
        source.execute(
            "create table t as select n as id, 'name ' || n as name from generate_series(1, 20000) n"
        )
        source.execute("alter table t add primary key (id)")

    for engine in ENGINES:
        for _ in range(2):
            ended(PROGRAM, urls["postgresql"][0], urls[engine][1], kill_after=chance.randrange(6) + 1)
        # A busy server may still commit for the killed one, which refuses the next one's batch.
        until(partial(ends_well, partial(ended, PROGRAM, urls["postgresql"][0], urls[engine][1])))
        with open_sql(urls[engine][1]) as target:
            rows = target.run("select count(*), count(distinct id), max(id) from t").rows

        assert rows == [(20_000, 20_000, 20_000)], engine


def ends_well(run: Callable[[], int]) -> bool:
    return run() == 0
