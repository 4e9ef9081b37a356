"""Statements from calls, on each SQL engine: what they find, what they change, and that nothing given becomes SQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from katax_cli import query, transaction
from katax_cli.errors import QueryError, Refused
from katax_cli.services.databases.builder.builder import Builder
from katax_cli.services.databases.builder.selection import Page
from katax_cli.services.databases.builder.upsert import MOST_VALUES
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.program.container import Katax
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import MakeFresh, Target
from tests.services.profiles import profile
from tests.services.runtimes import OpenRuntime
from tests.waiting import SECONDS

KEY = {
    "postgresql": "serial primary key",
    "mysql": "int auto_increment primary key",
    "sqlite": "integer primary key",
}
PEOPLE = [("Ada", 36, "math"), ("Bob", 17, None), ("Cleo", 52, "art"), ("Dan", 36, "art")]
NASTY = 'it\'s; -- "x" %s :name ? $1 \\ 漢'


@pytest.fixture
def db(sql_engine: Target, tmp_path: Path) -> Iterator[SqlDatabase]:
    """Four people, of whom two have orders."""
    with Runtime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        made = cast(SqlDatabase, runtime.database("main"))
        key = KEY[sql_engine.engine]
        made.execute(
            f"create table people (id {key}, name varchar(60), age int, topic varchar(20) default 'any')"
        )
        made.execute(f"create table orders (id {key}, person int, total int)")
        made.execute_many("insert into people (name, age, topic) values (?, ?, ?)", PEOPLE)
        made.execute("insert into orders (person, total) values (1, 10), (1, 30), (3, 5)")
        yield made


@pytest.fixture
def people(db: SqlDatabase) -> Builder:
    return db.table("people").order_by("id")


def names(found: Builder) -> list[str]:
    return [row["name"] for row in found.all()]


def test_all_rows_and_all_columns(people: Builder) -> None:
    assert people.all()[0] == {"id": 1, "name": "Ada", "age": 36, "topic": "math"}
    assert names(people) == ["Ada", "Bob", "Cleo", "Dan"]
    assert people.execute() == people.all()


def test_a_builder_is_not_changed_by_what_grows_from_it(people: Builder) -> None:
    people.where("age", 36).limit(1).select("id")

    assert len(people.all()) == 4


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (("age", 36), ["Ada", "Dan"]),
        (("age", "=", 36), ["Ada", "Dan"]),
        (("age", "!=", 36), ["Bob", "Cleo"]),
        (("age", "<>", 36), ["Bob", "Cleo"]),
        (("age", "<", 36), ["Bob"]),
        (("age", "<=", 36), ["Ada", "Bob", "Dan"]),
        (("age", ">", 36), ["Cleo"]),
        (("age", ">=", 36), ["Ada", "Cleo", "Dan"]),
        (("name", "like", "%a%"), ["Ada", "Dan"]),
        (("name", "NOT LIKE", "%a%"), ["Bob", "Cleo"]),
        (("age", "in", [17, 52, 99]), ["Bob", "Cleo"]),
        (("age", "not in", [17, 52]), ["Ada", "Dan"]),
        (("topic", None), ["Bob"]),
        (("topic", "is", None), ["Bob"]),
        (("topic", "!=", None), ["Ada", "Cleo", "Dan"]),
        (("topic", "is not", None), ["Ada", "Cleo", "Dan"]),
        (("people.age", 17), ["Bob"]),
        (("lower(name)", "ada"), ["Ada"]),
    ],
)
def test_conditions(condition: tuple[object, ...], found: list[str], people: Builder) -> None:
    column, *rest = condition

    assert names(people.where(str(column), *rest)) == found


def test_conditions_hold_together(people: Builder) -> None:
    assert names(people.where("age", 36).where("topic", "art")) == ["Dan"]


def test_where_in(people: Builder) -> None:
    assert names(people.where_in("name", ("Bob", "Ada"))) == ["Ada", "Bob"]
    assert names(people.where_in("name", [])) == []


def test_groups(db: SqlDatabase) -> None:
    grouped = db.table("people").select("age", "count(*) as n").group_by("age").order_by("age")

    assert grouped.all() == [{"age": 17, "n": 1}, {"age": 36, "n": 2}, {"age": 52, "n": 1}]
    assert grouped.having("count(*)", ">", 1).all() == [{"age": 36, "n": 2}]
    assert grouped.having("count(*)", ">", 1.5).count() == 1
    assert db.table("people").select("count(distinct age) as n").all() == [{"n": 3}]


def test_joins(db: SqlDatabase) -> None:
    joined = db.table("people", "p").select("p.name", "o.total").order_by("o.id")
    inner = joined.join("orders", "p.id = o.person", "o")
    assert [(row["name"], row["total"]) for row in inner.all()] == [("Ada", 10), ("Ada", 30), ("Cleo", 5)]

    left = db.table("people", "p").left_join("orders", "p.id = o.person", alias="o")
    assert (inner.count(), left.count()) == (3, 5)
    lonely = left.where("o.id", None).select("p.name as who").order_by("p.name")
    assert lonely.all() == [{"who": "Bob"}, {"who": "Dan"}]
    assert left.select("p.*").where("o.total", 5).first() == {
        "id": 3,
        "name": "Cleo",
        "age": 52,
        "topic": "art",
    }


def test_order_limit_and_offset(people: Builder, db: SqlDatabase) -> None:
    sorted_ = db.table("people").order_by("age", "DESC").order_by("name")
    assert names(sorted_) == ["Cleo", "Ada", "Dan", "Bob"]
    assert names(people.limit(2)) == ["Ada", "Bob"]
    assert names(people.limit(2).offset(1)) == ["Bob", "Cleo"]
    assert names(people.offset(3)) == ["Dan"]
    assert names(people.limit(0)) == []
    assert names(people.limit(2**40)) == names(people)


def test_first_count_and_find(people: Builder) -> None:
    assert people.first() == people.find_by_id(1)
    assert people.where("age", 1).first() is None
    assert people.find_by_id(99) is None
    assert people.find_by_id("Bob", key="name") == people.find_by_id(2)
    assert (people.count(), people.limit(1).offset(1).count(), people.where("age", 36).count()) == (4, 4, 2)


def test_pages(people: Builder) -> None:
    first = people.paginate(1, 3)
    assert first == Page(people.all()[:3], total=4, number=1, size=3, pages=2)
    assert [row["name"] for row in people.paginate(2, 3).rows] == ["Dan"]
    assert people.paginate(9, 3).rows == []
    assert people.where("age", 1).paginate() == Page([], total=0, number=1, size=20, pages=0)
    for page, size in ((0, 3), (1, 0)):
        with pytest.raises(ValueError):
            people.paginate(page, size)


def test_create_returns_the_row_as_the_server_has_it(people: Builder) -> None:
    made = people.create({"name": NASTY, "age": None})

    assert made == {"id": 5, "name": NASTY, "age": None, "topic": "any"}
    assert people.find_by_id(5) == made
    assert people.create({"id": 70, "name": "Eve", "age": 1})["id"] == 70


def test_create_many(people: Builder) -> None:
    assert people.create_many([{"name": f"n{i}", "age": i} for i in range(300)]) == 300
    assert people.count() == 304
    assert people.create_many([]) == 0


def test_create_many_is_all_or_nothing(people: Builder) -> None:
    with pytest.raises(QueryError):
        people.create_many([{"id": 50, "name": "a"}, {"id": 50, "name": "b"}])
    assert people.count() == 4

    with pytest.raises(ValueError) as error:
        people.create_many([{"name": "a"}, {"name": "b", "age": 1}])
    assert "different columns" in str(error.value)


def test_update_and_delete_say_how_many(people: Builder, db: SqlDatabase) -> None:
    table = db.table("people")
    assert table.where("age", 36).update({"name": NASTY, "age": 37}) == 2
    assert table.where("name", NASTY).count() == 2
    assert table.where("age", "<", 18).delete() == 1
    assert table.where("id", 99).delete() == 0
    assert (table.count(), table.where("age", 37).count()) == (3, 2)


def test_every_row_is_met_only_when_it_is_said(db: SqlDatabase) -> None:
    table = db.table("people")
    with pytest.raises(Refused) as error:
        table.delete()
    assert "'people'" in str(error.value)
    with pytest.raises(Refused):
        table.update({"age": 1})
    assert table.update({"age": 1}, everywhere=True) == 4
    assert table.delete(everywhere=True) == 4
    for grown in (table.where("id", 1).limit(1), table.where("id", 1).order_by("id")):
        with pytest.raises(ValueError):
            grown.delete()


def test_in_a_transaction_all_of_it_or_nothing(db: SqlDatabase) -> None:
    with db.transaction() as transaction:
        table = transaction.table("people")
        table.create({"name": "Eve", "age": 1})
        table.create_many([{"name": "Fay", "age": 2}])
        table.where("name", "Ada").delete()
        assert table.count() == 5
        transaction.rollback()
    assert db.table("people").count() == 4


def test_what_has_no_name_of_its_own_is_quoted(db: SqlDatabase) -> None:
    quote = "`" if db.dialect == "mysql" else '"'
    db.execute(
        f"create table {quote}order{quote} (id int primary key, {quote}group{quote} int, {quote}Mixed{quote} int)"
    )
    table = db.table("order")
    table.create_many([{"id": 1, "group": 2, "Mixed": 3}])

    assert table.where("group", 2).select("Mixed as x").all() == [{"x": 3}]
    assert table.where("Mixed", 3).update({"group": 5}) == 1
    assert table.where("order.group", 5).order_by("group").count() == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda table: table.select("id; drop table people").all(),
        lambda table: table.where("1 = 1 or id", 1).all(),
        lambda table: table.where("id", "or", 1),
        lambda table: table.where("id"),
        lambda table: table.where("id", "=", 1, 2),
        lambda table: table.where("id", "<", None),
        lambda table: table.where("topic", "is", "x").all(),
        lambda table: table.group_by("id)").all(),
        lambda table: table.order_by("id desc").all(),
        lambda table: table.order_by("id", "up"),
        lambda table: table.having("sum(id) or", 1).all(),
        lambda table: table.join("people p", "a = b").all(),
        lambda table: table.join("people", "1 = 1").all(),
        lambda table: table.limit(-1),
        lambda table: table.offset(-1),
        lambda table: table.create({}),
        lambda table: table.create({"name) values (1); --": 1}),
        lambda table: table.where("id", 1).update({}),
    ],
)
def test_what_is_no_column_is_refused_before_anything_is_sent(call: object, people: Builder) -> None:
    with pytest.raises(ValueError):
        call(people)  # type: ignore[operator]
    assert people.count() == 4


def test_names_need_not_be_english(db: SqlDatabase) -> None:
    db.execute("create table größen (id int primary key, größe int)")
    table = db.table("größen")
    table.create_many([{"id": 1, "größe": 7}, {"größe": 8, "id": 2}])

    assert table.where("größe", ">", 7).select("größe as wert").all() == [{"wert": 8}]
    assert table.where("größen.größe", 7).update({"größe": 9}) == 1
    assert table.select("max(größe) as m").first() == {"m": 9}


def test_a_table_is_a_name(db: SqlDatabase) -> None:
    for wrong in ("people; drop table people", "people p", ""):
        with pytest.raises(ValueError):
            db.table(wrong).all()
    with pytest.raises(ValueError):
        db.table("people", "p; --").all()


def test_a_read_only_connection_cannot_be_written(
    sql_engine: Target, db: SqlDatabase, tmp_path: Path
) -> None:
    with Runtime(profile(tmp_path, {"main": sql_engine.url}, extra="", role="frozen", name="ice")) as runtime:
        frozen = cast(SqlDatabase, runtime.database("main")).table("people")
        assert frozen.count() == 4
        for write in (
            lambda: frozen.create({"name": "x"}),
            lambda: frozen.create_many([{"name": "x"}]),
            lambda: frozen.where("id", 1).update({"age": 1}),
            lambda: frozen.where("id", 1).delete(),
        ):
            with pytest.raises(Refused):
                write()
    assert db.table("people").where("age", 36).count() == 2


def test_query_is_the_table_of_the_program_s_database(
    sql_engine: Target, db: SqlDatabase, tmp_path: Path
) -> None:
    profile(tmp_path, {"main": sql_engine.url})
    try:
        assert query("people", alias="p").where("p.age", 17).first() == db.table("people").find_by_id(2)
    finally:
        Katax.reset()


def test_transaction_is_of_the_program_s_database(
    sql_engine: Target, db: SqlDatabase, tmp_path: Path
) -> None:
    def hire(trx: Transaction) -> int:
        created = trx.table("people").create({"name": "Eve"})
        trx.table("orders").create({"person": created["id"], "total": 1})
        return int(created["id"])

    def fail(trx: Transaction) -> None:
        hire(trx)
        raise LookupError

    profile(tmp_path, {"main": sql_engine.url})
    try:
        hired = transaction(hire)
        with pytest.raises(LookupError):
            transaction(fail)
        with transaction() as trx:
            trx.table("people").where("id", hired).update({"age": 1})
    finally:
        Katax.reset()
    assert [row["age"] for row in db.table("people").where("name", "Eve").all()] == [1]
    assert db.table("orders").where("person", hired).count() == 1


def test_statements_of_one_shape_share_their_text_and_never_their_values(db: SqlDatabase) -> None:
    def names(age: int, topics: list[str], limit: int) -> list[str]:
        people = db.table("people").where("age", ">", age).where_in("topic", topics).order_by("name")
        return [row["name"] for row in people.limit(limit).all()]

    everybody = {row["name"]: row for row in db.table("people").all()}
    for age in (0, 30, 50):
        for topics in (["art"], ["math"], ["art", "math"], ["math", "art"], []):
            expected = sorted(
                n for n, row in everybody.items() if row["age"] > age and row["topic"] in topics
            )
            for limit in (10, 1):
                assert names(age, topics, limit) == expected[:limit]
    # True and 1 are equal, and only one of them stands after IS.
    with pytest.raises(ValueError, match="write IS with None, True or False"):
        db.table("people").where("age", "is", 1).all()
    assert db.table("people").where("age", "is", None).all() == []
    with pytest.raises(ValueError, match="write IS with None, True or False"):
        db.table("people").where("age", "is", 0).all()


def test_rows_in_several_statements_have_the_time_of_their_call(
    fresh: MakeFresh, open_runtime: OpenRuntime
) -> None:
    """Not that of one statement of the connection."""
    runtime = open_runtime(main={"url": fresh("postgresql").url, "statement_timeout": 0.5})
    db = cast(SqlDatabase, runtime.database("main"))
    for sql in (
        "create table t (n int)",
        "create function late() returns trigger language plpgsql as "
        "'begin perform pg_sleep(0.3); return null; end'",
        "create trigger late before insert on t for each statement execute function late()",
    ):
        db.execute(sql, timeout=SECONDS)
    assert db.table("t").create_many([{"n": n} for n in range(3 * MOST_VALUES)], timeout=SECONDS)
    assert db.table("t").count(timeout=SECONDS) == 3 * MOST_VALUES
