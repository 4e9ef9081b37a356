"""Which commands of MongoDB lose data that they do not name, or change the server."""

from typing import Any

import pytest

from katax_cli.services.databases.document_effects import destructive_reason, is_ordinary, written_by

DESTRUCTIVE: tuple[tuple[dict[str, Any], str], ...] = (
    ({"drop": "c"}, "dropping collection 'c'"),
    ({"DROP": "c"}, "dropping collection 'c'"),
    ({"dropDatabase": 1}, "dropping the database"),
    ({"dropIndexes": "c", "index": "*"}, "dropping indexes of 'c'"),
    ({"convertToCapped": "c", "size": 1}, "cutting down collection 'c'"),
    ({"renameCollection": "a.c", "to": "a.d", "dropTarget": True}, "replacing collection 'a.d'"),
    (
        {"delete": "c", "deletes": [{"q": {"a": 1}, "limit": 1}, {"q": {}, "limit": 0}]},
        "deleting every document of 'c'",
    ),
    ({"delete": "c", "deletes": [{"q": {"$or": [{}]}}]}, "deleting every document of 'c'"),
    ({"update": "c", "updates": [{"q": {}, "u": [], "multi": True}]}, "changing every document of 'c'"),
    (
        {"bulkWrite": 1, "ops": [{"delete": 0, "filter": {}, "multi": True}]},
        "deleting every document of a collection",
    ),
    (
        {"bulkWrite": 1, "ops": [{"update": 0, "filter": {}, "multi": 1}]},
        "changing every document of a collection",
    ),
    ({"aggregate": "c", "pipeline": [{"$match": {}}, {"$out": "d"}]}, "replacing collection 'd'"),
    ({"aggregate": "c", "pipeline": [{"$out": {"db": "x", "coll": "d"}}]}, "replacing collection 'd'"),
    ({"mapReduce": "c", "out": "d"}, "replacing collection 'd'"),
    ({"mapReduce": "c", "out": {"replace": "d"}}, "replacing collection 'd'"),
    ({"createIndexes": "c", "indexes": [{"expireAfterSeconds": 0}]}, "letting documents of 'c' expire"),
    ({"collMod": "c", "index": {"expireAfterSeconds": 0}}, "letting documents of 'c' expire"),
    ({"collMod": "c", "expireAfterSeconds": 5}, "letting documents of 'c' expire"),
    ({"applyOps": []}, "applying entries of an oplog"),
)
HARMLESS: tuple[dict[str, Any], ...] = (
    {},
    {"ping": 1},
    {"insert": "c", "documents": [{}]},
    {"delete": "c", "deletes": [{"q": {}, "limit": 1}]},
    {"delete": "c", "deletes": [{"q": {"a": 1}, "limit": 0}]},
    {"delete": "c", "deletes": "nonsense"},
    {"update": "c", "updates": [{"q": {}, "u": {}}]},
    {"renameCollection": "a.c", "to": "a.d"},
    {"aggregate": "c", "pipeline": [{"$merge": {"into": "d"}}]},
    {"aggregate": "c", "pipeline": {}},
    {"mapReduce": "c", "out": {"inline": 1}},
    {"createIndexes": "c", "indexes": [{"key": {"a": 1}}]},
)


def test_reasons() -> None:
    assert [(spec, destructive_reason(spec)) for spec, _ in DESTRUCTIVE] == list(DESTRUCTIVE)
    assert [spec for spec in HARMLESS if destructive_reason(spec)] == []


def test_whatever_is_not_known_to_be_a_programs_command_changes_the_server() -> None:
    for name in (
        "insert",
        "findAndModify",
        "findandmodify",
        "createIndexes",
        "aggregate",
        "commitTransaction",
    ):
        assert is_ordinary({name: 1})
    for name in ("createUser", "shutdown", "setParameter", "killOp", "replSetStepDown", "newInVersion12", ""):
        assert not is_ordinary({name: 1})


@pytest.mark.parametrize(
    ("pipeline", "written"),
    [
        ([], None),
        ([{"$match": {}}], None),
        ([{"$out": "d"}], ("$out", "d")),
        ([{"$merge": "d"}], ("$merge", "d")),
        ([{"$merge": {"into": "d"}}], ("$merge", "d")),
        ([{"$merge": {"into": {"db": "x", "coll": "d"}}}], ("$merge", "d")),
        ([{"$out": {}}], ("$out", "")),
    ],
)
def test_where_a_pipeline_stores_its_documents(
    pipeline: list[dict[str, Any]], written: tuple[str, str] | None
) -> None:
    assert written_by(pipeline) == written
