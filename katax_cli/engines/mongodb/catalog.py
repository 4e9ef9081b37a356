"""Collections, and the fields in a sample of their documents."""

from __future__ import annotations

import datetime
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from pymongo.errors import OperationFailure

from katax_cli.engines.base import Index, Table, TableColumn, TableDescription

SAMPLE_SIZE = 100
# By exact class: bool is an int, Int64 is one too. https://www.mongodb.com/docs/manual/reference/bson-types/
_TYPE_NAMES: Mapping[type, str] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    Int64: "long",
    float: "double",
    Decimal128: "decimal",
    str: "string",
    bytes: "binData",
    Binary: "binData",
    ObjectId: "objectId",
    datetime.datetime: "date",
    Timestamp: "timestamp",
    Regex: "regex",
    Code: "javascript",
    DBRef: "dbPointer",
    MinKey: "minKey",
    MaxKey: "maxKey",
    list: "array",
    dict: "object",
}
Documents = Sequence[Mapping[str, Any]]


def tables(database: Any) -> list[Table]:
    """The collections and views of one database, by name; counts and sizes are the server's estimates."""
    infos = database.list_collections(filter={"name": {"$not": {"$regex": "^system\\."}}})
    return sorted((_table(database, info) for info in infos), key=lambda table: table.name)


def describe(database: Any, name: str) -> TableDescription | None:
    """One collection: the fields of up to 100 documents and its indexes."""
    infos = database.list_collections(filter={"name": name})
    info = next((each for each in infos if each["name"] == name), None)
    if info is None:
        return None
    table = _table(database, info)
    indexes = [] if table.kind == "view" else _indexes(database[name].list_indexes())
    sample = list(database[name].aggregate([{"$sample": {"size": SAMPLE_SIZE}}]))
    return TableDescription(table, tuple(columns(sample, indexes)), tuple(indexes))


def _table(database: Any, info: Mapping[str, Any]) -> Table:
    name = info["name"]
    if info.get("type") == "view":
        return Table(database.name, name, "view", rows_estimate=None, size_bytes=None)
    stats = _stats(database, name)
    return Table(database.name, name, "collection", stats.get("count"), stats.get("size"))


def _stats(database: Any, name: str) -> Mapping[str, Any]:
    try:
        stats: Mapping[str, Any] = database.command("collStats", name)
    except OperationFailure:
        # Time series and restricted users: the collection is shown, its size is not known.
        return {}
    return stats


def _indexes(infos: Iterable[Mapping[str, Any]]) -> list[Index]:
    return [
        Index(
            info["name"],
            tuple(info["key"]),
            unique=bool(info.get("unique")) or info["name"] == "_id_",
            definition=", ".join(f"{field}: {order}" for field, order in info["key"].items()),
        )
        for info in infos
    ]


def columns(sample: Documents, indexes: Sequence[Index]) -> list[TableColumn]:
    """The fields seen, in the order in which documents have them; nullable: missing or null in one of them."""
    types: defaultdict[str, list[str]] = defaultdict(list)
    present: Counter[str] = Counter()
    for document in sample:
        for field, value in document.items():
            kind = type_name(value)
            present[field] += kind != "null"
            if kind not in types[field]:
                types[field].append(kind)
    return [
        TableColumn(field, "|".join(kinds), present[field] < len(sample), None, _key(field, indexes))
        for field, kinds in types.items()
    ]


def type_name(value: object) -> str:
    """MongoDB's alias for the type of a value."""
    return _TYPE_NAMES.get(type(value), type(value).__name__.lower())


def _key(field: str, indexes: Sequence[Index]) -> Any:
    if field == "_id":
        return "primary"
    leading = [index for index in indexes if index.columns[:1] == (field,)]
    if any(index.unique and len(index.columns) == 1 for index in leading):
        return "unique"
    return "index" if leading else None
