"""The commands allowed on a read-only connection. MongoDB has no read-only session, so the list is ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from katax_cli.engines.refusals import not_known_to_read
from katax_cli.errors import Refused

READS = frozenset(
    """
    balancerStatus buildInfo buildinfo collStats connPoolStats connectionStatus count currentOp dataSize dbHash
    dbStats dbstats distinct features find getCmdLineOpts getDefaultRWConcern getLog getMore getParameter
    getShardMap hello hostInfo isMaster isdbgrid ismaster killCursors listCollections listCommands
    listDatabases listIndexes listShards lockInfo ping replSetGetConfig replSetGetStatus rolesInfo
    serverStatus top usersInfo whatsmyuri
    """.split()  # noqa: SIM905
)
_WRITING_STAGES = frozenset({"$out", "$merge"})


def check(spec: Mapping[str, Any], connection: str) -> None:
    """Raises Refused before anything is sent unless the command is known to change nothing."""
    name = next(iter(spec), "an empty command")
    if name not in READS and not _READS_IF.get(name, _never)(spec):
        raise not_known_to_read(connection, f"{name}{_stage(spec)}")


def is_read(spec: Mapping[str, Any]) -> bool:
    """True when the command is known to change nothing."""
    try:
        check(spec, "")
    except Refused:
        return False
    return True


def _never(spec: Mapping[str, Any]) -> bool:
    return False


def _aggregates(spec: Mapping[str, Any]) -> bool:
    return _writing_stage(spec) is None


def _explains(spec: Mapping[str, Any]) -> bool:
    inner = spec["explain"]
    return isinstance(inner, Mapping) and is_read(inner)


def _reduces_inline(spec: Mapping[str, Any]) -> bool:
    return isinstance(spec.get("out"), Mapping) and list(spec["out"]) == ["inline"]


def _asks_for_profile(spec: Mapping[str, Any]) -> bool:
    level = next(iter(spec.values()))
    return level == -1 and not spec.keys() & {"slowms", "sampleRate", "filter"}


# Commands whose arguments decide.
_READS_IF: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "aggregate": _aggregates,
    "explain": _explains,
    "mapReduce": _reduces_inline,
    "mapreduce": _reduces_inline,
    "profile": _asks_for_profile,
}


def _writing_stage(value: object) -> str | None:
    """The first stage that writes, at any depth: pipelines nest in $facet, $lookup and $unionWith.

    A field or a literal of that name is taken for a stage too: refused once too often rather than never.
    """
    if isinstance(value, Mapping):
        own = next((str(key) for key in value if key in _WRITING_STAGES), None)
        return own or next(filter(None, map(_writing_stage, value.values())), None)
    if isinstance(value, list | tuple):
        return next(filter(None, map(_writing_stage, value)), None)
    return None


def _stage(spec: Mapping[str, Any]) -> str:
    stage = _writing_stage(spec)
    return f" with {stage}" if stage else ""
