"""A place that a restore fills before it gets the name that was asked for, and the names of those it replaces."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Protocol

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.restores import DumpHead
from katax_cli.services.backup.folder import moment

Tell = Callable[[str], object]
LONGEST_NAME = 63
"""Bytes of the name of a database, on every server that has names for them."""
OLD = "_katax_old_"
"""Stands in the names of databases whose place a restored one took, before the moment of that."""
MARKER = "katax_unfinished_restore"
"""The table in a database that is not whole yet, on servers that rename none."""


class RestoreTarget(Protocol):
    """A place that a dump is restored to. Nothing is changed before `make`."""

    target: str
    """The name that was asked for."""
    settings: ConnectionSettings
    """The database that is filled."""

    def refuse(self, *, swap: bool) -> bool:
        """Raises Refused when the target has data and is not to be swapped, ConfigError where none can be.

        True when it will take the place of one that is there.
        """
        ...

    def make(self, head: DumpHead | None) -> None:
        """Makes the empty database; removes those of killed restores."""
        ...

    def publish(self, note_kept: Callable[[str], object]) -> str | None:
        """Gives it the name that was asked for; returns the name under which the old one is kept, if there was one, of
        which `note_kept` is told before."""
        ...

    def discard(self) -> None:
        """Drops it, if it was made. Raises BackupError that names what could not be dropped."""
        ...


def kept_name(target: str) -> str:
    """The name under which a database is kept whose place another one takes now."""
    end = f"{OLD}{moment()}"
    name = f"{target}{end}"
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = sha256(target.encode()).hexdigest()[:8]
    room = LONGEST_NAME - len(f"_{digest}{end}")
    return f"{target.encode()[:room].decode(errors='ignore')}_{digest}{end}"
