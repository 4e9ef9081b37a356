"""Tells which WHERE holds for every row; SQLite itself is asked about conditions that chance puts together."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katax_cli.core.sql import Dialect, classify, with_values

DIALECTS: tuple[Dialect, ...] = ("postgresql", "mysql", "sqlite")
EVERY = "DELETE with a WHERE that holds for every row"
HOLD = (
    "not (a = 1 and 1 = 2)", "id = 5 or id != 5", "id is null or id is not null", "id >= 0 or id < 0",
    "a < b or a >= b", "5 = id or id <> 5", "id <> 1 or id <> 2", "not (id = 1 and id = 2)",
    "id not in (1, 2) or id in (1, 2)", "id between 1 and 5 or id not between 1 and 5", "id < 5 or id > 3",
    "(((id = 5)) or ((not (id = 5))))", "status != 'a' or status != 'b'", "name like '%'", "not not true",
    "active or not active", "a is true or a is not true", "a is not distinct from a", "id = $1 or id != $1",
    "created < now() or created >= now()", "coalesce(a, 1) = 2 or coalesce(a, 1) <> 2", "(1=1 and (a=1 or a<>1))",
    "not id is null or id is null", "day < '2020-01-31' or day >= '2020-01-31'", "id < -1.5 or id >= -1.5", "1",
    "id = '5' or id != 5.0",
)  # fmt: skip
CHOOSE = (
    "a", "id = 5", "1 = 2", "false", "null", "id is not null", "id >= 0", "id < 5 or id > 5", "status != 'a'",
    "id in (1, 2)", "id in (select 1 from t)", "name like 'a%'", "name not like '%'", "a = 1 or b != 1",
    "not (a = 1 or 1 = 2)", "id between 1 and 5", "a < b or a > b", "a = null", "a != null or a = null",
    "not (a = 1 and b = 2)", "id = 5 xor id != 5", "exists (select 1 from t)", "id <= 5 or id > 6", "not a = a",
    "case when a = 1 or true then 0 end = 1", "name < 'a' or name > 'Z'", "a is not null and (a = 1 or a != 1)",
    "id = '1x' or id != 1", "id = ? or id != ?", "id = $1 or id != $2", "a + 1 > 5 or a < 4",
    "day < '2020-1-2' or day > '2020-01-01'",
)  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_holds_for_every_row_is_told_from_what_chooses(dialect: Dialect) -> None:
    reasons = {one: classify(f"delete from t where {one}", dialect).reason for one in HOLD + CHOOSE}
    assert reasons == dict.fromkeys(HOLD, EVERY) | dict.fromkeys(CHOOSE)


def test_texts_are_equal_where_the_dialect_finds_them_so() -> None:
    for one in ("name != 'a' or name != 'A'", "name != 'e' or name != 'é'"):
        reasons = {dialect: classify(f"delete from t where {one}", dialect).reason for dialect in DIALECTS}
        assert reasons == {"postgresql": EVERY, "mysql": None, "sqlite": EVERY}
    assert classify('delete from t where "Id" = 1 or id != 1', "postgresql").reason is None
    assert classify('delete from t where "id" = 1 or ID != 1', "postgresql").reason == EVERY


def test_values_count_as_what_they_are() -> None:
    for params in (["%"], ["a%"], ["it's \\"], []):
        text = with_values("delete from t where name like ?", params, "mysql")
        assert (classify(text, "mysql").reason == EVERY) == (params == ["%"])
    named = with_values("delete from t where a = :a or a != :b", {"a": 1, "b": 1}, "postgresql")
    assert named == "delete from t where a = 1 or a != 1"


@pytest.mark.parametrize(
    "condition",
    [
        "(" * 5000 + "a = 1" + ")" * 5000,
        "(a or " * 3000 + "1" + ")" * 3000,
        "not " * 5000 + "a",
        "a is " + "not " * 3000 + "null",
        " or ".join(f"id != {number}" for number in range(3000)),
        "id not in (" + ", ".join(map(str, range(50_000))) + ")",
        " or ".join(f"c{number} != 1" for number in range(300)),
        "(a) = " * 4000 + "(b)",
    ],
    ids=len,
)
def test_a_condition_of_any_size_and_depth_is_read(condition: str) -> None:
    for dialect in DIALECTS:
        assert classify(f"delete from t where {condition}", dialect).reason is None


def _conditions(tests: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.recursive(
        tests,
        lambda inner: (
            inner.map("not ({})".format)
            | st.tuples(inner, st.sampled_from(["and", "or"]), inner).map("({0[0]}) {0[1]} {0[2]}".format)
        ),
        max_leaves=5,
    )


_OPS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
_OPERANDS = st.sampled_from(["a", "b", "1", "2", "(a)"])
_COMPARED = st.tuples(_OPERANDS, _OPS, _OPERANDS).map(" ".join)
_ONE_COLUMN = st.tuples(
    st.sampled_from(["a", "1"]), _OPS | st.sampled_from(["is", "is not"]), st.sampled_from(["a", "1", "2"])
).map(" ".join)
_LISTED = st.sampled_from(["a in (1, 2)", "a not in (1)", "a between 1 and 2", "a", "not a"])
_NULLS = st.sampled_from(["a is null", "a is not null", "null", "a is true", "a is not false"])


@settings(max_examples=100)
@given(compared=_conditions(_COMPARED | _LISTED), with_null=_conditions(_ONE_COLUMN | _LISTED | _NULLS))
def test_what_is_said_of_every_row_sqlite_says_too(compared: str, with_null: str) -> None:
    # Two between each pair of numbers that a condition names, and beyond them: one for `a`, another for `b`.
    values = [-1, 0, 1, 1.2, 1.5, 2, 3, 4]
    assert _chosen(compared, values) == (
        classify(f"delete from t where {compared}", "sqlite").reason == EVERY
    )
    said = classify(f"delete from t where {with_null}", "sqlite").reason == EVERY
    assert _chosen(with_null, [*values, None]) <= said <= _chosen(with_null, values)


def _chosen(condition: str, values: Sequence[float | None]) -> bool:
    """True if SQLite finds every row."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("create table t (a, b)")
        connection.executemany("insert into t values (?, ?)", product(values, values))
        [left] = connection.execute(f"select count(*) from t where ({condition}) is not true").fetchone()
    return not left
