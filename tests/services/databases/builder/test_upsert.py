"""Rows that are inserted, or changed by their key, on each SQL engine: never doubled, never another row."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from katax_cli.errors import CheckViolation, OutcomeUnknown, QueryError, Refused, RolledBack, UniqueViolation
from katax_cli.services.databases.builder.compile import Compiler
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import MakeProxy, Target
from tests.services.profiles import profile

KEY = {
    "postgresql": "serial primary key",
    "mysql": "int auto_increment primary key",
    "sqlite": "integer primary key",
}
GOLDEN = {
    "postgresql": 'ON CONFLICT (email, "order") DO UPDATE SET name = excluded.name',
    "mysql": "ON DUPLICATE KEY UPDATE name = VALUES(name)",
    "sqlite": "ON CONFLICT (email, `order`) DO UPDATE SET name = excluded.name",
}


@pytest.fixture
def db(sql_engine: Target, tmp_path: Path) -> Iterator[SqlDatabase]:
    """Words by their text, counted by id."""
    with Runtime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        made = cast(SqlDatabase, runtime.database("main"))
        made.execute(
            f"create table words (id {KEY[sql_engine.engine]}, word varchar(40) not null unique, "
            "n int check (n < 9000), note varchar(40))"
        )
        made.execute("insert into words (word, n, note) values ('old', 1, 'kept')")
        yield made


def words(db: SqlDatabase) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in db.run("select word, n, note from words order by word").rows]


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "sqlite"])
def test_the_sql(dialect: Any) -> None:
    compiler = Compiler(dialect)
    columns, key = ["email", "order", "name"], ["email", "order"]
    sql = compiler.upsert("app.users", columns, 2, key, ["name"])
    quoted = GOLDEN["mysql" if dialect == "mysql" else dialect]
    order = '"order"' if dialect == "postgresql" else "`order`"
    assert sql == f"INSERT INTO app.users (email, {order}, name) VALUES (?, ?, ?), (?, ?, ?) {quoted}"
    nothing = compiler.upsert("users", columns, 1, key, [])
    end = "ON DUPLICATE KEY UPDATE email = email" if dialect == "mysql" else "DO NOTHING"
    assert nothing.endswith(end)


def test_rows_are_inserted_or_changed(db: SqlDatabase) -> None:
    table = db.table("words")
    assert table.upsert({"word": "one", "n": 1, "note": "x"}, key="word") == 1
    rows = [{"word": "old", "n": 5, "note": None}, {"word": "two", "n": 2, "note": "y"}]
    assert table.upsert(rows, key=["word"], update=["n"]) == 2
    assert words(db) == [("old", 5, "kept"), ("one", 1, "x"), ("two", 2, "y")]
    assert table.upsert(rows, key=["word"]) == 2
    assert words(db)[0] == ("old", 5, None)
    ignored = [{"word": "old", "n": 9}, {"word": "three", "n": 3}]
    assert table.upsert(ignored, key=["word"], update=[]) == 1
    assert (words(db)[0], len(words(db))) == (("old", 5, None), 4)
    assert table.upsert([], key=["word"]) == 0
    with db.transaction() as transaction:
        transaction.table("words").upsert({"word": "old", "n": 77}, key="word")
        transaction.rollback()
    assert words(db)[0] == ("old", 5, None)


def test_many_rows_are_all_or_none(db: SqlDatabase) -> None:
    rows = [{"word": f"w{at}", "n": at} for at in range(6000)]
    assert db.table("words").upsert([*rows, {"word": "old", "n": 2}], key="word") == 6001
    assert db.table("words").count() == 6001
    again = [{**row, "n": -1} for row in rows]
    with pytest.raises(CheckViolation):
        db.table("words").upsert([*again, {"word": "last", "n": 9999}], key="word")
    assert db.table("words").where("n", -1).count() == 0


def test_what_could_double_or_mix_up_rows_is_refused(db: SqlDatabase) -> None:
    table = db.table("words")
    for rows, key, update, said in (
        ({"word": None, "n": 1}, ["word"], None, "row 1 has no 'word'; NULL is no key"),
        ([{"word": "a", "n": 1}, {"word": "a", "n": 2}], "word", None, "rows 1 and 2 have the same key"),
        ({"n": 1}, ["word"], None, "key names 'word', which the rows have not: n"),
        ({"word": "a"}, ["word"], ["n"], "update names 'n', which the rows have not: word"),
        ({"word": "a"}, [], None, "upsert() has no key"),
        ([{"word": "a"}, {"n": 1}], ["word"], None, "rows have different columns: word and n"),
        ({"word": "a", "n) values (1); --": 1}, ["word"], None, "is no name of a column"),
    ):
        with pytest.raises(ValueError) as error:
            table.upsert(cast(Any, rows), key=key, update=update)
        assert said in str(error.value)
    with pytest.raises(Refused if db.dialect == "mysql" else QueryError):
        table.upsert({"word": "a", "n": 1}, key=["n"])
    assert words(db) == [("old", 1, "kept")]


def test_a_row_that_meets_another_unique_key_changes_no_row(db: SqlDatabase) -> None:
    """MySQL would change the row of that key: it is refused before, with the name of the key."""
    old = db.table("words").where("word", "old").first()
    assert old is not None
    clash = {"id": old["id"], "word": "new", "n": 2}
    with pytest.raises(Refused if db.dialect == "mysql" else UniqueViolation) as error:
        db.table("words").upsert(clash, key="word")
    if db.dialect == "mysql":
        assert "'PRIMARY', and MySQL would change the row of either" in str(error.value)
        db.execute("create unique index short on words (note(3))")
        with pytest.raises(Refused, match="'short'"):
            db.table("words").upsert({"word": "new", "n": 2}, key="word")
    assert words(db) == [("old", 1, "kept")]


def test_a_read_only_connection_takes_no_upsert(sql_engine: Target, db: SqlDatabase, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": sql_engine.url}, extra="", role="frozen", name="ice")) as runtime:
        frozen = cast(SqlDatabase, runtime.database("main")).table("words")
        with pytest.raises(Refused):
            frozen.upsert({"word": "old", "n": 9}, key="word")
    assert words(db) == [("old", 1, "kept")]


def test_threads_that_write_the_same_keys_make_one_row_of_each(db: SqlDatabase) -> None:
    def write(worker: int) -> int:
        lost = 0
        rows = [{"word": f"k{at}", "n": worker} for at in range(20)]
        for _ in range(10):
            try:
                db.table("words").upsert(rows, key="word", timeout=50.0)
            except RolledBack:  # MySQL locks gaps too
                lost += 1
        return lost

    with ThreadPoolExecutor(4) as threads:
        lost = sum(threads.map(write, range(4)))
    assert lost < 40
    assert db.table("words").where("word", "like", "k%").count() == 20


@pytest.mark.parametrize("sql_engine", ["postgresql", "mysql"], indirect=True)
def test_an_answer_that_is_cut_off_is_unknown_and_not_repeated(
    sql_engine: Target, db: SqlDatabase, tmp_path: Path, proxy: MakeProxy
) -> None:
    wire = proxy(sql_engine)
    with Runtime(profile(tmp_path, {"main": wire.url}, name="cut")) as runtime:
        cut = cast(SqlDatabase, runtime.database("main"))
        cut.query("select 1")
        wire.cut_after(b"COMMIT" if db.dialect == "mysql" else b"ON CONFLICT", forward=True)
        with pytest.raises(OutcomeUnknown):
            cut.table("words").upsert({"word": "old", "n": 2}, key="word")
    assert len(words(db)) == 1
