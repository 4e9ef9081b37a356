"""Runs whole commands in this process: words in, exit code and both streams out."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from katax_cli.cli import app
from katax_cli.cli.shell.group import RegisteredCommand, Subgroup
from tests.waiting import connecting


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    code: int
    stdout: bytes
    err: str

    @property
    def out(self) -> str:
        return self.stdout.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def katax(*words: str, stdin: bytes = b"") -> Done:
    """`katax WORDS…`, without a terminal."""
    out, err = io.BytesIO(), io.StringIO()
    code = app.main(list(words), stdin=io.BytesIO(stdin), stdout=out, stderr=err)
    return Done(code, out.getvalue(), err.getvalue())


def write_profile(
    folder: Path,
    connections: Mapping[str, str],
    *,
    name: str = "test",
    role: str = "dev",
    extra: str = "",
    connect_timeout: float | None = None,
) -> Path:
    """A profile file with a URL for each connection; `extra` is TOML that goes before them.

    Without a `connect_timeout` it has the time that a busy machine may take.
    """
    file = folder / "profiles" / f"{name}.toml"
    file.parent.mkdir(exist_ok=True)
    tables = "".join(
        f'\n[connections.{key}]\ntype = "{_type(url)}"\nurl = "{url}"\n{_connecting(url, connect_timeout)}'
        for key, url in connections.items()
    )
    file.write_text(f'role = "{role}"\n{extra}{tables}')
    return file


def _connecting(url: str, seconds: float | None) -> str:
    return "" if "connect_timeout=" in url else f"connect_timeout = {seconds or connecting(url)}\n"


def _type(url: str) -> str:
    scheme = url.partition(":")[0]
    aliases = {
        "rediss": "redis",
        "unix": "redis",
        "sentinel": "redis",
        "cluster": "redis",
        "embedded": "redis",
        "postgres": "postgresql",
        "mariadb": "mysql",
        "mongodb+srv": "mongodb",
    }
    return aliases.get(scheme, scheme)


def registered(group: str) -> Iterator[tuple[str, RegisteredCommand]]:
    """The commands of a group with all their words, `db backups list`, those of the groups within it too."""
    yield from _within(group, app.COMMANDS[group][0])


def _within(words: str, module: str) -> Iterator[tuple[str, RegisteredCommand]]:
    for name, command in import_module(module).group.commands.items():
        if isinstance(command, Subgroup):
            yield from _within(f"{words} {name}", command.module)
        else:
            yield f"{words} {name}", command


def command_names() -> list[str]:
    """Every command there is, with all its words, read from the tree that the command line is made of."""
    return [words for group in app.COMMANDS for words, _ in registered(group)]
