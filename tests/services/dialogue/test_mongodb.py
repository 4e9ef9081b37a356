"""MongoDB calls that are typed: what they become, what of them is asked about, and answers that hide a refusal."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest

from katax_cli.core.text.mongo_call import parse_call
from katax_cli.errors import ConfigError, QueryError, Refused
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.dialogue.mongodb import MongoDialogue
from katax_cli.services.runtime.runtime import Runtime
from tests.services.profiles import profile


class Typed:
    def __init__(self, runtime: Runtime) -> None:
        database = cast(MongoDatabase, runtime.database("main"))
        self.dialogue = MongoDialogue(database, seconds=60.0)

    def type(self, text: str) -> Any:
        documents: list[dict[str, Any]] = []

        def take(batches: Iterable[list[dict[str, Any]]]) -> None:
            documents.extend(document for batch in batches for document in batch)

        answer = self.dialogue.run(self.dialogue.request(parse_call(text)), take)
        return documents if answer is None else dict(answer)


def test_calls_do_what_mongodbs_shell_does(mongodb_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": mongodb_url})) as runtime:
        typed = Typed(runtime)
        typed.type('db.u.insertMany([{"_id": 1, "n": 5}, {"_id": 2, "n": 7}, {"_id": 3, "n": 9}])')
        typed.type('db.u.insertOne({"_id": {"$oid": "65f000000000000000000001"}})')

        assert typed.type('db.u.find({"n": {"$gt": 5}}, {"n": 1, "_id": 0}).sort({"n": -1}).limit(1)') == [
            {"n": 9}
        ]
        assert typed.type('db.u.find({"n": {"$gte": 5}}).sort({"_id": 1}).skip(2).toArray()') == [
            {"_id": 3, "n": 9}
        ]
        assert typed.type('db.u.findOne({"_id": 2})') == [{"_id": 2, "n": 7}]
        assert typed.type('db.u.countDocuments({"n": {"$lt": 9}})') == [{"count": 2}]
        assert typed.type("db.u.estimatedDocumentCount()")["n"] == 4
        assert sorted(typed.type('db.u.distinct("n")')["values"]) == [5, 7, 9]
        assert typed.type('db.u.updateMany({"n": {"$lt": 9}}, {"$inc": {"n": 1}})')["n"] == 2
        assert typed.type('db.u.replaceOne({"_id": 3}, {"n": 1})')["n"] == 1
        assert typed.type('db.u.deleteOne({"n": 1})')["n"] == 1
        assert typed.type('db.u.aggregate([{"$match": {"_id": 1}}, {"$project": {"n": 1, "_id": 0}}])') == [
            {"n": 6}
        ]
        assert typed.type('db.runCommand({"ping": 1})')["ok"] == 1
        assert [row["name"] for row in typed.type("show collections")] == ["u"]
        (found,) = typed.type('db.u.find({"_id": {"$oid": "65f000000000000000000001"}})')
        assert typed.dialogue.written(found) == '{"_id": {"$oid": "65f000000000000000000001"}}'


def test_a_write_that_was_refused_in_part_is_an_error(mongodb_url: str, tmp_path: Path) -> None:
    """The server answers it with `ok: 1`."""
    with Runtime(profile(tmp_path, {"main": mongodb_url})) as runtime:
        typed = Typed(runtime)
        typed.type('db.u.insertOne({"_id": 1})')

        with pytest.raises(QueryError, match="refused the statement"):
            typed.type('db.u.insertMany([{"_id": 0}, {"_id": 1}])')

        assert typed.type("db.u.countDocuments()") == [{"count": 2}]


def test_what_loses_data_is_known_before_it_is_sent(mongodb_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": mongodb_url})) as runtime:
        dialogue = Typed(runtime).dialogue
        losing = [
            "db.u.drop()",
            "db.dropDatabase()",
            "db.u.deleteMany({})",
            'db.u.updateMany({}, {"$set": {"a": 1}})',
            'db.u.dropIndex("a_1")',
            'db.u.aggregate([{"$match": {}}, {"$out": "v"}])',
            'db.runCommand({"drop": "u"})',
            'db.runCommand({"delete": "u", "deletes": [{"q": {}, "limit": 0}]})',
        ]
        harmless = [
            "db.u.find({})",
            'db.u.deleteMany({"a": 1})',
            "db.u.deleteOne({})",
            'db.u.updateOne({}, {"$set": {"a": 1}})',
            'db.runCommand({"delete": "u", "deletes": [{"q": {"a": 1}, "limit": 0}]})',
        ]

        assert [text for text in losing if not dialogue.request(parse_call(text)).loses] == []
        assert [text for text in harmless if dialogue.request(parse_call(text)).loses] == []
        assert dialogue.request(parse_call('db.runCommand({"shutdown": 1})')).disrupts == "shutdown"


def test_what_is_no_call_of_this_shell_is_said(mongodb_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": mongodb_url})) as runtime:
        typed = Typed(runtime)
        for text, told in {
            "db.u.mapReduce()": "no method 'mapReduce' of a collection",
            "db.startSession()": "no method 'startSession' of a database",
            "db.u.find(1)": "are an object",
            "db.u.insertOne()": "does not take 0 arguments",
            "db.u.deleteMany({}).limit(1)": "no method 'limit'",
            'db.u.find({}).limit("x")': "limit takes a number",
            'db.u.find({"_id": {"$oid": "x"}})': "not MongoDB's JSON",
            "db.u.aggregate([1])": "are an object",
        }.items():
            with pytest.raises(ConfigError) as error:
                typed.type(text)
            assert told in str(error.value)


def test_a_read_only_connection_refuses(mongodb_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": mongodb_url}, role="frozen")) as runtime:
        typed = Typed(runtime)

        assert typed.type("db.u.find({})") == []
        for text in ('db.u.insertOne({"_id": 1})', 'db.u.aggregate([{"$out": "v"}])', "db.u.drop()"):
            with pytest.raises(Refused):
                typed.type(text)
