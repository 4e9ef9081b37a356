"""Which MongoDB commands pass a read-only connection."""

from typing import Any

import pytest

from katax_cli.engines.mongodb import guard
from katax_cli.errors import Refused

ALLOWED: tuple[dict[str, Any], ...] = (
    {"find": "c"},
    {"aggregate": "c", "pipeline": [{"$match": {"a": 1}}, {"$group": {"_id": "$a"}}], "cursor": {}},
    {"aggregate": 1, "pipeline": [{"$currentOp": {}}], "cursor": {}},
    {"count": "c"},
    {"distinct": "c", "key": "a"},
    {"listCollections": 1},
    {"getMore": 1, "collection": "c"},
    {"explain": {"find": "c"}},
    {"explain": {"aggregate": "c", "pipeline": [], "cursor": {}}},
    {"profile": -1},
    {"aggregate": "c", "pipeline": [{"$project": {"out": 1, "x": {"$mergeObjects": ["$a"]}}}]},
    {"aggregate": "c", "pipeline": [{"$facet": {"a": [{"$count": "n"}], "b": [{"$sort": {"_id": 1}}]}}]},
    {"aggregate": "c", "pipeline": [{"$lookup": {"from": "d", "pipeline": [{"$match": {}}], "as": "x"}}]},
    {
        "aggregate": "c",
        "pipeline": [{"$lookup": {"from": "d", "localField": "a", "foreignField": "b", "as": "x"}}],
    },
    {"aggregate": "c", "pipeline": [{"$unionWith": "d"}, {"$unionWith": {"coll": "d", "pipeline": []}}]},
    {"find": "c", "filter": {"a": {"$in": list(range(10))}, "b": {"$elemMatch": {"c": "$out"}}}},
    {"explain": {"explain": {"find": "c"}}},
)
FORBIDDEN: tuple[dict[str, Any], ...] = (
    {},
    {"insert": "c", "documents": [{}]},
    {"update": "c"},
    {"delete": "c"},
    {"findAndModify": "c"},
    {"findandmodify": "c"},
    {"bulkWrite": 1},
    {"create": "c"},
    {"drop": "c"},
    {"dropDatabase": 1},
    {"createIndexes": "c"},
    {"dropIndexes": "c"},
    {"collMod": "c"},
    {"renameCollection": "a.c"},
    {"aggregate": "c", "pipeline": [{"$out": "d"}]},
    {"aggregate": "c", "pipeline": [{"$merge": {"into": "d"}}]},
    {"aggregate": "c", "pipeline": [{"$facet": {"f": [{"$out": "d"}]}}]},
    {"aggregate": "c", "pipeline": [{"$lookup": {"from": "d", "pipeline": [{"$merge": "e"}], "as": "x"}}]},
    {"aggregate": "c", "pipeline": ({"$unionWith": {"coll": "d", "pipeline": ({"$out": "e"},)}},)},
    {"explain": {"delete": "c"}},
    {"explain": {"aggregate": "c", "pipeline": [{"$out": "d"}]}},
    {"explain": "find"},
    {"mapReduce": "c", "out": "d"},
    {"mapReduce": "c", "out": {"replace": "d"}},
    {"mapReduce": "c", "map": "", "reduce": "", "out": {"inline": 1}},
    {"aggregate": "c", "pipeline": [{"$OUT": "d"}]},
    {"aggregate": "c", "pipeline": [{" $out": "d"}]},
    {"aggregate": "c", "pipeline": [{"$Merge": {"into": "d"}}]},
    {"aggregate": "c", "pipeline": [{"$match": {}, "$out": "d"}]},
    {"aggregate": "c", "pipeline": [{"$emit": "d"}]},
    {"aggregate": "c", "pipeline": [{"$_internalInhibitOptimization": {}}]},
    {"aggregate": "c", "pipeline": [{"$facet": {"f": [{"$lookup": {"pipeline": [{"$https": {}}]}}]}}]},
    {"aggregate": "c", "pipeline": [{"$lookup": {"from": "d", "pipeline": "$out", "as": "x"}}]},
    {"aggregate": "c", "pipeline": [{"$rankFusion": {"input": {"pipelines": {"a": [{"$emit": 1}]}}}}]},
    {"aggregate": "c", "pipeline": [[{"$out": "d"}]]},
    {"aggregate": "c", "pipeline": {"$out": "d"}},
    {"aggregate": "c", "pipeline": None},
    {"aggregate": "c"},
    {"Aggregate": "c", "pipeline": []},
    {
        "aggregate": "c",
        "pipeline": [{"$project": {"x": {"$function": {"body": "f", "args": [], "lang": "js"}}}}],
    },
    {"aggregate": "c", "pipeline": [{"$group": {"_id": 1, "x": {"$accumulator": {}}}}]},
    {"find": "c", "filter": {"$where": "sleep(1)"}},
    {"find": "c", "filter": {"$or": [{"a": 1}, {"$expr": {"$Function": {}}}]}},
    {"count": "c", "query": {"$nor": [{"$where": "1"}]}},
    {"explain": {"explain": {"drop": "c"}}},
    {"explain": {}},
    {"Find": "c"},
    {"FIND": "c"},
    {"profile": 2},
    {"profile": -1, "slowms": 0},
    {"validate": "c"},
    {"compact": "c"},
    {"setParameter": 1},
    {"createUser": "u"},
    {"shutdown": 1},
    {"fsync": 1},
    {"killOp": 1},
    {"eval": "1"},
    {"$eval": "1"},
    {"applyOps": []},
    {"insert": "c", "find": "c"},
)


def passes(spec: dict[str, Any]) -> bool:
    try:
        guard.check(spec, "docs")
    except Refused:
        return False
    return True


@pytest.mark.parametrize("spec", ALLOWED, ids=str)
def test_reads_pass_the_guard(spec: dict[str, Any]) -> None:
    assert passes(spec)
    assert not guard.may_write(spec)


@pytest.mark.parametrize("spec", FORBIDDEN, ids=str)
def test_writes_are_refused(spec: dict[str, Any]) -> None:
    assert not passes(spec)


def test_a_program_is_no_write_where_writing_is_allowed() -> None:
    """A lost question with one in it is asked again, and is no unknown outcome."""
    for spec in FORBIDDEN:
        programs = (
            any(word in str(spec) for word in ("$where", "unction", "$accumulator"))
            and "mapReduce" not in spec
        )
        assert guard.may_write(spec) is not programs, spec


def test_the_message_names_connection_command_and_stage() -> None:
    with pytest.raises(Refused) as error:
        guard.check({"aggregate": "c", "pipeline": [{"$facet": {"f": [{"$merge": "d"}]}}]}, "docs")
    assert str(error.value) == (
        "refused: 'docs' is read-only and aggregate with $merge is not known to only read; "
        "use a connection that may write"
    )


def test_depth_and_length_cost_no_more_than_their_size() -> None:
    deep: dict[str, Any] = {"$out": "d"}
    for _ in range(50_000):
        deep = {"a": [deep]}
    assert not passes({"find": "c", "filter": deep})
    assert passes({"find": "c", "filter": {"_id": {"$in": list(range(300_000))}}})
    explained: dict[str, Any] = {"drop": "c"}
    for _ in range(50_000):
        explained = {"explain": explained}
    assert not passes(explained)
