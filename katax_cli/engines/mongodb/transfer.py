"""Whole collections in and out: documents as lines of text, and written so that each is there once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import accumulate
from typing import Any

import bson
from bson import Binary, Code, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference, ReplaceOne
from pymongo.errors import BulkWriteError, ExecutionTimeout, WriteConcernError, WriteError
from pymongo.write_concern import WriteConcern

from katax_cli.engines.documents import CollectionFacts, Document, OutgoingDocument
from katax_cli.engines.mongodb import MongoEngine
from katax_cli.engines.mongodb.connect import database_name
from katax_cli.engines.mongodb.engine import ANY_TYPE
from katax_cli.engines.mongodb.extended_json import ExtendedJson
from katax_cli.engines.mongodb.failures import MAX_BSON_SIZE, PartlyDone, is_about_document
from katax_cli.errors import KataxError

_DUPLICATE = 11000
# A batch that a new primary would forget is no batch that is in.
_KEPT = WriteConcern(w="majority")
_ON_DISK = WriteConcern(w="majority", j=True)
# https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
_BRACKETS: Sequence[tuple[str, tuple[type, ...]]] = (
    ("minKey", (MinKey,)),
    ("null", (type(None),)),
    ("number", (int, float, Decimal128)),
    ("string", (str,)),
    ("object", (dict,)),
    ("binData", (bytes, Binary)),
    ("objectId", (ObjectId,)),
    ("bool", (bool,)),
    ("date", (datetime, bson.DatetimeMS)),
    ("timestamp", (Timestamp,)),
    ("regex", (Regex,)),
    ("dbPointer", ()),
    ("javascript", (Code,)),
    ("javascriptWithScope", ()),
    ("maxKey", (MaxKey,)),
)
_NAMES = tuple(name for name, _ in _BRACKETS)
_OF_ONE_VALUE = ("minKey", "null", "maxKey")


class DocumentTransfer:
    """MovesDocuments of MongoDB."""

    def __init__(self, engine: MongoEngine) -> None:
        self._engine = engine
        self._json = ExtendedJson()

    def attempt(self, client: Any, timeout: float | None) -> AbstractContextManager[None]:
        """Around every call that takes a client: its limit, and the meaning of its errors."""
        return self._engine.attempt(client, timeout)

    def line(self, raw: bytes) -> bytes:
        """A document as one line of canonical Extended JSON. Raises ValueError where that would read back otherwise."""
        try:
            document = bson.decode(raw, ANY_TYPE)
        except BSONError as error:
            raise ValueError(f"holds what is no BSON: {' '.join(str(error).split())}") from error
        if bson.encode(document) != raw:
            raise ValueError(
                "holds a type that is deprecated (undefined, symbol, DBPointer), or one field twice"
            )
        text = self._json.write(document, canonical=True)
        # Only `$` makes Extended JSON take a document for a value.
        if b"$" in raw and _encoded(self._json.read(text)) != raw:
            raise ValueError("holds fields with $ that Extended JSON takes for something else")
        return text.encode() + b"\n"

    def parsed(self, text: str) -> Document:
        """A document of Extended JSON, relaxed or canonical. Raises ValueError for anything else."""
        value = self._json.read(text)
        if type(value) is not dict:
            raise ValueError("expected an object")
        return value

    def outgoing(self, document: Document, new_id: Any) -> OutgoingDocument:
        """A document as it is sent, with `new_id` where it has none. Raises ValueError for one that is too large."""
        fields = document if "_id" in document else {"_id": new_id, **document}
        # MongoDB has `_id` in front; a replacement that begins with an operator would be an update.
        raw = _encoded({"_id": fields["_id"], **fields})
        if len(raw) > MAX_BSON_SIZE:
            raise ValueError(f"has {len(raw)} bytes, {MAX_BSON_SIZE} is the most")
        return OutgoingDocument(raw, "_id" in document)

    def new_id(self, start: bytes, number: int) -> Any:
        """The `_id` of the document with this number: the same each time, and like no other one's."""
        return ObjectId(start[:4] + (int.from_bytes(start[4:12], "big") + number).to_bytes(9, "big")[-8:])

    def write(
        self, client: Any, collection: str, documents: Sequence[OutgoingDocument], key: Sequence[str]
    ) -> list[tuple[int, str]]:
        """Inserts documents; those whose `_id` or `key` is there already replace what is there, the last one last.

        Returns the places of those that the server refused, with its reasons.
        """
        target = self._collection(client, collection, _KEPT)
        refused: list[tuple[int, str]] = []
        again: list[int] = []
        for place, code, reason in _attempt(
            lambda: target.insert_many([RawBSONDocument(one.raw) for one in documents], ordered=False)
        ):
            if code == _DUPLICATE:
                again.append(place)
            else:
                refused.append((place, reason))
        wanted: list[tuple[int, ReplaceOne[Any]]] = []
        for place in sorted(again):
            try:
                wanted.append((place, _replacement(documents[place], key)))
            except ValueError as error:
                refused.append((place, str(error)))
        if wanted:
            refused += [
                (wanted[at][0], reason)
                for at, _, reason in _attempt(
                    lambda: target.bulk_write([change for _, change in wanted], ordered=False)
                )
            ]
        return sorted(refused)

    def save(self, client: Any, collection: str, filter: Document, change: Document) -> bool:
        """Changes one document, on disk of a majority when it returns; False when none matched."""
        return bool(self._collection(client, collection, _ON_DISK).update_one(filter, change).matched_count)

    def start(self, client: Any, collection: str, document: Document) -> bool:
        """Inserts one document; False when its `_id` is there."""
        target = self._collection(client, collection, _ON_DISK)
        for _, code, reason in _attempt(lambda: target.insert_many([dict(document)])):
            if code != _DUPLICATE:
                raise WriteError(reason, code)
            return False
        return True

    def remove(self, client: Any, collection: str, filter: Document) -> None:
        """Deletes one document, on disk of a majority when it returns."""
        self._collection(client, collection, _ON_DISK).delete_one(filter)

    def fetch(self, client: Any, collection: str, filter: Document, most: int) -> list[Document]:
        """Up to `most` documents, 0 is all."""
        return list(self._collection(client, collection, _KEPT).find(dict(filter), limit=most))

    def count(self, client: Any, collection: str, *, most: int = 0) -> int:
        """The number of documents, counted up to `most`."""
        limit = {"limit": most} if most else {}
        return int(self._collection(client, collection, _KEPT).count_documents({}, **limit))

    def missing_key(self, document: Document, key: Sequence[str]) -> str | None:
        """The field of the key that a document does not have as one value; None when it has all."""
        return next((name for name in key if isinstance(_value(document, name), list)), None)

    def last_id(self, raw: bytes) -> Any:
        """The `_id` of a document."""
        return bson.decode(raw, ANY_TYPE)["_id"]

    def shown(self, value: Any) -> str:
        """A value for a message, with its type."""
        return self._json.write(value, canonical=not isinstance(value, str | int | bool))

    def fields(self, raw: bytes) -> Document:
        """The fields of a document, their values as canonical Extended JSON has them."""
        fields: Document = json.loads(self._json.write(bson.decode(raw, ANY_TYPE), canonical=True))
        return fields

    def after(self, id: Any) -> Document:
        """The documents behind `id` in the order of `_id`, also those whose `_id` is of another type.

        MongoDB sorts over all types, and compares within one only.
        """
        at = _bracket(id)
        behind = [*_behind(id), *_of_types(_BRACKETS[at + 1 :])]
        return {"$or": behind} if behind else {"_id": {"$in": []}}

    def up_to(self, id: Any) -> Document:
        """The documents up to `id`, as `after`."""
        return {"$or": [*_up_to(id), *_of_types(_BRACKETS[: _bracket(id)])]}

    def between(self, low: Any, high: Any) -> Document:
        """The documents behind `low` and up to `high`; of one type a range that the index of `_id` has as one."""
        at, end = _bracket(low), _bracket(high)
        if at == end:
            bound = {"$ne": low} if _is_nan(low) else {"$gt": low}
            return {"_id": {**bound, "$lte": high}}
        return {"$or": [*_behind(low), *_of_types(_BRACKETS[at + 1 : end]), *_up_to(high)]}

    def collections(self, client: Any) -> dict[str, CollectionFacts]:
        """The collections and views of the database, by name; without those of the server."""
        database = self._database(client)
        infos = database.list_collections()
        return {
            info["name"]: CollectionFacts(
                info["name"],
                str(info.get("type", "collection")),
                {name: value for name, value in (info.get("options") or {}).items() if name != "autoIndexId"},
            )
            for info in infos
            if not info["name"].startswith("system.")
        }

    def indexes(self, client: Any, collection: str) -> dict[str, list[Document]]:
        """The indexes of a collection: their fields as text, and all that the server says but names and versions."""
        found: dict[str, list[Document]] = {}
        for info in self._database(client)[collection].list_indexes():
            fields = ", ".join(f"{field}: {order}" for field, order in info["key"].items())
            options = {name: value for name, value in info.items() if name not in ("key", "name", "v", "ns")}
            found.setdefault(f"({fields})", []).append(options)
        return found

    def unique_keys(self, client: Any, collection: str) -> list[frozenset[str]]:
        """The fields of the unique indexes that hold for every document."""
        return [frozenset(("_id",))] + [
            frozenset(info["key"])
            for info in self._database(client)[collection].list_indexes()
            if info.get("unique") and not info.get("partialFilterExpression")
        ]

    def create(self, client: Any, collection: str, options: Document) -> None:
        """Makes a collection with these options."""
        self._database(client).command({"create": collection, **options})

    def _database(self, client: Any) -> Any:
        return client[database_name(self._engine.settings)]

    def _collection(self, client: Any, name: str, concern: WriteConcern) -> Any:
        """Read at the primary: a secondary that the URL prefers may not have yet what was written."""
        return self._database(client)[name].with_options(
            write_concern=concern, codec_options=ANY_TYPE, read_preference=ReadPreference.PRIMARY
        )


