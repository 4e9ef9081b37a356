"""Names that a server knows, for completion: from a cache that a process of its own fills.

A TAB waits for that process for a fifth of a second at most and shows what is there; the next one finds the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from katax_cli.cli.completion.line import TypedLine, profile_of
from katax_cli.cli.shell.target import REDIS, TABLES
from katax_cli.core.clock import SYSTEM
from katax_cli.core.text.text import to_bytes

if TYPE_CHECKING:
    from katax_cli.core.settings import ConnectionSettings
    from katax_cli.profiles.model.model import Profile

MOST = 500
"""Names of one kind that are kept."""
_FRESH_SECONDS = 10.0
_WAIT_SECONDS = 0.2
_ASKING_SECONDS = 3.0
_KEPT_SECONDS = 86_400.0


def ask_in_time(line: TypedLine, kind: str) -> list[str]:
    """The names of a kind as they were last seen, or are within a fifth of a second."""
    profile = profile_of(line)
    settings = None if kind == "jobs" else _settings(line, profile, kind)
    if settings is not None and not _may_ask(settings):
        return []
    question = _Question(profile, settings, kind, _about(line, kind))
    file = question.file()
    if _age(file) > _FRESH_SECONDS:
        _fill(file, question)
    try:
        with open(file, encoding="utf-8") as text:
            return text.read().splitlines()
    except FileNotFoundError:
        return []


class _Question(NamedTuple):
    """The names of one kind that a server, or without settings the table of jobs, is asked for."""

    profile: Profile
    settings: ConnectionSettings | None
    kind: str
    about: str

    def file(self) -> str:
        """The file that keeps the answer."""
        from hashlib import blake2b

        profile, settings = self.profile, self.settings
        place = (
            (settings.address, settings.database, settings.user, settings.prefix)
            if settings
            else profile.home
        )
        key = to_bytes(repr((profile.folder, profile.name, place, self.kind, self.about)))
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        return os.path.join(base, "katax", "completion", blake2b(key, digest_size=16).hexdigest())

    def names(self) -> Iterator[str]:
        """Asks."""
        from katax_cli.core.resilience.deadline import Deadline
        from katax_cli.services.runtime.runtime import Runtime

        if self.settings is None:
            from katax_cli.services.cron.manage import Cron

            with Cron(self.profile) as jobs:
                yield from [job.name for job in jobs.jobs()]
            return
        with Runtime(self.profile, deadline=Deadline(_ASKING_SECONDS), one_shot=True) as runtime:
            if self.kind == "keys":
                from katax_cli.services.redis.keyspace import Keyspace

                redis = runtime.redis(self.settings)
                yield from Keyspace(redis, self.settings.prefix).beginning_with(self.about)
            elif self.kind == "tables":
                yield from (table.name for table in runtime.tabular(self.settings).tables())
            else:
                described = runtime.tabular(self.settings).describe(self.about)
                ending = "=" if self.kind == "assignments" else ""
                yield from (column.name + ending for column in (described.columns if described else ()))


def _settings(line: TypedLine, profile: Profile, kind: str) -> ConnectionSettings:
    from katax_cli.profiles.sources.by_url import is_url, name_by_url

    target = REDIS if kind == "keys" else TABLES
    word = line.value_of("-c", "--connection")
    if word is None:
        return profile.default_connection(target.types, target.preferred)
    return profile.match(name_by_url(word) if is_url(word) else word)[0]


def _may_ask(settings: ConnectionSettings) -> bool:
    """False where asking would do more than ask: start a server, make a file, run a program for its password."""
    if settings.embedded or (settings.path is not None and not os.path.exists(settings.path)):
        return False
    return settings.password is None or settings.password.known is not None


def _about(line: TypedLine, kind: str) -> str:
    """The rest that the names depend on: the table of columns, the beginning of keys up to its last `:`."""
    if kind == "keys":
        return line.current[: line.current.rfind(":") + 1]
    return line.plain[2] if kind in ("columns", "assignments") and len(line.plain) > 2 else ""


def _age(file: str) -> float:
    try:
        return SYSTEM.now() - os.stat(file).st_mtime
    except FileNotFoundError:
        return float("inf")


def _fill(file: str, question: _Question) -> None:
    """Has a process of its own ask the server, one at a time for each file, and waits a little for it."""
    os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
    asking = f"{file}.asking"
    if _age(asking) < _ASKING_SECONDS * 2:
        return
    with open(asking, "w", encoding="utf-8"):
        os.utime(asking)
    before = _age(file)
    if os.fork() == 0:
        _in_child(file, asking, question)
    ends = SYSTEM.monotonic() + _WAIT_SECONDS
    while SYSTEM.monotonic() < ends and os.path.exists(asking) and _age(file) >= before:
        SYSTEM.sleep(0.005)


def _in_child(file: str, asking: str, question: _Question) -> None:
    """Asks and never returns. The shell waits for every holder of its pipe, so none is kept."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        names = list(islice(question.names(), MOST))
        with open(f"{asking}.new", "w", encoding="utf-8", opener=_private) as text:
            text.write("".join(f"{name}\n" for name in names if name.isprintable()))
        os.replace(f"{asking}.new", file)
        _forget_old(os.path.dirname(file))
    finally:
        with suppress(OSError):
            os.unlink(asking)
        os._exit(0)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _forget_old(folder: str) -> None:
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if _age(path) > _KEPT_SECONDS:
            os.unlink(path)
