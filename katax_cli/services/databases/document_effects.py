"""The harm that a MongoDB command can do, by its words: what loses data that it does not name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from katax_cli.engines.documents import Document, Pipeline
from katax_cli.services.databases.builder.filters import holds_for_all

_ORDINARY = frozenset(
    """
    insert update delete findandmodify create createindexes aggregate bulkwrite find count distinct explain
    mapreduce getmore killcursors starttransaction committransaction aborttransaction startsession endsessions
    refreshsessions
    """.split()  # noqa: SIM905
)
_CHANGES = frozenset({"update", "delete", "findandmodify", "bulkwrite", "mapreduce"})


def destructive_reason(spec: Document) -> str | None:
    """The reason why a command loses data that it does not name; None when it does not."""
    name = next(iter(spec), "")
    reason = _REASONS.get(name.lower())
    return None if reason is None else reason(spec, str(spec[name]))


def is_ordinary(spec: Document) -> bool:
    """True for commands of programs; any other that does not only read changes the server or what others may do."""
    return next(iter(spec), "").lower() in _ORDINARY


def changes_documents(spec: Document) -> bool:
    """True for a command that changes documents which are there, other than by replacing a whole collection."""
    name, pipeline = next(iter(spec), "").lower(), spec.get("pipeline")
    return name in _CHANGES or (
        name == "aggregate" and isinstance(pipeline, list) and written_by(pipeline) is not None
    )


def redacted(spec: Document) -> str:
    """The command, its collection and the names of its options: `find users {filter, limit}`."""
    name, *options = spec or {"": None}
    target = spec.get(name)
    words = [name, *([target] if isinstance(target, str) else [])]
    return " ".join([*words, *([f"{{{', '.join(options)}}}"] if options else [])])


def written_by(pipeline: Pipeline) -> tuple[str, str] | None:
    """The last stage that stores its documents, `$out` or `$merge`, and the collection; None for a mere question."""
    last = pipeline[-1] if pipeline and isinstance(pipeline[-1], Mapping) else {}
    for stage, into in (("$out", "coll"), ("$merge", "into")):
        if stage in last:
            target = last[stage]
            while isinstance(target, Mapping):
                target = target.get(into, target.get("coll", ""))
                into = "coll"
            return stage, str(target)
    return None


def _drops(what: str) -> Callable[[Document, str], str]:
    return lambda _, name: f"{what} {name!r}"


def _drops_database(spec: Document, _: str) -> str:
    return "dropping the database"


def _renames(spec: Document, name: str) -> str | None:
    return f"replacing collection {str(spec.get('to'))!r}" if spec.get("dropTarget") else None


def _deletes(spec: Document, name: str) -> str | None:
    every = any(not one.get("limit") and holds_for_all(_filter(one, "q")) for one in _parts(spec, "deletes"))
    return f"deleting every document of {name!r}" if every else None


def _updates(spec: Document, name: str) -> str | None:
    every = any(one.get("multi") and holds_for_all(_filter(one, "q")) for one in _parts(spec, "updates"))
    return f"changing every document of {name!r}" if every else None


def _bulk_writes(spec: Document, _: str) -> str | None:
    for operation in _parts(spec, "ops"):
        for verb, doing in (("delete", "deleting"), ("update", "changing")):
            if verb in operation and operation.get("multi") and holds_for_all(_filter(operation, "filter")):
                return f"{doing} every document of a collection"
    return None


def _aggregates(spec: Document, _: str) -> str | None:
    pipeline = spec.get("pipeline")
    written = written_by(pipeline) if isinstance(pipeline, list | tuple) else None
    return f"replacing collection {written[1]!r}" if written and written[0] == "$out" else None


def _reduces(spec: Document, _: str) -> str | None:
    out = spec.get("out")
    target = out.get("replace") if isinstance(out, Mapping) else out
    return f"replacing collection {str(target)!r}" if target is not None else None


def _expires(spec: Document, name: str) -> str | None:
    indexes = [*_parts(spec, "indexes"), *([spec["index"]] if isinstance(spec.get("index"), Mapping) else [])]
    expiring = "expireAfterSeconds" in spec or any("expireAfterSeconds" in index for index in indexes)
    return f"letting documents of {name!r} expire" if expiring else None


def _applies(spec: Document, _: str) -> str:
    return "applying entries of an oplog"


_REASONS: Mapping[str, Callable[[Document, str], str | None]] = {
    "drop": _drops("dropping collection"),
    "dropdatabase": _drops_database,
    "dropindexes": _drops("dropping indexes of"),
    "deleteindexes": _drops("dropping indexes of"),
    "converttocapped": _drops("cutting down collection"),
    "renamecollection": _renames,
    "delete": _deletes,
    "update": _updates,
    "bulkwrite": _bulk_writes,
    "aggregate": _aggregates,
    "mapreduce": _reduces,
    "createindexes": _expires,
    "collmod": _expires,
    "applyops": _applies,
}


def _parts(spec: Document, name: str) -> Sequence[Document]:
    parts = spec.get(name)
    return [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list | tuple) else []


def _filter(part: Document, name: str) -> Mapping[str, Any]:
    value = part.get(name)
    return value if isinstance(value, Mapping) else {}
