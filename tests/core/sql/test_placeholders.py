"""Placeholders of every style, on every engine, without touching literals or operators."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katax_cli.core.sql import Dialect, PlaceholderError, compile_query, tokens

DIALECTS: list[Dialect] = ["postgresql", "mysql", "sqlite"]
SIGN: dict[Dialect, str] = {"postgresql": "%s", "mysql": "%s", "sqlite": "?"}
NOTHING: dict[Dialect, tuple[Any, ...] | None] = {"postgresql": None, "mysql": None, "sqlite": ()}
Values = Sequence[Any] | Mapping[str, Any] | None


def bind(sql: str, dialect: Dialect, params: Values = None) -> tuple[str, tuple[Any, ...] | None]:
    return compile_query(sql, dialect).bind(params)


def refusal(sql: str, dialect: Dialect, params: Values = None) -> str:
    with pytest.raises(PlaceholderError) as error:
        bind(sql, dialect, params)
    return str(error.value)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("sql", "params", "sent"),
    [
        ("select $2, $1, $2", [1, 2], (2, 1, 2)),
        ("select ?, ?, ?", [1, 2, 3], (1, 2, 3)),
        ("select :b, :a, :b", {"a": 1, "b": 2}, (2, 1, 2)),
        ("select :b,:a,:b", {"a": None, "b": 0}, (0, None, 0)),
    ],
)
def test_every_style_works_everywhere(
    dialect: Dialect, sql: str, params: Values, sent: tuple[Any, ...]
) -> None:
    driver_sql, values = bind(sql, dialect, params)
    assert driver_sql.replace(", ", ",") == "select " + ",".join([SIGN[dialect]] * 3)
    assert values == sent


@pytest.mark.parametrize(
    ("sql", "params", "raw"),
    [
        ("select $2, $1, $2", [1, 2], ("select $2, $1, $2", (1, 2))),
        ("select ?, '%', ?", [1, 1], ("select $1, '%', $2", (1, 1))),
        ("select :b, :a, :b", {"a": 1, "b": 2}, ("select $1, $2, $1", (2, 1))),
        ("select 1", None, ("select 1", None)),
    ],
)
def test_raw_style_sends_each_value_once(
    sql: str, params: Values, raw: tuple[str, tuple[Any, ...] | None]
) -> None:
    assert compile_query(sql, "postgresql").bind_raw(params) == raw


def test_percent_is_doubled_only_where_there_are_values() -> None:
    assert bind("select '%', 5 % $1", "postgresql", [2]) == ("select '%%', 5 %% %s", (2,))
    assert bind("select '%s', a % 2 -- %", "mysql") == ("select '%s', a % 2 -- %", None)
    assert bind("select '%' like ?", "sqlite", ["a"]) == ("select '%' like ?", ("a",))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("params", [None, (), [], {}])
def test_without_values_the_text_is_sent_as_it_is(dialect: Dialect, params: Values) -> None:
    sql = "select '$1 ? :a %', 1 -- $1 :b ?\n/* ? :c */"
    assert bind(sql, dialect, params) == (sql, NOTHING[dialect])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_long_statement_is_read_like_a_short_one(dialect: Dialect) -> None:
    cast = "('12:30 ? $1 @x'::text)" if dialect == "postgresql" else "('12:30 ? $1 @x')"
    sql = "insert into t values " + ", ".join([cast] * 2000)
    assert bind(sql, dialect) == (sql, NOTHING[dialect])
    for placeholder, values in (("$1", [7]), ("?", [7]), (":name", {"name": 7})):
        assert bind(f"{sql}, ({placeholder})", dialect, values) == (sql + f", ({SIGN[dialect]})", (7,))


def test_sqlite_native_styles() -> None:
    assert bind("select ?2, ?1", "sqlite", [1, 2]) == ("select ?, ?", (2, 1))
    assert bind("select @a, $b, :c", "sqlite", {"a": 1, "b": 2, "c": 3}) == ("select ?, ?, ?", (1, 2, 3))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("data ? 'a' and b = ?", "data ? 'a' and b = %s"),
        ("data ? ?", "data ? %s"),
        ("(data->'x') ? 'a' or ? is null", "(data->'x') ? 'a' or %s is null"),
        ("x::jsonb ? 'a' and y=?", "x::jsonb ? 'a' and y=%s"),
        ("a[1] ? b and c = ?", "a[1] ? b and c = %s"),
        ("a ?| b and a ?& c and d = ?", "a ?| b and a ?& c and d = %s"),
        ("a ?? b and c = ?", "a ? b and c = %s"),
        ("a @? b and c @@ ?", "a @? b and c @@ %s"),
        ("x limit ? ", "x limit %s "),
        ("where ?||'x' = y", "where %s||'x' = y"),
        ("interval '1 day' * ?", "interval '1 day' * %s"),
    ],
)
def test_postgresql_tells_the_jsonb_operator_by_its_place(sql: str, expected: str) -> None:
    assert bind(sql, "postgresql", [1]) == (expected, (1,))


def test_keywords_are_no_operands() -> None:
    sql = "select ? from t where a between ? and ? and b like ? escape ? limit ? offset ?"
    assert bind(sql, "postgresql", range(7))[0].count("%s") == 7
    assert (
        bind("case when ? then ? else ? end", "postgresql", [1, 2, 3])[0]
        == "case when %s then %s else %s end"
    )


def test_question_marks_are_operators_beside_another_style() -> None:
    assert bind("a ? b and c = $1", "postgresql", [1]) == ("a ? b and c = %s", (1,))
    assert bind("(? x) and c = :c", "postgresql", {"c": 1}) == ("(? x) and c = %s", (1,))


def test_jsonb_operator_without_values_is_left_alone() -> None:
    assert bind("select data ? 'a'", "postgresql") == ("select data ? 'a'", None)
    assert bind("select data ?? 'a'", "postgresql") == ("select data ? 'a'", None)


def test_casts_slices_and_assignments_are_no_placeholders() -> None:
    sql = "select a::int, b[1:n], b[x:n], b[$1:n], f(c:=1), '::x'"
    assert bind(sql, "postgresql", [1]) == (sql.replace("$1", "%s"), (1,))
    assert bind("select b[1:n], b[x:n], :x", "postgresql", {"x": 1}) == ("select b[1:n], b[x:n], %s", (1,))
    assert bind("set @a:=1, @b := :c", "mysql", {"c": 1}) == ("set @a:=1, @b := %s", (1,))


def test_a_doubtful_name_is_a_placeholder_only_with_values() -> None:
    assert bind("select a[:n]", "postgresql", {"n": 1}) == ("select a[%s]", (1,))
    assert bind("select a[:n]", "postgresql") == ("select a[:n]", None)
    assert bind("select a[:n], $1", "postgresql", [1]) == ("select a[:n], %s", (1,))
    assert bind("begin not atomic l:LOOP leave l; end loop; end", "mysql")[0].count(":LOOP") == 1
    assert bind("select 1 limit:n", "postgresql", {"n": 1}) == ("select 1 limit%s", (1,))


@pytest.mark.parametrize(
    "sql",
    [
        "prepare p as select $1",
        "create function f(int) returns int return $1",
        "explain (generic_plan) select $1",
    ],
)
def test_statements_with_parameters_of_their_own_need_no_values(sql: str) -> None:
    assert bind(sql, "postgresql") == (sql, None)


@pytest.mark.parametrize(
    ("sql", "params", "message"),
    [
        ("select $1, $2", [7], "query has 2 placeholders ($1, $2) but 1 value was given"),
        ("select $2, $1", [7, 8, 9], "query has 2 placeholders ($1, $2) but 3 values were given"),
        ("select $1, $3", [7, 8], "query needs 3 values ($1, $3) but 2 values were given"),
        ("select $1", None, "query has 1 placeholder ($1) but no value was given"),
        ("select ?, ?", [7], "query has 2 placeholders (?, ?) but 1 value was given"),
        ("select :a, :b", {"b": 7}, "no value for :a; given: b"),
        ("select :a", {}, "no value for :a; given: nothing"),
        ("select :a", {"a": 7, "c": 8}, "no placeholder for c; query has :a"),
        ("select :a", [7], "query has 1 placeholder (:a); give its values by name, not in order"),
        ("select $1", {"a": 7}, "query has 1 placeholder ($1); give its values in order, not by name"),
        ("select 1", [7], "query has no placeholders but 1 value was given"),
        ("select $1, :a", [7], "query mixes placeholder styles $1 and :name; use one of them"),
        ("select $0", [7], "placeholder $0 does not exist; the first is $1"),
        ("select $1", "7", "values must be a list, a tuple or a mapping, not str"),
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_does_not_fit_is_refused_in_one_line(
    dialect: Dialect, sql: str, params: Values, message: str
) -> None:
    assert refusal(sql, dialect, params) == message


def test_question_mark_mixed_with_another_style_is_refused_without_jsonb() -> None:
    assert refusal("select ?, $1", "mysql", [1]) == "query mixes placeholder styles $1 and ?; use one of them"


def test_a_query_is_compiled_once_and_never_shows_its_text() -> None:
    query = compile_query("select 'hunter2', $1", "postgresql")
    assert compile_query("select 'hunter2', $1", "postgresql") is query
    assert "hunter2" not in repr(query)


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=15)
@given(
    parts=st.lists(
        st.sampled_from(
            ["'$1 ? :a %'", "'it''s %s'", '"? %"', "-- ? $2\n", "/* :b % */", "$1", "a", "%", "::int"]
        ),
        max_size=8,
    )
)
def test_binding_changes_nothing_but_the_placeholders(dialect: Dialect, parts: list[str]) -> None:
    sql = " ".join(["select $1,", *parts])
    driver_sql, values = bind(sql, dialect, ["v"])
    assert values == ("v",) * (1 + parts.count("$1"))
    sent = driver_sql % (("\0",) * len(values)) if SIGN[dialect] == "%s" else driver_sql
    rebuilt = sent.replace("\0", "$1")
    if dialect == "sqlite":
        rebuilt = "".join("$1" if t.kind == "param" else t.text for t in tokens(sent, dialect))
    assert rebuilt == sql
