"""Exports of documents: every type as it was, or a sentence."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import (
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)

from katax_cli.engines.mongodb import create as create_engine
from katax_cli.engines.mongodb.transfer import create
from katax_cli.errors import KataxError
from katax_cli.services.transfer.documents.export import export_documents
from katax_cli.services.transfer.import_run import ImportPlan
from tests.engines.connections import settings_for
from tests.services.transfer.documents.connections import documents_in, imported, open_documents

EVERY_TYPE: dict[str, Any] = {
    "_id": ObjectId("507f1f77bcf86cd799439011"),
    "int": 5,
    "long": Int64(5),
    "double": 5.0,
    "zeros": [-0.0, float("inf"), float("-inf"), float("nan"), 1e-300],
    "decimal": [Decimal128("1.10"), Decimal128("NaN"), Decimal128("-0E+10")],
    "date": [datetime(1815, 12, 10, 1, 2, 3, 4000, tzinfo=UTC), DatetimeMS(2**60), DatetimeMS(-(2**60))],
    "binary": [b"", b"\x00\xff", Binary(b"x" * 16, 4), Binary(b"y", 128)],
    "regex": Regex("^a.*\\/b", "im"),
    "code": [Code("return 1"), Code("return x", {"x": 1})],
    "others": [None, True, False, Timestamp(2**31, 7), MinKey(), MaxKey(), DBRef("other", 5, "db")],
    "text": 'é😀 "q" \\ \u2028 \x00 \r\n\t',
    "😀": {"a.b": {"$c": 1}, "": [], "$d": {"": {}}},
    "nested": {"array": [[], [{}], [Int64(1), [2]]]},
}


def test_a_line_reads_back_as_the_same_bytes() -> None:
    moves = create(create_engine(settings_for("mongodb://localhost/x")))
    raw = bson.encode(EVERY_TYPE)
    line = moves.line(raw)
    assert line.count(b"\n") == 1
    assert moves.outgoing(moves.parsed(line.decode()), None).raw == raw


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (bson.encode({"a": {"$oid": "507f1f77bcf86cd799439011"}}), "fields with [$] that Extended JSON takes"),
        (bson.encode({"_id": 1, "a": {"$numberInt": 5}}), "numberInt is 5, expected digits"),
        (b"\x0f\x00\x00\x00\x10a\x00\x01\x00\x00\x00\x06b\x00\x00", "a type that is deprecated"),
        (b"\x13\x00\x00\x00\x10a\x00\x01\x00\x00\x00\x10a\x00\x02\x00\x00\x00\x00", "one field twice"),
    ],
)  # fmt: skip
def test_what_would_read_back_otherwise_is_refused(raw: bytes, why: str) -> None:
    moves = create(create_engine(settings_for("mongodb://localhost/x")))
    with pytest.raises(ValueError, match=why):
        moves.line(raw)


def test_the_order_of_ids_goes_on_behind_each_type() -> None:
    """MongoDB compares within one type only: the types behind it are named."""
    moves = create(create_engine(settings_for("mongodb://localhost/x")))
    for id, same, first in (
        (5, {"_id": {"$gt": 5}}, "string"),
        (float("nan"), None, "string"),
        (
            ObjectId("507f1f77bcf86cd799439011"),
            {"_id": {"$gt": ObjectId("507f1f77bcf86cd799439011")}},
            "bool",
        ),
        (None, None, "number"),
        ({"a": 1}, {"_id": {"$gt": {"a": 1}}}, "binData"),
        (True, {"_id": {"$gt": True}}, "date"),
    ):
        parts = moves.after(id)["$or"]
        assert {"_id": {"$type": first}} in parts
        assert {"_id": {"$type": first}} not in moves.up_to(id)["$or"]
        assert same is None or parts[0] == same
    assert moves.after(float("nan"))["$or"][0]["_id"]["$type"] == "number"


def exported(database: Any, collection: str, filter: Any = None) -> bytes:
    stream = io.BytesIO()
    export_documents(database, collection, filter or {}, stream)
    return stream.getvalue()


def test_what_was_exported_is_imported_as_it_was(mongodb_url: str) -> None:
    """Of the types that the emulation stores."""
    with open_documents(mongodb_url) as database:
        names = ("_id", "int", "double", "text", "😀", "nested")
        database.insert("t", [{name: EVERY_TYPE[name] for name in names}, {"_id": 2, "n": 2**40}])
        data = exported(database, "t")
        assert imported(database, data, ImportPlan("copy")).imported == 2
        assert exported(database, "copy") == data
        assert documents_in(database, "copy") == documents_in(database, "t")
        assert (
            exported(database, "t", {"_id": 2})
            == b'{"_id": {"$numberInt": "2"}, "n": {"$numberLong": "1099511627776"}}\n'
        )
        database.insert("t", [{"_id": "odd", "a": {"$oid": "507f1f77bcf86cd799439011"}}])
        with pytest.raises(KataxError, match=r"the document \"odd\" of 't' holds fields with \$"):
            exported(database, "t")
        with pytest.raises(
            KataxError, match="no collection named 'nothing' on 'main'; see 'katax db tables -c main'"
        ):
            exported(database, "nothing")


@pytest.mark.needs_mongod
def test_every_type_survives_a_server(mongodb_url: str) -> None:
    with open_documents(mongodb_url) as database:
        imported(database, create(database.engine).line(bson.encode(EVERY_TYPE)), ImportPlan("t"))  # type: ignore[arg-type]
        assert exported(database, "t") == create(database.engine).line(bson.encode(EVERY_TYPE))  # type: ignore[arg-type]
