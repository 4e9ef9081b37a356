"""Columns and joins as people write them; what is none of them is refused, whatever it smuggles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.core.sql.terms import Term, parse_name, parse_on, parse_term


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("name", Term(("name",))),
        (" u.name ", Term(("u", "name"))),
        ("app.users.name as n", Term(("app", "users", "name"), "n")),
        ("*", Term(("*",))),
        ("u.*", Term(("u", "*"))),
        ("count(*) AS n", Term(("*",), "n", "count")),
        ("COUNT( distinct u.id )", Term(("u", "id"), None, "count", distinct=True)),
        ("größe", Term(("größe",))),
        ("_x1", Term(("_x1",))),
    ],
)
def test_terms(text: str, term: Term) -> None:
    assert parse_term(text) == term


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "a b",
        "a;b",
        "a--",
        "a/**/",
        '"a"',
        "`a`",
        "a'b",
        "pg_sleep(x)",
        "count()",
        "count(1)",
        "count(a, b)",
        "count(a) n",
        "a.b.c.d",
        "a as b c",
        "a, b",
        "(select 1)",
        "a\nas\nb; drop",
        "sum(*) as *",
    ],
)
def test_what_is_no_term(text: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_term(text)
    assert repr(text) in str(error.value)


@given(st.text(max_size=30))
def test_a_term_is_made_of_words_only(text: str) -> None:
    try:
        term = parse_term(text)
    except ValueError:
        return
    words = [*term.path, *([term.alias] if term.alias else [])]
    assert all(word == "*" or word.isidentifier() or word.replace("_", "a").isalnum() for word in words)


def test_names_of_tables() -> None:
    assert (parse_name("users"), parse_name("app.users")) == (("users",), ("app", "users"))
    for wrong in ("", "a b", "a;", "a-b", "1a", "a..b", "a."):
        with pytest.raises(ValueError):
            parse_name(wrong)


def test_joins_are_pairs_of_columns() -> None:
    assert parse_on("u.id = o.user_id AND u.org != o.org") == [
        (Term(("u", "id")), "=", Term(("o", "user_id"))),
        (Term(("u", "org")), "!=", Term(("o", "org"))),
    ]
    for wrong in ("", "u.id", "u.id = 1", "u.id = o.id or 1 = 1", "u.id == o.id", "u.id = o.id and"):
        with pytest.raises(ValueError):
            parse_on(wrong)
