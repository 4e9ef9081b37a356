"""Completion of values: what may stand at a place of the line, from files; from servers see `remembered`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from katax_cli.cli.completion.line import TypedLine, kind_at, profile_of
from katax_cli.errors import KataxError

if TYPE_CHECKING:
    from katax_cli.services.migrate.values import MigrationFile

_WORDS = {
    "shells": ("bash", "zsh", "fish", "powershell"),
    "levels": ("trace", "debug", "info", "warning", "error", "fatal"),
    "log_formats": ("console", "json"),
}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/@%+=,#")


def values(words: Sequence[str]) -> list[str]:
    """Completes the last of these words; empty where it cannot be known, or not in time.

    Only words that no shell reads as more than text: names come from servers, too.
    """
    line = TypedLine(tuple(words[:-1]), words[-1] if words else "")
    kind = kind_at(line)
    if kind is None:
        return []
    try:
        suggestions = _WORDS[kind] if kind in _WORDS else _SOURCES.get(kind, _of_server)(line)
        return sorted(
            {word for word in suggestions if word.startswith(line.current) and _PLAIN.issuperset(word)}
        )
    except (KataxError, OSError, ValueError):
        return []


def print_values(words: Sequence[str]) -> int:
    """`katax completion values -- WORD…` without the tree of commands, which takes longer to load than the answer."""
    import sys

    sys.stdout.write("".join(f"{value}\n" for value in values(words)))
    return 0


def _profiles(_line: TypedLine) -> list[str]:
    from katax_cli.profiles.load import search_from

    return search_from(None, None).known()


def _connections(line: TypedLine) -> list[str]:
    return list(profile_of(line).connections)


def _formats(line: TypedLine) -> list[str]:
    from importlib import import_module

    from katax_cli.cli.app import COMMANDS
    from katax_cli.cli.shell.output import FORMATS

    if not line.plain:
        return list(FORMATS)
    group = import_module(COMMANDS[line.plain[0]][0]).group
    name = line.plain[1] if len(line.plain) > 1 else group.default
    command = group.commands.get(name) or group.commands.get(group.default)
    return [*FORMATS, *(command.formats if command else ())]


def _sockets(line: TypedLine) -> list[str]:
    return list(profile_of(line).ws)


def _jobs(line: TypedLine) -> list[str]:
    return [*profile_of(line).cron.jobs, *_of_server(line)]


def _migrations(line: TypedLine) -> Iterator[str]:
    return (file.name for file in _migration_files(line))


def _versions(line: TypedLine) -> Iterator[str]:
    return (file.version for file in _migration_files(line))


def _migration_files(line: TypedLine) -> list[MigrationFile]:
    from katax_cli.services.migrate.files.files import scan

    return scan(profile_of(line).migrate.directory)


def _seeds(line: TypedLine) -> list[str]:
    from katax_cli.services.seeds.files import listed

    return listed(profile_of(line).seed.directory)


def _of_server(line: TypedLine) -> list[str]:
    # What asks a server is loaded only where one may be asked.
    from katax_cli.cli.completion.remembered import ask_in_time

    return ask_in_time(line, kind_at(line) or "")


_SOURCES: dict[str, Callable[[TypedLine], Sequence[str] | Iterator[str]]] = {
    "profiles": _profiles,
    "connections": _connections,
    "formats": _formats,
    "sockets": _sockets,
    "jobs": _jobs,
    "migrations": _migrations,
    "versions": _versions,
    "seeds": _seeds,
}
