"""The rows that processes report, as values; what another version wrote otherwise is skipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeVar

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.engines.base import SlowQuery
from katax_cli.profiles.model.model import Profile
from katax_cli.services.state.store import Report, StateStore
from katax_cli.snapshot import SlowCall, SocketServer, Traffic

R = TypeVar("R")


def own_slow_queries(
    profile: Profile, connection: str, over_ms: float, *, clock: Clock = SYSTEM
) -> list[SlowQuery]:
    """The slow calls on a connection that living processes of katax report, for each statement, the longest first.

    Each process keeps its last twenty. Makes no file. Raises KataxError when the state database cannot be read.
    """
    with StateStore(profile, clock=clock) as store:
        if not store.exists:
            return []
        names = {process.id: process.label for process in store.processes()}
        calls = reported_rows(store.reports(), names, "slow", slow_call)
    slow = [call for call in calls if call.connection == connection and call.duration_ms >= over_ms]
    statement_of = attrgetter("statement")
    slow.sort(key=statement_of)
    queries = [_summed(statement, list(same)) for statement, same in groupby(slow, statement_of)]
    return sorted(queries, key=lambda query: query.max_ms, reverse=True)


def _summed(statement: str, calls: Sequence[SlowCall]) -> SlowQuery:
    times = [call.duration_ms for call in calls]
    last = datetime.fromtimestamp(max(call.happened_at for call in calls)).astimezone()
    return SlowQuery(
        statement, len(calls), round(sum(times) / len(times), 3), max(times), round(sum(times), 3), last
    )


def reported_rows(
    reports: Sequence[Report],
    names: Mapping[str, str],
    part: str,
    make: Callable[[Mapping[str, Any], str, float], R],
) -> list[R]:
    """The reported rows of a part; skips rows of an unknown shape, and those of a process that came later."""
    found = []
    for report in reports:
        for row in report.rows if report.part == part else ():
            try:
                found.append(make(row, names[report.process], report.reported_at))
            except (KeyError, TypeError):
                continue
    return found


def traffic(row: Mapping[str, Any], process: str, at: float) -> Traffic:
    """Raises KeyError or TypeError for a row that is none; so do the others."""
    return Traffic(
        _text(row["connection"]),
        process,
        _number(row["per_second"]),
        _number(row["p95_ms"]),
        _count(row["slow"]),
        _count(row["failed"]),
        (),
        at,
    )


def slow_call(row: Mapping[str, Any], process: str, _at: float) -> SlowCall:
    return SlowCall(
        _text(row["connection"]),
        process,
        _text(row["statement"]),
        _known(_number(row["duration_ms"])),
        _known(_number(row["happened_at"])),
    )


def socket_server(row: Mapping[str, Any], process: str, at: float) -> SocketServer:
    why = row["trouble"]
    return SocketServer(
        _text(row["name"]),
        process,
        _known(_count(row["clients"])),
        _known(_count(row["rooms"])),
        _number(row["received_per_second"]),
        _number(row["emitted_per_second"]),
        _known(_count(row["refused"])),
        None if why is None else _text(why),
        at,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> float | None:
    if value is not None and not isinstance(value, int | float):
        raise TypeError
    return value


def _count(value: object) -> int | None:
    if value is not None and not isinstance(value, int):
        raise TypeError
    return value


def _known(value: R | None) -> R:
    if value is None:
        raise TypeError
    return value
