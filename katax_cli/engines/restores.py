"""The part of an engine in a restore: its own program, and what its server does with whole databases. Made by
`create(engine)` of the engine's module `restore`. See base."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from katax_cli.core.settings import ConnectionSettings


class DumpPart(NamedTuple):
    """A part of a dump that only some roles can restore, and only where the roles that it names are there.

    `acts_for` are those that the session must be able to act for. The part is left out by an `option` of the tool or by
    the `kind` of its entries; `finish` is what of it is of the database itself, with {name} for its name.
    """

    what: str
    names: frozenset[str]
    acts_for: frozenset[str] = frozenset()
    option: str | None = None
    kind: str | None = None
    finish: tuple[str, ...] = ()


class DumpHead(NamedTuple):
    """The words of a dump on its database: the statements that make it, with {name} for its name, and finish it."""

    create: str
    finish: tuple[str, ...]
    parts: tuple[DumpPart, ...]


@runtime_checkable
class RestoresByProgram(Protocol):
    """Restores by the engine's own program."""

    names: tuple[str, ...]
    """The names that the program has; the first that is there is taken."""
    package: str
    """The package that brings it, by system."""
    grants: Mapping[str, str]
    """The grant that is missing, by a part of the program's message."""
    hindered: re.Pattern[str]
    """Found in the program's messages when the server or its machine is at fault, and not the dump."""

    def words(self, dump: str, *, jobs: int, options: Iterable[str] = ()) -> tuple[str, ...]:
        """Its words, but for those that say where the server is and who asks. `dump` is the path of the dump, unless
        it is read from stdin."""
        ...


def grant_hint(said: str, restores: RestoresByProgram) -> str:
    """The grant that is missing, for the end of a message; empty when it is none that is known."""
    return next((f"; {grant}" for sign, grant in restores.grants.items() if sign in said), "")


class ReadsDumpStream(RestoresByProgram, Protocol):
    """Its program reads the dump from stdin."""

    def into(self, source: str, target: str) -> tuple[str, ...]:
        """The words that lead it into another database than the dump came from."""
        ...

    def addressed(self, chunks: Iterator[bytes], *, source: str, target: str) -> Iterator[bytes]:
        """The dump, in which nothing names the database that it came from."""
        ...


@runtime_checkable
class HoldsBack(Protocol):
    """Knows the things in a restored database that would act by themselves: they rest until it is whole, in a drill
    for good."""

    def let_go(self, connection: Any) -> list[str]:
        """Lets them act as they did; returns a line for each that goes on resting."""
        ...


class ReadsDumpHead(RestoresByProgram, Protocol):
    """Its dump says how the database itself was made."""

    def head_words(self, dump: str) -> tuple[str, ...]:
        """The words of the program that print it; of which entries is said beside."""
        ...

    def head(self, printed: str) -> DumpHead: ...

    def english(self, connection: Any, settings: ConnectionSettings) -> ConnectionSettings:
        """Settings of sessions in which the server's messages are those that `hindered` knows; the same where this role
        may not say so."""
        ...

    def is_english(self, connection: Any) -> bool:
        """True when they are in this session."""
        ...

    def roles(self, connection: Any) -> frozenset[str] | None:
        """The roles that this session may act for; None: for all that there are."""
        ...

    def known_roles(self, connection: Any) -> frozenset[str]: ...

    def partitioned(self, connection: Any) -> Mapping[str, str]:
        """The partitioned table of each partition, as manifests name them."""
        ...

    def policed(self, connection: Any) -> list[str]:
        """Tables of which row-level security may hide rows from this role."""
        ...


@runtime_checkable
class ListsRelations(Protocol):
    """Knows more tables with rows than those that are shown to people."""

    def relations(self, connection: Any, names: Collection[str]) -> list[tuple[str, str]]:
        """Tables that hold rows, as manifests name them, and what follows FROM in SQL to select those of a dump."""
        ...


@runtime_checkable
class RenamesDatabases(Protocol):
    """Gives databases other names, all of them at once or none."""

    def rename(self, connection: Any, names: Mapping[str, str]) -> None:
        """Old names → new ones, in order. Waits a few seconds for the sessions of others to end, and raises the
        driver's error when they do not. New sessions wait meanwhile."""
        ...

    def prepared(self, connection: Any, database: str) -> list[str]:
        """The prepared transactions of a database, which no end of a session ends: it keeps its name with them."""
        ...

    def end_sessions(self, connection: Any, database: str) -> list[str]:
        """Tells the sessions on a database to end; returns one line for each. Raises the driver's error when this
        role may not end one."""
        ...


class Space(NamedTuple):
    """Bytes that are free where the server keeps its data (None: this user cannot see it), and that a database has
    now (0: there is none)."""

    free_bytes: int | None
    used_bytes: int


def free_bytes(folder: str) -> int | None:
    """The bytes that are free for others than root where the folder is; None when there is none here."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


class IdentifiesServer(Protocol):
    """Knows which server it is, and how much room it has."""

    def server_id(self, connection: Any) -> str:
        """As manifests of backups have it."""
        ...

    def space(self, connection: Any, database: str) -> Space: ...
