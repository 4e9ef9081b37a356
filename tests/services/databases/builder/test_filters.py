"""Conditions as filters: what they say, and that no value becomes an operator."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.services.databases.builder.filters import (
    collection_name,
    field_name,
    filter_of,
    holds_for_all,
    like_pattern,
)


def test_conditions_hold_together() -> None:
    assert filter_of([]) == {}
    assert filter_of([("age", ">=", 18)]) == {"age": {"$gte": 18}}
    assert filter_of([("a", "=", 1), ("a", "<>", 2)], [{"b": 3}, {}]) == {
        "$and": [{"a": {"$eq": 1}}, {"a": {"$ne": 2}}, {"b": 3}]
    }
    assert filter_of([("a", "not in", (1, 2))]) == {"a": {"$nin": [1, 2]}}
    assert filter_of([("a", "is not", None)]) == {"a": {"$ne": None}}
    assert filter_of([("a", "not like", "x%")]) == {"a": {"$not": {"$regex": "^x", "$options": "s"}}}


def test_a_value_stays_behind_its_operator() -> None:
    for value in ({"$gt": ""}, {"$where": "1"}, [{"$ne": 1}], "$x"):
        assert filter_of([("a", "=", value)]) == {"a": {"$eq": value}}


@pytest.mark.parametrize("name", ["", "$where", "a.$b", "$expr.a", ".", "a.", ".a", "a..b", "a\0b"])
def test_an_operator_is_no_field(name: str) -> None:
    with pytest.raises(ValueError):
        field_name(name)


@pytest.mark.parametrize("name", ["", "a$b", "a\0", ".a", "a.", "a..b"])
def test_names_of_collections(name: str) -> None:
    with pytest.raises(ValueError):
        collection_name(name)
    assert collection_name("fs.files-2") == "fs.files-2"
    assert collection_name("my people") == "my people"


def test_like_is_sqls() -> None:
    def matches(pattern: str, text: str) -> bool:
        return re.search(like_pattern(pattern), text, re.DOTALL) is not None

    for pattern, yes, no in (
        ("A%", ["A", "Ada", "A\nb"], ["a", "bA", ""]),
        ("%a", ["a", "bba", "\na"], ["ab", "a\n"]),
        ("%a%", ["a", "xay", "\na\n"], ["b"]),
        ("a_c", ["abc", "a\nc"], ["ac", "abbc"]),
        ("a", ["a"], ["a\n", "ab", "ba", "A"]),
        ("", [""], ["a", "\n"]),
        ("%", ["", "a", "\n"], []),
        (r"100\%", ["100%"], ["100", "100x"]),
        (r"a\_b", ["a_b"], ["axb"]),
        (r"a\\%", ["a\\", "a\\b"], ["ab"]),
        ("a.b*(", ["a.b*("], ["axb", "a.bb("]),
    ):
        assert [text for text in yes if not matches(pattern, text)] == [], pattern
        assert [text for text in no if matches(pattern, text)] == [], pattern


@given(st.text())
def test_like_of_a_text_without_wildcards_finds_that_text_alone(text: str) -> None:
    escaped = re.sub(r"([%_\\])", r"\\\1", text)
    pattern = re.compile(like_pattern(escaped), re.DOTALL)
    assert pattern.search(text)
    assert not pattern.search(text + "\n")
    assert not pattern.search("x" + text)


EVERY: tuple[dict[str, Any], ...] = (
    {},
    {"$comment": "all"},
    {"$and": [{}]},
    {"$and": [{}, {"$comment": "x"}]},
    {"$or": [{"a": 1}, {}]},
    {"$or": [{"$and": [{"$or": [{}]}]}]},
    {"$nor": [{"a": {"$in": []}}]},
    {"$expr": True},
    {"$expr": 1},
    {"$where": " return true; "},
    {"_id": {"$exists": True}},
    {"_id": {"$exists": 1}},
    {"_id": {"$ne": None}},
    {"a": {"$nin": []}},
    {"_id": {"$nin": [None]}},
    {"a": {"$not": {"$in": []}}},
    {"_id": {"$exists": True, "$ne": None}},
)
SOME: tuple[dict[str, Any], ...] = (
    {"a": 1},
    {"a": {}},
    {"a": {"$ne": None}},
    {"a": {"$exists": True}},
    {"_id": {"$exists": False}},
    {"_id": {"$exists": True, "$gt": 1}},
    {"$and": [{}, {"a": 1}]},
    {"$or": [{"a": 1}]},
    {"$or": []},
    {"$nor": [{}]},
    {"$expr": {"$gt": ["$a", 1]}},
    {"$expr": False},
    {"$expr": "$a"},
    {"$where": "this.a"},
    {"$or": "x"},
    {"a": {"$in": []}},
)


def test_filters_that_hold_for_every_document() -> None:
    assert [one for one in EVERY if not holds_for_all(one)] == []
    assert [one for one in SOME if holds_for_all(one)] == []
