"""Abilities of an engine in modules of their own beside it; `registry.part` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from katax_cli.engines.base import Row, SqlEngine

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
