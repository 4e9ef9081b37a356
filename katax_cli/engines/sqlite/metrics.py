"""The size of a SQLite file. SQLite counts no statements and remembers none."""

from __future__ import annotations

from collections.abc import Mapping

from katax_cli.engines.base import SqlEngine
from katax_cli.engines.sqlite.session import SqliteSession

_FACTS = r"""
SELECT page_count * page_size,
    (SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\')
FROM pragma_page_count, pragma_page_size"""


class Metrics:
    """ReportsMetrics."""

    def __init__(self, engine: SqlEngine) -> None:
        self._engine = engine

    def metrics(self, connection: SqliteSession, timeout: float | None = None) -> Mapping[str, object]:
        """A file has no connections but this one, and no limit to their number."""
        [(size, tables)] = self._engine.execute(connection, _FACTS, None, timeout).rows
        return {
            "connections": {"active": 1, "idle": 0, "total": 1, "max": None},
            "queries": {"count": None, "avg_ms": None},
            "size_bytes": size,
            "tables": tables,
        }


def create(engine: SqlEngine) -> Metrics:
    """The metrics of one file."""
    return Metrics(engine)
