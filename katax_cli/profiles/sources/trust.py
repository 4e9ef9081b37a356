"""Trust in files, and in the commands of project files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from katax_cli.errors import ConfigError
from katax_cli.profiles.sources.ownership import distrust, refuse_untrusted

SecretCommand = str | list[str]


def state_folder(environ: Mapping[str, str]) -> str:
    """The folder of katax's state for this user: `$XDG_STATE_HOME/katax`."""
    base = environ.get("XDG_STATE_HOME") or os.path.join(home_folder(environ), ".local", "state")
    return os.path.join(base, "katax")


def home_folder(environ: Mapping[str, str]) -> str:
    return environ.get("HOME") or os.path.expanduser("~")


def approved(file: str, command: SecretCommand, environ: Mapping[str, str]) -> bool:
    """True if `approve` has seen exactly this command in exactly this file."""
    return _mark(file, command) in _approvals(environ)


def approve(file: str, *, environ: Mapping[str, str] | None = None) -> list[str]:
    """Approves the password commands that stand in a file now and returns them, one line each.

    A changed command needs a new approval. Raises ConfigError when the file cannot be read or is not TOML,
    UntrustedFile when others could have written it.
    """
    from katax_cli.profiles.sources.document import read_layer

    environ = os.environ if environ is None else environ
    path = os.path.abspath(file)
    refuse_untrusted(path)
    layer = read_layer(path, [])
    if layer is None:
        raise ConfigError(f"no file at {path}; 'katax profile list' shows where profiles are read from")
    commands = list(commands_of(layer.table))
    _remember(path, commands, environ)
    return [_shown(command) for command in commands]


def commands_of(table: Mapping[str, Any]) -> Iterator[SecretCommand]:
    """Every password_command of a file: of its own connections and of its `[profiles.NAME]` tables."""
    connections = table.get("connections")
    if isinstance(connections, dict):
        for connection in connections.values():
            command = connection.get("password_command") if isinstance(connection, dict) else None
            if command is not None:
                yield command
    profiles = table.get("profiles")
    if isinstance(profiles, dict):
        for profile in profiles.values():
            yield from commands_of(profile) if isinstance(profile, dict) else ()


def _shown(command: SecretCommand) -> str:
    import shlex

    return command if isinstance(command, str) else shlex.join(command)


def _mark(file: str, command: SecretCommand) -> str:
    import hashlib
    import json

    # A string goes through the shell and a list does not, so the two never share a mark.
    text = json.dumps([os.path.realpath(file), command])
    return hashlib.sha256(text.encode()).hexdigest()


def _approvals(environ: Mapping[str, str]) -> dict[str, str]:
    """Mark → file. A list that is missing, broken or not ours approves nothing."""
    import json

    path = os.path.join(state_folder(environ), "trust.json")
    try:
        with open(path, encoding="utf-8") as file:
            if distrust(os.fstat(file.fileno())) is not None:
                return {}
            known = json.load(file)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(path: str, commands: list[SecretCommand], environ: Mapping[str, str]) -> None:
    import json

    real = os.path.realpath(path)
    known = {mark: file for mark, file in _approvals(environ).items() if file != real}
    known.update({_mark(path, command): real for command in commands})
    folder = state_folder(environ)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    draft = os.path.join(folder, f"trust.json.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(known, file, indent=1)
    os.replace(draft, os.path.join(folder, "trust.json"))