def _encoded(document: Document) -> bytes:
    try:
        return bson.encode(document)
    except (BSONError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def _attempt(write: Callable[[], object]) -> Iterable[tuple[int, int | None, str]]:
    """Makes a write of many documents; returns the place, the code and the reason of each that was refused.

    Raises PartlyDone where a server could not take one for its own reasons, which a mongos tells per document.
    """
    try:
        write()
    except ExecutionTimeout as error:
        raise PartlyDone(str(error)) from error
    except BulkWriteError as error:
        details: Mapping[str, Any] = error.details or {}
        if concerns := details.get("writeConcernErrors"):
            raise WriteConcernError(str(concerns[0].get("errmsg")), concerns[0].get("code")) from error
        refusals = details.get("writeErrors") or ()
        for one in refusals:
            if not is_about_document(one.get("code")):
                raise PartlyDone(" ".join(str(one.get("errmsg")).split())) from error
        return [(one["index"], one.get("code"), " ".join(str(one.get("errmsg")).split())) for one in refusals]
    return []


def _replacement(document: OutgoingDocument, key: Sequence[str]) -> ReplaceOne[Any]:
    fields = bson.decode(document.raw, ANY_TYPE)
    filter: dict[str, Any] = {name: {"$eq": _value(fields, name)} for name in key}
    # An array that has the value among others is another key: the upsert then fails with a duplicate.
    for path in (path for name in key if name != "_id" for path in _paths(name)):
        filter[f"{path}.0"] = {"$exists": False}
    if not document.has_own_id and "_id" not in key:
        del fields["_id"]
    try:
        return ReplaceOne(filter, fields, upsert=True)
    except ValueError as error:
        raise ValueError(f"is there already and cannot be replaced: {error}") from error


def _value(document: Document, path: str) -> Any:
    """The value at a path such as `address.city`; a list where there is none."""
    value: Any = document
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return []
        value = value[name]
    return value


def _paths(path: str) -> Iterator[str]:
    """A path and those that lead to it."""
    return accumulate(path.split("."), lambda above, name: f"{above}.{name}")


def _bracket(id: Any) -> int:
    """The place of a type in the order. Raises KataxError for one without a known place."""
    kind = type(id)
    if kind is Code:
        return _NAMES.index("javascript" if id.scope is None else "javascriptWithScope")
    exact = next((at for at, (_, types) in enumerate(_BRACKETS) if kind in types), None)
    if exact is None:
        exact = next((at for at, (_, types) in enumerate(_BRACKETS) if isinstance(id, types)), None)
    if exact is None:
        raise KataxError(f"an _id of the type {kind.__name__} has no known place in the order; leave it out")
    return exact


def _behind(id: Any) -> list[Document]:
    """The values of its own type behind `id`."""
    if _BRACKETS[_bracket(id)][0] in _OF_ONE_VALUE:
        return []
    # NaN comes before all numbers, and compares with none of them.
    return [{"_id": {"$type": "number", "$ne": id}}] if _is_nan(id) else [{"_id": {"$gt": id}}]


def _up_to(id: Any) -> list[Document]:
    """The values of its own type up to `id`."""
    name = _BRACKETS[_bracket(id)][0]
    if _is_nan(id) or name in _OF_ONE_VALUE:
        return [{"_id": {"$eq": id}}]
    nan: list[Document] = [{"_id": {"$eq": float("nan")}}] if name == "number" else []
    return [*nan, {"_id": {"$lte": id}}]


def _of_types(brackets: Sequence[tuple[str, tuple[type, ...]]]) -> list[Document]:
    return [{"_id": {"$type": name}} for name, _ in brackets]


def _is_nan(id: Any) -> bool:
    return (isinstance(id, float) and id != id) or (isinstance(id, Decimal128) and id.to_decimal().is_nan())


create = DocumentTransfer
