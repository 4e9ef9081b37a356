"""The size of a SQLite file. SQLite counts no statements and remembers none."""

from __future__ import annotations

from collections.abc import Mapping

from katax_cli.engines.parts import SqlPart
from katax_cli.engines.sqlite.session import SqliteSession

_FACTS = r"""
SELECT page_count * page_size,
    (SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\')
FROM pragma_page_count, pragma_page_size"""


class SqliteMetrics(SqlPart):
    """ReportsMetrics."""

    def metrics(self, connection: SqliteSession, timeout: float | None = None) -> Mapping[str, object]:
        """A file has no connections but this one, and no limit to their number."""
        [(size, tables)] = self._rows(connection, _FACTS, timeout)
        return {
            "connections": {"active": 1, "idle": 0, "total": 1, "max": None},
            "queries": {"count": None, "avg_ms": None},
            "size_bytes": size,
            "tables": tables,
        }


create = SqliteMetrics
