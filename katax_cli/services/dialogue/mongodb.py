"""MongoDB calls typed one by one: `db.users.find({…})` becomes a command, its answer documents or one object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any, cast

from katax_cli.core.text.mongo_call import MethodCall, MongoCall
from katax_cli.engines.registry import part
from katax_cli.errors import ConfigError
from katax_cli.services.databases.document_effects import (
    changes_documents,
    destructive_reason,
    is_ordinary,
    redacted,
)
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.dialogue.client import ClientDialogue
from katax_cli.services.dialogue.sql import TransactionState

Document = dict[str, Any]
TakeDocuments = Callable[[Iterable[list[Document]]], object]


@dataclass(frozen=True, slots=True)
class MongoRequest:
    """A call as it is sent: documents `read` by find or aggregate, else one database `command`.

    `loses` says what is lost that the call does not name, `disrupts` what it does to others; both for confirmation.
    """

    collection: str | None = None
    read: str | None = None
    filter: Mapping[str, Any] | None = None
    pipeline: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    command: Mapping[str, Any] = field(default_factory=dict)
    one: bool = False
    loses: str | None = None
    disrupts: str | None = None
    writes: bool = True

    @property
    def spec(self) -> Mapping[str, Any]:
        """The command that it amounts to."""
        if self.read == "aggregate":
            return {"aggregate": self.collection, "pipeline": list(self.pipeline)}
        return {"find": self.collection, "filter": self.filter} if self.read else self.command

    @property
    def redacted(self) -> str:
        """The command, its collection and the names of its options."""
        return redacted(self.spec)

    @property
    def changes(self) -> bool:
        """True when it changes documents that are there, which nothing takes back."""
        return changes_documents(self.spec)


class MongoDialogue(ClientDialogue):
    """Calls on one MongoDB; `seconds` is how long each may take."""

    state: TransactionState = "none"

    def __init__(self, database: MongoDatabase, *, seconds: float | None) -> None:
        super().__init__(database, seconds=seconds)
        self._mongodb = database
        self._json = part(database.engine, "extended_json")

    def request(self, call: MongoCall) -> MongoRequest:
        """The request that a call means. Raises ConfigError for a method that this shell does not have."""
        request = _Requests(self._read).of(call)
        writes = not self._mongodb.engine.only_reads(request.spec)
        name = next(iter(request.spec), "")
        return replace(
            request,
            writes=writes,
            loses=destructive_reason(request.spec),
            disrupts=name if writes and not is_ordinary(request.spec) else None,
        )

    def written(self, value: object) -> str:
        """A value as Extended JSON."""
        return cast("str", self._json.write(value))

    def cell(self, value: object) -> object:
        """A value for a cell of a table."""
        return self._json.cell(value)

    def run(self, request: MongoRequest, take: TakeDocuments) -> Mapping[str, Any] | None:
        """Hands documents to `take`, or returns the server's answer. Raises QueryError for what it refused in part."""
        return self._cancellable(lambda: self._run(request, take), reads=not request.writes)

    def _run(self, request: MongoRequest, take: TakeDocuments) -> Mapping[str, Any] | None:
        database, collection = self._mongodb, request.collection or ""
        if request.read is None:
            answer = database.command(request.command, timeout=self._seconds)
            batch = answer.get("cursor", {}).get("firstBatch")
            if batch is None:
                return {name: value for name, value in answer.items() if name not in _OF_THE_CLUSTER}
            take([batch])
            return None
        with (
            database.find(collection, request.filter, timeout=self._seconds, **request.options)
            if request.read == "find"
            else database.aggregate(collection, request.pipeline, timeout=self._seconds)
        ) as batches:
            take(batches)
        return None

    def close(self) -> bool:
        """Does nothing: no call leaves anything open."""
        return False

    def _read(self, text: str) -> Any:
        try:
            return self._json.read(text)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"not MongoDB's JSON: {error}") from error


_OF_THE_CLUSTER = frozenset({"$clusterTime", "operationTime", "electionId", "opTime"})


class _Requests:
    """Makes requests of calls; `read` reads one argument."""

    def __init__(self, read: Callable[[str], Any]) -> None:
        self._read = read

    def of(self, call: MongoCall) -> MongoRequest:
        first, *rest = call.calls
        table = _OF_DATABASE if call.collection is None else _OF_COLLECTION
        make = table.get(first.name)
        if make is None:
            what = "collection" if call.collection is not None else "database"
            raise ConfigError(f"no method {first.name!r} of a {what}; there are: {', '.join(sorted(table))}")
        arguments = self._arguments(first)
        try:
            signature(make).bind("", *arguments)
        except TypeError as error:
            raise ConfigError(f"{first.name} does not take {len(arguments)} arguments") from error
        request = make(call.collection or "", *arguments)
        return self._chained(request, [one for one in rest if one.name not in ("pretty", "toArray")])

    def _arguments(self, call: MethodCall) -> list[Any]:
        return [self._read(text) for text in call.arguments]

    def _chained(self, request: MongoRequest, calls: Sequence[MethodCall]) -> MongoRequest:
        options = dict(request.options)
        for call in calls:
            arguments = self._arguments(call)
            if request.read != "find" or call.name not in _CHAINED or len(arguments) != 1:
                raise ConfigError(
                    f"no method {call.name!r} with {len(arguments)} arguments here; "
                    f"after find(…) there are: {', '.join(_CHAINED)}"
                )
            name, kind = _CHAINED[call.name]
            value = arguments[0]
            if not isinstance(value, kind):
                raise ConfigError(f"{call.name} takes {_KIND_NAMES[kind]}")
            options[name] = list(value.items()) if name == "sort" else value
        return replace(request, options=options)


