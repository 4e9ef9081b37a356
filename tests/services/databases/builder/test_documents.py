"""The builder on a collection: what it finds and changes, what it refuses, and that no value becomes an operator."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from bson import ObjectId

from katax_cli.errors import QueryError, Refused, WrongEngine
from katax_cli.services.databases.builder.documents import DocumentBuilder, change_of
from katax_cli.services.databases.builder.selection import Page
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.services.profiles import profile

PEOPLE: list[dict[str, Any]] = [
    {"_id": 1, "name": "Ada", "age": 36, "topic": "math", "address": {"city": "London"}},
    {"_id": 2, "name": "Bob", "age": 17},
    {"_id": 3, "name": "Cleo", "age": 52, "topic": "art"},
    {"_id": 4, "name": "Dan", "age": 36, "topic": "art"},
]
Change = Callable[[DocumentBuilder], object]


@pytest.fixture
def db(mongodb_url: str, tmp_path: Path) -> Iterator[MongoDatabase]:
    with Runtime(profile(tmp_path, {"main": mongodb_url})) as runtime:
        database = cast(MongoDatabase, runtime.database("main"))
        database.insert("people", PEOPLE)
        yield database


@pytest.fixture
def people(db: MongoDatabase) -> DocumentBuilder:
    return db.table("people").order_by("_id")


def names(found: DocumentBuilder) -> str:
    return "".join(document["name"][0] for document in found.all())


def test_all_documents_and_all_fields(people: DocumentBuilder) -> None:
    assert people.all() == people.execute() == PEOPLE
    assert people.select("name").first() == {"name": "Ada"}
    assert people.select("name", "_id").all()[1] == {"_id": 2, "name": "Bob"}


def test_conditions(people: DocumentBuilder) -> None:
    for found, expected in (
        (people.where("age", 36), "AD"),
        (people.where("age", "!=", 36), "BC"),
        (people.where("age", ">", 17).where("age", "<=", 36), "AD"),
        (people.where_in("name", ["Bob", "Dan", "Eve"]), "BD"),
        (people.where_in("name", []), ""),
        (people.where("age", "not in", [36, 17]), "C"),
        (people.where("name", "like", "%a%"), "AD"),
        (people.where("name", "LIKE", "_o%"), "B"),
        (people.where("topic", None), "B"),
        (people.where("address.city", "London"), "A"),
        (people.filter({"$or": [{"age": 17}, {"age": 52}]}), "BC"),
        (people.filter({"age": 36}).where("topic", "art"), "D"),
    ):
        assert names(found) == expected, found.statement()
        assert found.count() == len(expected)


def test_order_limit_offset_and_pages(people: DocumentBuilder) -> None:
    assert names(people.limit(2).offset(1)) == "BC"
    assert people.limit(0).all() == []
    by_age = cast(MongoDatabase, people.on).table("people").order_by("age", "desc").order_by("name")
    assert names(by_age) == "CADB"
    assert people.paginate(2, 3) == Page([PEOPLE[3]], 4, 2, 3, 2)
    assert people.where("age", 99).paginate() == Page([], 0, 1, 20, 0)
    with pytest.raises(ValueError):
        people.paginate(0)


def test_by_id(people: DocumentBuilder) -> None:
    assert people.find_by_id(3) == PEOPLE[2]
    assert people.find_by_id(99) is None
    assert people.find_by_id("Dan", key="name") == PEOPLE[3]


def test_create(db: MongoDatabase) -> None:
    made = db.table("people").create(
        {"name": "Eve", "at": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)}
    )
    assert isinstance(made["_id"], ObjectId)
    assert db.table("people").find_by_id(made["_id"]) == made
    given = {"name": "Fay"}
    assert db.table("people").create_many([given, {"_id": "g", "other": [1]}]) == 2
    assert given == {"name": "Fay"}
    assert db.table("people").create_many([]) == 0
    assert db.table("people").count() == 7


def test_update_and_delete(people: DocumentBuilder, db: MongoDatabase) -> None:
    rows = db.table("people")
    assert rows.where("age", 36).update({"topic": "x", "address.city": "Rome"}) == 2
    assert rows.find_by_id(1) == {**PEOPLE[0], "topic": "x", "address": {"city": "Rome"}}
    assert rows.where("_id", 2).update({"$inc": {"age": 1}}) == 1
    assert (rows.find_by_id(2) or {})["age"] == 18
    assert rows.where("_id", 99).update({"a": 1}) == 0
    assert rows.where("age", ">", 30).delete() == 3
    assert rows.update({"a": 1}, everywhere=True) == 1
    assert rows.delete(everywhere=True) == 1


def test_every_document_is_meant_only_when_that_is_said(people: DocumentBuilder, db: MongoDatabase) -> None:
    rows = db.table("people")
    changes: list[Change] = [
        lambda rows: rows.delete(),
        lambda rows: rows.update({"a": 1}),
        lambda rows: rows.filter({}).delete(),
    ]
    for change in changes:
        with pytest.raises(Refused) as refused:
            change(rows)
        assert "without where() would affect every document of 'people'" in str(refused.value)
    for limited in (rows.limit(1), rows.offset(1), rows.order_by("name")):
        with pytest.raises(ValueError):
            limited.where("age", 36).delete()
    assert rows.count() == 4


def test_what_is_of_sql_alone_is_refused_in_a_sentence(people: DocumentBuilder) -> None:
    calls: list[Change] = [
        lambda rows: rows.join("b", "a.x = b.y"),
        lambda rows: rows.left_join("b", "a.x = b.y"),
        lambda rows: rows.group_by("a"),
        lambda rows: rows.having("a", 1),
    ]
    for call in calls:
        with pytest.raises(WrongEngine) as refused:
            call(people)
        assert "works on postgresql, mysql, sqlite; on mongodb use aggregate()" in str(refused.value)
        assert "\n" not in str(refused.value)


def test_what_is_no_field_operator_or_change(db: MongoDatabase) -> None:
    rows = db.table("people")
    calls: list[Callable[[], object]] = [
        lambda: rows.where("$where", "1"),
        lambda: rows.where("a", "~", 1),
        lambda: rows.where("a", ">", None),
        lambda: rows.select("$a"),
        lambda: rows.order_by("a", "up"),
        lambda: rows.limit(-1),
        lambda: db.table("$cmd"),
        lambda: change_of({}),
        lambda: change_of({"$set": {"a": 1}, "b": 2}),
        lambda: change_of({"a.$x": 1}),
    ]
    for call in calls:
        with pytest.raises(ValueError):
            call()


def test_a_duplicate_says_how_many_were_inserted_before_it(db: MongoDatabase) -> None:
    rows = db.table("people")
    with pytest.raises(QueryError) as refused:
        rows.create_many([{"_id": 10}, {"_id": 11}, {"_id": 1}, {"_id": 12}])
    assert refused.value.code == "11000"
    assert refused.value.reason.endswith("; the 2 documents before it were inserted")
    assert rows.where("_id", ">", 9).count() == 2
    with pytest.raises(QueryError) as refused:
        rows.create({"_id": 1})
    assert "inserted" not in refused.value.reason


def test_no_value_is_obeyed(db: MongoDatabase) -> None:
    """Each text finds itself alone, whatever it says."""
    texts = ["$where", "{}", '{"$gt": ""}', "' or 1=1 --", ".*", "^", "%", "_", "$name", "a\nb", "漢", ""]
    rows = db.table("texts")
    rows.create_many([{"n": n, "text": text} for n, text in enumerate(texts)])
    for n, text in enumerate(texts):
        assert [one["n"] for one in rows.where("text", text).all()] == [n]
        assert rows.where_in("text", [text]).count() == 1
        escaped = text.replace("%", "\\%").replace("_", "\\_")
        assert rows.where("text", "like", escaped).count() == 1
        assert rows.where("text", text).update({"seen": text}) == 1
    assert rows.where("seen", "!=", None).count() == len(texts)
    for text in texts:
        assert rows.where("text", text).delete() == 1
