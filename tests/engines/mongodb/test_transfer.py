"""The filters of transfers; what they find is tested by imports, copies and diffs."""

from __future__ import annotations

import bson
import pytest
from bson import Code, DBRef

from katax_cli.engines.documents import OutgoingDocument
from katax_cli.engines.mongodb.engine import create
from katax_cli.engines.mongodb.transfer import DocumentTransfer, _replacement
from katax_cli.errors import KataxError
from tests.engines.connections import settings_for

MOVES = DocumentTransfer(create(settings_for("mongodb://127.0.0.1:1/app")))


def test_a_range_of_one_type_is_one_range_and_of_several_one_or() -> None:
    assert MOVES.between(1, 2.5) == {"_id": {"$gt": 1, "$lte": 2.5}}
    assert MOVES.between("x", b"y") == {
        "$or": [{"_id": {"$gt": "x"}}, {"_id": {"$type": "object"}}, {"_id": {"$lte": b"y"}}]
    }
    assert MOVES.between(None, "a")["$or"][0] == {"_id": {"$type": "number"}}
    # NaN stands before all numbers, where $lte does not find it.
    assert str(MOVES.up_to(5)["$or"][0]) == "{'_id': {'$eq': nan}}"


def test_code_has_its_place_and_an_unknown_type_none() -> None:
    assert MOVES.after(Code("f"))["$or"][0] == {"_id": {"$gt": Code("f")}}
    assert {"_id": {"$type": "string"}} not in MOVES.after(Code("f"))["$or"]
    assert MOVES.after(Code("f", {}))["$or"][-1] == {"_id": {"$type": "maxKey"}}
    with pytest.raises(KataxError, match="an _id of the type DBRef has no known place"):
        MOVES.after(DBRef("c", 1))


def test_a_key_does_not_take_an_array_that_has_its_value() -> None:
    raw = bson.encode({"_id": 7, "a": {"b": "x"}})
    assert _replacement(OutgoingDocument(raw), ("a.b",))._filter == {
        "a.b": {"$eq": "x"},
        "a.0": {"$exists": False},
        "a.b.0": {"$exists": False},
    }
    assert _replacement(OutgoingDocument(raw), ("_id",))._filter == {"_id": {"$eq": 7}}
