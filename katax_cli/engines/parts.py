"""Abilities of an engine in modules of their own beside it; `registry.part` makes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from katax_cli.engines.base import Row, SlowQuery, SqlEngine

E = TypeVar("E")


class EnginePart(Generic[E]):
    """An ability of one engine."""

    def __init__(self, engine: E) -> None:
        self._engine = engine


class SqlPart(EnginePart[SqlEngine]):
    """An ability that asks by SQL."""

    def _rows(
        self, connection: Any, sql: str, timeout: float | None, params: Sequence[object] = ()
    ) -> list[Row]:
        return self._engine.execute(connection, sql, params, timeout).rows


def slow_queries(runs: Iterable[tuple[str, float, datetime]]) -> list[SlowQuery]:
    """One for each text, from the runs of statements: the text without values, milliseconds, and when it ran."""
    by_text: dict[str, list[tuple[float, datetime]]] = {}
    for text, took, at in runs:
        by_text.setdefault(text, []).append((took, at))
    return [_summary(text, runs) for text, runs in by_text.items()]


def _summary(text: str, runs: Sequence[tuple[float, datetime]]) -> SlowQuery:
    times = [took for took, _ in runs]
    total, longest = round(sum(times), 3), round(max(times), 3)
    last = max(at for _, at in runs)
    return SlowQuery(text, len(runs), round(sum(times) / len(runs), 3), longest, total, last)
