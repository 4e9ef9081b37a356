"""Groups of conditions: what they are as SQL and as filters, and what they find, compared with Python's own logic."""

from __future__ import annotations

import operator
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katax_cli import all_of, any_of
from katax_cli.errors import Refused
from katax_cli.services.databases.builder.builder import Builder
from katax_cli.services.databases.builder.compile import Compiler
from katax_cli.services.databases.builder.filters import filter_of
from katax_cli.services.databases.builder.selection import (
    ConditionGroup,
    Selection,
    SelectionCondition,
    comparison,
)
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import Target
from tests.services.profiles import profile

ADULT = all_of(("age", ">=", 18), any_of(("name", "like", "A%"), ("topic", None)))
GOLDEN: list[tuple[Callable[[Builder], Builder], str, dict[str, Any]]] = [
    (
        lambda people: people.where("id", 1).where_any(("age", ">", 65), ("name", "Ada")),
        "id = :a AND (age > :b OR name = :c)",
        {"$and": [{"id": {"$eq": 1}}, {"$or": [{"age": {"$gt": 65}}, {"name": {"$eq": "Ada"}}]}]},
    ),
    (
        lambda people: people.where(any_of(("age", "in", [1, 2]), ADULT)).where("id", "!=", 3),
        "(age IN (:a, :b) OR age >= :c AND (name LIKE :d OR topic IS NULL)) AND id != :e",
        {
            "$and": [
                {
                    "$or": [
                        {"age": {"$in": [1, 2]}},
                        {
                            "$and": [
                                {"age": {"$gte": 18}},
                                {
                                    "$or": [
                                        {"name": {"$regex": "^A", "$options": "s"}},
                                        {"topic": {"$eq": None}},
                                    ]
                                },
                            ]
                        },
                    ]
                },
                {"id": {"$ne": 3}},
            ]
        },
    ),
    (lambda people: people.where(any_of(("age", 1))), "age = :a", {"$or": [{"age": {"$eq": 1}}]}),
    (
        lambda people: people.where(all_of(("age", 1), ("id", 2))),
        "age = :a AND id = :b",
        {"$and": [{"age": {"$eq": 1}}, {"id": {"$eq": 2}}]},
    ),
]


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "sqlite"])
def test_the_sql_and_the_filter_of_groups(dialect: Any) -> None:
    for grow, where, filter in GOLDEN:
        selection = grow(Builder("people", on=cast(Any, None)))
        made = Compiler(dialect).select(selection)
        text = " ".join(made.sql.partition("WHERE ")[2].split())
        for name, place in zip("abcdefgh", re.findall(r":\w+", text), strict=False):
            text = text.replace(place, f":{name}", 1)
        assert text == where
        assert filter_of(selection.conditions) == filter
    grouped = Selection(
        "t", columns=("a",), groups=("a",), having_conditions=(any_of(("count(*)", ">", 5), ("a", 1)),)
    )
    assert " ".join(Compiler(dialect).select(grouped).sql.split("HAVING ")[1].split()).count(" OR ") == 1


def test_groups_that_cannot_be() -> None:
    deep: ConditionGroup = any_of(("a", 1))
    for _ in range(49):
        deep = all_of(deep, ("b", 2))
    for wrong, said in (
        (lambda: any_of(), "any_of() has no conditions; give it at least one"),
        (lambda: all_of(), "all_of() has no conditions; give it at least one"),
        (lambda: any_of("age"), 'any_of() takes conditions such as ("age", ">", 17), not str'),
        (lambda: any_of(("age",)), 'any_of() takes conditions such as ("age", ">", 17), not tuple'),
        (lambda: any_of(("age", "or", 1)), "no operator named 'or'"),
        (lambda: any_of(deep), "groups are nested 51 deep, at most 50 are taken"),
        (
            lambda: Builder("t", on=cast(Any, None)).where(deep, 1),
            "where() takes a group of conditions alone",
        ),
    ):
        with pytest.raises(ValueError) as error:
            wrong()
        assert said in str(error.value)
    assert Compiler("sqlite").select(Selection("t", conditions=(deep,))).params


ROWS: list[dict[str, Any]] = [
    {"id": 1, "n": None, "s": None},
    *(
        {"id": 2 + at, "n": at % 4 - 1, "s": text}
        for at, text in enumerate(["", "a", "B", "a b", "%", "\\", "é", "A'"])
    ),
]
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
numbers = st.tuples(st.just("n"), st.sampled_from([*COMPARE]), st.integers(-2, 3))
texts = st.tuples(
    st.just("s"), st.sampled_from([*COMPARE]), st.sampled_from(["", "a", "B", "zz", "' or 1=1 --", "?", ":n"])
)
nulls = st.tuples(st.sampled_from(["n", "s"]), st.sampled_from(["=", "!=", "is", "is not"]), st.none())
lists = st.tuples(st.just("n"), st.sampled_from(["in", "not in"]), st.lists(st.integers(-2, 3), max_size=4))
conditions = st.recursive(
    numbers | texts | nulls | lists,
    lambda inner: st.builds(
        lambda make, parts: make(*parts),
        st.sampled_from([any_of, all_of]),
        st.lists(inner, min_size=1, max_size=4),
    ),
    max_leaves=12,
)


def holds(condition: Any, row: dict[str, Any]) -> bool | None:
    """SQL's logic of three values."""
    if isinstance(condition, ConditionGroup):
        said = [holds(part, row) for part in condition.parts]
        decided = condition.word == "or"
        return decided if decided in said else None if None in said else not decided
    column, op, value = comparison(condition[0], condition[1:])
    stored = row[column]
    if value is None:
        return (stored is None) is (op in ("=", "is"))
    if op in ("in", "not in"):
        if not value:
            return op == "not in"
        return None if stored is None else (stored in value) is (op == "in")
    return None if stored is None else COMPARE[op](stored, value)


@pytest.fixture(scope="module")
def table() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as made:
        made.execute("create table t (id integer primary key, n integer, s text)")
        made.executemany("insert into t values (:id, :n, :s)", ROWS)
        yield made


@settings(max_examples=150, deadline=None)
@given(wanted=st.lists(conditions, max_size=3))
def test_groups_find_what_python_finds(wanted: list[Any], table: sqlite3.Connection) -> None:
    asked: list[SelectionCondition] = [
        each if isinstance(each, ConditionGroup) else comparison(each[0], each[1:]) for each in wanted
    ]
    sql, params = Compiler("sqlite").select(Selection("t", columns=("id",), conditions=tuple(asked)))
    found = {row[0] for row in table.execute(sql, params)}
    assert found == {row["id"] for row in ROWS if all(holds(each, row) is True for each in asked)}


def test_groups_on_each_server(sql_engine: Target, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        db = cast(SqlDatabase, runtime.database("main"))
        db.execute("create table t (id int primary key, n int, s varchar(20))")
        db.table("t").create_many(ROWS)
        odd = (
            db.table("t")
            .where("id", "<", 9)
            .where_any(("n", 2), all_of(("s", "a"), ("n", "<", 5)), ("s", None))
        )
        assert [row["id"] for row in odd.order_by("id").all()] == [1, 3, 5]
        assert (odd.count(), odd.where("s", "' or 1=1 --").count()) == (3, 0)
        assert odd.update({"n": 7}) == 3
        assert odd.delete() == 1
        with pytest.raises(Refused):
            db.table("t").delete()
        by_n = (
            db.table("t")
            .select("n")
            .group_by("n")
            .having(any_of(("count(*)", ">", 2), ("n", 7)))
            .order_by("n")
        )
        assert len(by_n.all()) == by_n.count()
