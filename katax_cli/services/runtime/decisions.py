"""Decisions of operators about connections, and the host's copy of them, which single commands read.

The copy is one small file beside the state database. Reading it needs no connection and no engine; missing or
unreadable, no calls are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.profiles.sources.home import CIRCUITS

CircuitAction = Literal["trip", "reset", "disable"]

_ACTIONS: tuple[str, ...] = get_args(CircuitAction)
_LARGEST = 1_000_000


class OperatorDecision(NamedTuple):
    """An operator's decision about one connection; times are seconds since the epoch."""

    id: str
    connection: str
    action: CircuitAction
    decided_at: float
    ends_at: float | None = None
    reason: str | None = None
    decided_by: str | None = None

    def keeps_off(self, now: float) -> bool:
        """True while calls to the server are refused."""
        return self.action == "trip" and (self.ends_at is None or self.ends_at > now)

    @property
    def sentence(self) -> str:
        """The operator who refuses calls, until when and why."""
        until = f"until {_moment(self.ends_at)}" if self.ends_at is not None else "until it is reset"
        why = f": {self.reason}" if self.reason else ""
        return f"tripped by {self.decided_by or 'an operator'} {until}{why}"


def newest(*sources: Iterable[OperatorDecision]) -> dict[str, OperatorDecision]:
    """The last word about each connection, whichever source has it."""
    newest_of: dict[str, OperatorDecision] = {}
    for decision in sorted((one for source in sources for one in source), key=lambda one: one.decided_at):
        newest_of[decision.connection] = decision
    return newest_of


@dataclass(frozen=True, slots=True)
class HostCopy:
    """This host's copy of the decisions of one profile, whose `.katax` folder is `home`."""

    home: str
    profile: str
    clock: Clock = SYSTEM

    def decisions(self) -> dict[str, OperatorDecision]:
        """The decisions that this host knows of; none when there is no copy that can be read. Never raises."""
        table = _read(os.path.join(self.home, CIRCUITS)).get(self.profile)
        entries = table if isinstance(table, list) else []
        return newest(decision for entry in entries if (decision := _decision(entry)) is not None)

    def refusal(self, connection: str) -> OperatorDecision | None:
        """The decision that refuses calls to this connection now, as far as this host knows."""
        decision = self.decisions().get(connection)
        return decision if decision is not None and decision.keeps_off(self.clock.now()) else None

    def write(self, decisions: Iterable[OperatorDecision]) -> None:
        """Replaces this profile's part of the copy, at once or not at all. Raises OSError."""
        from katax_cli.core.text.text import to_json

        path = os.path.join(self.home, CIRCUITS)
        table = _read(path)
        table[self.profile] = [decision._asdict() for decision in decisions]
        part = f"{path}.{os.getpid()}"
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(to_json(table) + "\n")
        os.replace(part, path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time, so that the last one writes what all of them decided."""
        import fcntl

        path = os.path.join(self.home, f".{CIRCUITS}.lock")
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _read(path: str) -> dict[str, Any]:
    try:
        seen = os.stat(path)
        # What others could have written keeps nobody off.
        if seen.st_uid not in (0, os.getuid()) or seen.st_mode & 0o022 or seen.st_size > _LARGEST:
            return {}
        import json

        with open(path, encoding="utf-8") as file:
            table = json.load(file)
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _decision(entry: Any) -> OperatorDecision | None:
    try:
        decision = OperatorDecision(**entry)
    except TypeError:  # written by another version
        return None
    times = (decision.decided_at, decision.ends_at or 0.0)
    known = decision.action in _ACTIONS and all(isinstance(time, int | float) for time in times)
    return decision if known and isinstance(decision.connection, str) else None


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