_CHAINED: Mapping[str, tuple[str, type[Any]]] = {
    "sort": ("sort", dict),
    "limit": ("limit", int),
    "skip": ("skip", int),
    "projection": ("projection", dict),
}
_KIND_NAMES = {dict: "an object", int: "a number"}


def _objects(*values: Any) -> None:
    for value in values:
        if not isinstance(value, dict):
            raise ConfigError('a filter, a document or options are an object, such as {"name": "Ada"}')


def _find(collection: str, filter: Any = None, projection: Any = None) -> MongoRequest:
    _objects(filter or {}, projection or {})
    options = {"projection": projection} if projection else {}
    return MongoRequest(collection, "find", filter, options=options)


def _find_one(collection: str, filter: Any = None, projection: Any = None) -> MongoRequest:
    found = _find(collection, filter, projection)
    return MongoRequest(collection, "find", filter, options={**found.options, "limit": 1}, one=True)


def _aggregate(collection: str, pipeline: Any, _options: Any = None) -> MongoRequest:
    stages: list[Any] = pipeline if isinstance(pipeline, list) else [pipeline]
    _objects(*stages)
    return MongoRequest(collection, "aggregate", pipeline=stages)


def _count(collection: str, filter: Any = None) -> MongoRequest:
    _objects(filter or {})
    stages: list[Document] = [{"$match": filter or {}}, {"$count": "count"}]
    return MongoRequest(collection, "aggregate", pipeline=stages)


def _command(**spec: Any) -> MongoRequest:
    return MongoRequest(command=spec)


def _insert(collection: str, documents: Any) -> MongoRequest:
    rows = documents if isinstance(documents, list) else [documents]
    _objects(*rows)
    return _command(insert=collection, documents=rows)


def _updater(*, multi: bool) -> Callable[..., MongoRequest]:
    def update(collection: str, filter: Any, change: Any, options: Any = None) -> MongoRequest:
        _objects(filter, options or {})
        if not isinstance(change, list):
            _objects(change)
        one = {"q": filter, "u": change, "multi": multi, **(options or {})}
        return _command(update=collection, updates=[one])

    return update


def _deleter(*, limit: int) -> Callable[..., MongoRequest]:
    def delete(collection: str, filter: Any) -> MongoRequest:
        _objects(filter)
        return _command(delete=collection, deletes=[{"q": filter, "limit": limit}])

    return delete


def _create_index(collection: str, keys: Any, options: Any = None) -> MongoRequest:
    _objects(keys, options or {})
    name = "_".join(f"{field}_{order}" for field, order in keys.items())
    return _command(createIndexes=collection, indexes=[{"key": keys, "name": name, **(options or {})}])


def _run_command(_collection: str, spec: Any) -> MongoRequest:
    _objects(spec)
    return MongoRequest(command=spec)


def _show(_collection: str, what: Any) -> MongoRequest:
    if what == "dbs":
        return _command(listDatabases=1, nameOnly=True)
    return _command(listCollections=1, nameOnly=True)


_OF_COLLECTION: Mapping[str, Callable[..., MongoRequest]] = {
    "find": _find,
    "findOne": _find_one,
    "aggregate": _aggregate,
    "countDocuments": _count,
    "estimatedDocumentCount": lambda name: _command(count=name),
    "distinct": lambda name, field, query=None: _command(distinct=name, key=field, query=query or {}),
    "insertOne": _insert,
    "insertMany": _insert,
    "updateOne": _updater(multi=False),
    "updateMany": _updater(multi=True),
    "replaceOne": _updater(multi=False),
    "deleteOne": _deleter(limit=1),
    "deleteMany": _deleter(limit=0),
    "createIndex": _create_index,
    "getIndexes": lambda name: _command(listIndexes=name),
    "dropIndex": lambda name, index: _command(dropIndexes=name, index=index),
    "stats": lambda name: _command(collStats=name),
    "drop": lambda name: _command(drop=name),
}
_OF_DATABASE: Mapping[str, Callable[..., MongoRequest]] = {
    "runCommand": _run_command,
    "createCollection": lambda _, name: _command(create=name),
    "getCollectionNames": lambda _: _show("", "collections"),
    "dropDatabase": lambda _: _command(dropDatabase=1),
    "stats": lambda _: _command(dbStats=1),
    "show": _show,
}
METHODS: tuple[str, ...] = tuple(sorted({*_OF_COLLECTION, *_OF_DATABASE} - {"show"}))
"""The names of all methods, for completion."""
