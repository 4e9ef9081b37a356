"""Statements that recur are prepared on the server: parsed once, and planned once when that pays.

psycopg's `prepare_threshold` does so for its own cursors alone, and raises once a table has changed.
"""

from __future__ import annotations

from collections import OrderedDict

import psycopg

_USES = 5
_KEPT = 100
# Where the server finds out that a prepared statement is gone, or that its table has changed: before running it.
_OUTDATED = frozenset({"FetchPreparedStatement", "RevalidateCachedQuery"})

StatementKey = tuple[bytes, tuple[int, ...] | None]


class Prepared:
    """The prepared statements of a session, and the counts of those seen before they are prepared."""

    def __init__(self) -> None:
        self._uses: OrderedDict[StatementKey, int] = OrderedDict()
        self._names: OrderedDict[StatementKey, bytes] = OrderedDict()
        self._made = 0

    def name(self, key: StatementKey) -> bytes | None:
        """The server's name of a prepared statement."""
        if key in self._names:
            self._names.move_to_end(key)
        return self._names.get(key)

    def is_due(self, key: StatementKey) -> bool:
        """Counts a use; True when it is the one that pays for preparing."""
        uses = self._uses.pop(key, 0) + 1
        if uses >= _USES:
            return True
        self._uses[key] = uses
        if len(self._uses) > _KEPT:
            self._uses.popitem(last=False)
        return False

    def new_name(self) -> bytes:
        self._made += 1
        return b"katax_%d" % self._made

    def add(self, key: StatementKey, name: bytes) -> None:
        self._names[key] = name

    def surplus(self) -> bytes | None:
        """The name of the one that was not used for longest, when there are too many; forgotten with this."""
        return self._names.popitem(last=False)[1] if len(self._names) > _KEPT else None

    def clear(self) -> None:
        """Forgets them all: they are gone on the server."""
        self._names.clear()
        self._uses.clear()

    @staticmethod
    def outdated(error: psycopg.Error) -> bool:
        """True when the server refused a statement only because it was prepared."""
        return error.diag.source_function in _OUTDATED
