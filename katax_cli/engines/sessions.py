"""The questions of `shutdown-test` to an engine: sessions, and objects left behind. See base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

OF_TRANSACTIONS, OF_LOCKS = "transactions of sessions", "locks of sessions"
"""What `ServerLook.untold` has when sessions are shown without these."""


class ServerSession(NamedTuple):
    """A session as its server sees it. `id` is never used again; `name` is the application's or client's.

    `port` is the client's TCP port, None for a local socket; `doing` the first word of its statement; `busy` is
    true while one runs; `work` is what `fates` takes: the transaction that it writes in.
    """

    id: str
    name: str
    port: int | None
    doing: str = ""
    busy: bool = False
    in_transaction: bool = False
    locks: tuple[str, ...] = ()
    work: str | None = None


class Orphan(NamedTuple):
    """An object on a server without a session: a prepared transaction, a key that is temporary by its name."""

    kind: Literal["transaction", "key"]
    name: str


class ServerLook(NamedTuple):
    """The state of a server now; `dropped` counts sessions that were abandoned (None: not counted).

    `untold` names the checks that this server, or this user on it, cannot answer; `hidden` counts sessions of which
    it shows this user no more than that they are there.
    """

    sessions: tuple[ServerSession, ...]
    orphans: frozenset[Orphan] = frozenset()
    dropped: int | None = None
    untold: frozenset[str] = frozenset()
    hidden: int = 0


class ListsSessions(Protocol):
    """Lists sessions and the locks they hold; made by `create(engine)` of the engine's module `sessions`."""

    def look(self, connection: Any, timeout: float | None = None) -> ServerLook: ...


@runtime_checkable
class TracesWork(Protocol):
    """Knows later what became of a transaction; part of the module `sessions` where there is such a thing.

    `why_unknown` is said of those whose end the server does not know.
    """

    why_unknown: str

    def fates(self, connection: Any, works: Sequence[str], timeout: float | None = None) -> Mapping[str, str]:
        """`work` → committed, aborted, in progress; what the server does not know is missing."""
        ...
