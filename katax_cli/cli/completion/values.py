"""Completion of values: what may stand at a place of the line, from files; from servers see `remembered`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from katax_cli.errors import KataxError

if TYPE_CHECKING:
    from katax_cli.profiles.model.model import Profile
    from katax_cli.services.migrate.values import MigrationFile

POSITIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("health", "health check", "health serve"), ("connections", "...")),
    **dict.fromkeys(("circuit trip", "circuit reset", "circuit disable"), ("connections",)),
    **dict.fromkeys(("db describe", "db select", "db delete"), ("tables",)),
    **dict.fromkeys(("db insert", "db update"), ("tables", "assignments", "...")),
    "db truncate": ("tables", "..."),
    **dict.fromkeys(
        (f"cache {name}" for name in ("get", "set", "ttl", "expire", "persist", "exists")), ("keys",)
    ),
    **dict.fromkeys(("cache incr", "cache decr", "cache remember", "cache scan", "cache clear"), ("keys",)),
    **dict.fromkeys(("cache del", "cache mget"), ("keys", "...")),
    **dict.fromkeys(
        (f"cron {name}" for name in ("next", "explain", "run", "history", "remove", "enable", "disable")),
        ("jobs",),
    ),
    "migrate run": ("migrations",),
    "migrate baseline": ("versions",),
    "seed run": ("seeds",),
    "ws serve": ("sockets",),
    **dict.fromkeys(("profile show", "profile check"), ("profiles",)),
    **dict.fromkeys(("completion show", "completion install"), ("shells",)),
}
"""Command → the kinds of its arguments; `...` repeats the last one."""

OPTIONS: dict[str, str] = {
    **dict.fromkeys(("-p", "--profile"), "profiles"),
    **dict.fromkeys(("-c", "--connection", "--redis"), "connections"),
    **dict.fromkeys(("-f", "--format"), "formats"),
    "--to": "versions",
    "--name": "sockets",
    **dict.fromkeys(("--columns", "--order", "--group-by"), "columns"),
    "--log-level": "levels",
    "--log-format": "log_formats",
}
"""Option → the kind of its value."""

# Options of other commands whose value must not be taken for an argument.
_OTHER_VALUES = (
    "-o",
    "--output",
    "--timeout",
    "--confirm",
    "--null",
    "--where",
    "--limit",
    "--ttl",
    "--param",
    "--json",
)
_WORDS = {
    "shells": ("bash", "zsh", "fish", "powershell"),
    "levels": ("trace", "debug", "info", "warning", "error", "fatal"),
    "log_formats": ("console", "json"),
}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/@%+=,#")


class Line(NamedTuple):
    """A command line up to the cursor, whose word `current` is being completed."""

    words: tuple[str, ...]
    current: str

    @property
    def before(self) -> str:
        """The word before the cursor's."""
        return self.words[-1] if self.words else ""

    @property
    def plain(self) -> list[str]:
        """The words that are neither options nor their values."""
        valued = (*OPTIONS, *_OTHER_VALUES)
        pairs = zip(("", *self.words), self.words, strict=False)
        return [word for before, word in pairs if not word.startswith("-") and before not in valued]

    def value_of(self, *options: str) -> str | None:
        """The value that the line gives to an option."""
        pairs = zip(self.words, self.words[1:], strict=False)
        return next((value for option, value in pairs if option in options), None)


def kind_at(line: Line) -> str | None:
    """The kind of value that may stand at the cursor, if its values can be known."""
    if line.before in OPTIONS:
        kind = OPTIONS[line.before]
        # `db export --to` and its like name other things.
        return None if kind == "versions" and line.plain[:1] != ["migrate"] else kind
    if line.current.startswith("-"):
        return None
    for length in (2, 1):
        kinds = POSITIONS.get(" ".join(line.plain[:length]))
        if kinds is not None and len(line.plain) >= length:
            return _of_position(kinds, len(line.plain) - length)
    return None


def _of_position(kinds: tuple[str, ...], position: int) -> str | None:
    if kinds[-1] == "...":
        return kinds[min(position, len(kinds) - 2)]
    return kinds[position] if position < len(kinds) else None


def values(words: Sequence[str]) -> list[str]:
    """What completes the last of these words; nothing where it cannot be known, or not in time.

    Only words that no shell reads as more than text: names come from servers, too.
    """
    line = Line(tuple(words[:-1]), words[-1] if words else "")
    kind = kind_at(line)
    if kind is None:
        return []
    try:
        found = _WORDS[kind] if kind in _WORDS else _SOURCES.get(kind, _of_server)(line)
        return sorted({word for word in found if word.startswith(line.current) and _PLAIN.issuperset(word)})
    except (KataxError, OSError, ValueError):
        return []


def profile_of(line: Line) -> Profile:
    """The profile that the line names, or the one that would be used."""
    from katax_cli.profiles.load import load_profile
    from katax_cli.profiles.sources.by_url import is_url

    connection = line.value_of("-c", "--connection")
    return load_profile(
        line.value_of("-p", "--profile"), url=connection if connection and is_url(connection) else None
    )


def _profiles(_line: Line) -> list[str]:
    from katax_cli.profiles.load import search_from

    return search_from(None, None).known()


def _connections(line: Line) -> list[str]:
    return list(profile_of(line).connections)


def _formats(line: Line) -> list[str]:
    from importlib import import_module

    from katax_cli.cli.app import COMMANDS
    from katax_cli.cli.shell.output import FORMATS

    if not line.plain:
        return list(FORMATS)
    group = import_module(COMMANDS[line.plain[0]][0]).group
    name = line.plain[1] if len(line.plain) > 1 else group.default
    command = group.commands.get(name) or group.commands.get(group.default)
    return [*FORMATS, *(command.formats if command else ())]


def _sockets(line: Line) -> list[str]:
    return list(profile_of(line).ws)


def _jobs(line: Line) -> list[str]:
    return [*profile_of(line).cron.jobs, *_of_server(line)]


def _migrations(line: Line) -> Iterator[str]:
    return (file.name for file in _migration_files(line))


def _versions(line: Line) -> Iterator[str]:
    return (file.version for file in _migration_files(line))


def _migration_files(line: Line) -> list[MigrationFile]:
    from katax_cli.services.migrate.files.files import scan

    return scan(profile_of(line).migrate.directory)


def _seeds(line: Line) -> Iterator[str]:
    from katax_cli.services.seeds.files import scan

    return (file.name for file in scan(profile_of(line).seed.directory))


def _of_server(line: Line) -> list[str]:
    from katax_cli.cli.completion.remembered import ask_in_time

    return ask_in_time(line, kind_at(line) or "")


_SOURCES: dict[str, Callable[[Line], Sequence[str] | Iterator[str]]] = {
    "profiles": _profiles,
    "connections": _connections,
    "formats": _formats,
    "sockets": _sockets,
    "jobs": _jobs,
    "migrations": _migrations,
    "versions": _versions,
    "seeds": _seeds,
}
