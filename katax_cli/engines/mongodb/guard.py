"""The commands allowed on a read-only connection. MongoDB has no read-only session, so the lists are ours."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from katax_cli.engines.refusals import not_known_to_read

READS = frozenset(
    """
    balancerStatus buildInfo buildinfo collStats connPoolStats connectionStatus count currentOp dataSize dbHash
    dbStats dbstats distinct features find getCmdLineOpts getDefaultRWConcern getLog getMore getParameter
    getShardMap hello hostInfo isMaster isdbgrid ismaster killCursors listCollections listCommands
    listDatabases listIndexes listShards lockInfo ping replSetGetConfig replSetGetStatus rolesInfo
    serverStatus top usersInfo whatsmyuri
    """.split()  # noqa: SIM905
)
# https://www.mongodb.com/docs/manual/reference/operator/aggregation-pipeline/
READING_STAGES = frozenset(
    """
    $addFields $bucket $bucketAuto $changeStream $changeStreamSplitLargeEvent $collStats $count $currentOp
    $densify $documents $facet $fill $geoNear $graphLookup $group $indexStats $limit $listLocalSessions
    $listSampledQueries $listSearchIndexes $listSessions $lookup $match $planCacheStats $project $queryStats
    $rankFusion $redact $replaceRoot $replaceWith $sample $scoreFusion $search $searchMeta $set
    $setWindowFields $shardedDataDistribution $skip $sort $sortByCount $unionWith $unset $unwind
    $vectorSearch
    """.split()  # noqa: SIM905
)
_WRITING_STAGES = ("$out", "$merge")
# Programs that the server runs: their effect is not known beforehand.
_PROGRAMS = ("$function", "$accumulator", "$where")


def check(spec: Mapping[str, Any], connection: str) -> None:
    """Raises Refused before anything is sent unless the command is known to change nothing."""
    objection = _objection(spec, (*_WRITING_STAGES, *_PROGRAMS))
    if objection is not None:
        raise not_known_to_read(connection, objection)


def may_write(spec: Mapping[str, Any]) -> bool:
    """True unless the command is known to change nothing; whatever its programs do, MongoDB lets none of them write."""
    return _objection(spec, _WRITING_STAGES) is not None


def _objection(spec: Mapping[str, Any], forbidden: Sequence[str]) -> str | None:
    """The command, and what in it may write; None for one that is known to only read."""
    while next(iter(spec), None) == "explain" and isinstance(spec["explain"], Mapping):
        spec = spec["explain"]
    name = next(iter(spec), "an empty command")
    word = first_key(spec, forbidden)
    if word is not None:
        return f"{name} with {word}"
    if name in READS or _READS_IF.get(name, _never)(spec):
        return None
    stage = _unknown_stage(spec.get("pipeline")) if name == "aggregate" else None
    return f"{name} with {stage}" if stage else str(name)


def _never(spec: Mapping[str, Any]) -> bool:
    return False


def _aggregates(spec: Mapping[str, Any]) -> bool:
    return _unknown_stage(spec.get("pipeline")) is None


def _asks_for_profile(spec: Mapping[str, Any]) -> bool:
    level = next(iter(spec.values()))
    return level == -1 and not spec.keys() & {"slowms", "sampleRate", "filter"}


# Commands whose arguments decide.
_READS_IF: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "aggregate": _aggregates,
    "profile": _asks_for_profile,
}


def first_key(value: object, wanted: Sequence[str]) -> str | None:
    """The first key that is one of these (in lower case), at any depth and however it is written.

    A field or a literal of that name is taken for one too: refused once too often rather than never.
    """
    return next((str(key) for key in _keys(value) if _folded(key) in wanted), None)


def _folded(key: object) -> str:
    return "".join(str(key).split()).casefold()


def _keys(value: object) -> Iterator[object]:
    """The keys of all documents in a value, the outermost first; without a call for each level."""
    waiting = deque([value])
    while waiting:
        inner = waiting.popleft()
        if isinstance(inner, Mapping):
            yield from inner
            waiting += inner.values()
        elif isinstance(inner, list | tuple):
            waiting += inner


def _unknown_stage(pipeline: object) -> str | None:
    """The first stage, of the pipeline or of one nested in it, that is not known to only read."""
    waiting = deque([pipeline])
    while waiting:
        inner = waiting.popleft()
        if not isinstance(inner, list | tuple):
            return "no pipeline"
        for stage in inner:
            if not isinstance(stage, Mapping) or len(stage) != 1:
                return "a stage of no known form"
            ((name, argument),) = stage.items()
            if name not in READING_STAGES:
                return str(name)
            waiting += _nested(str(name), argument)
    return None


def _nested(stage: str, argument: object) -> list[object]:
    """The pipelines in a stage."""
    if not isinstance(argument, Mapping):
        return []
    if stage == "$facet":
        return list(argument.values())
    if stage in ("$lookup", "$unionWith"):
        return [argument["pipeline"]] if "pipeline" in argument else []
    if stage in ("$rankFusion", "$scoreFusion"):
        source = argument.get("input")
        pipelines = source.get("pipelines") if isinstance(source, Mapping) else None
        return list(pipelines.values()) if isinstance(pipelines, Mapping) else []
    return []
