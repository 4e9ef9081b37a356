"""Passwords that are fetched when their connection is opened, and not before."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from katax_cli.core.settings import Secret
from katax_cli.errors import ConfigError, Refused
from katax_cli.profiles.sources.trust import SecretCommand, approved

SOURCES = ("password", "password_command", "password_file", "keyring")
COMMAND_TIMEOUT = 30.0


class SecretOrigin:
    """The origin of a secret: its key for messages, the project folder, its file if that needs approval."""

    __slots__ = ("environ", "folder", "key", "needs_approval")

    def __init__(
        self, key: str, folder: str, *, environ: Mapping[str, str], needs_approval: str | None = None
    ) -> None:
        self.key = key
        self.folder = folder
        self.environ = environ
        self.needs_approval = needs_approval


def secret_of(table: Mapping[str, Any], place: SecretOrigin) -> Secret | None:
    """The password of a connection's table. Raises ValueError when it is said in two ways."""
    said = [source for source in SOURCES if source in table]
    if len(said) > 1:
        raise ValueError(f"has both {said[0]} and {said[1]}; keep one")
    if not said:
        return None
    value = table[said[0]]
    if said[0] == "password":
        return Secret.of(value)
    fetch = {"password_command": from_command, "password_file": from_file, "keyring": from_keyring}[said[0]]
    return Secret(lambda: fetch(value, place))


def token(value: str, place: SecretOrigin) -> Secret:
    """A token or a key: `env:NAME`, `file:PATH` and `keyring:service/user` are read when it is needed."""
    kind, found, rest = value.partition(":")
    if found and kind == "env":
        return Secret(lambda: _from_variable(rest, place))
    if found and kind == "file":
        return Secret(lambda: from_file(rest, place))
    if found and kind == "keyring":
        return Secret(lambda: from_keyring(rest, place))
    return Secret.of(value)


def _from_variable(name: str, place: SecretOrigin) -> str:
    if not place.environ.get(name):
        raise ConfigError(f"{place.key} needs the environment variable {name}, which is not set")
    return place.environ[name]


def from_command(command: SecretCommand | tuple[str, ...], place: SecretOrigin) -> str:
    """Runs the command in the project folder and returns what it printed, without the final line break.

    Raises Refused when it needs an approval it does not have, ConfigError when it fails, prints nothing or
    takes longer than COMMAND_TIMEOUT seconds; its stderr is part of the message, its stdout never.
    """
    plain: SecretCommand = command if isinstance(command, str) else list(command)
    file = place.needs_approval
    if file is not None and not approved(file, plain, place.environ):
        raise Refused(
            f"{place.key} of {file} was not approved; read it, then run: katax profile trust {file}"
        )
    import subprocess

    try:
        # stdin is the data of the katax command, and a prompt reads /dev/tty.
        done = subprocess.run(
            plain,
            shell=isinstance(plain, str),
            cwd=place.folder,
            env=dict(place.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{place.key} took longer than {COMMAND_TIMEOUT:g} s") from None
    except OSError as error:
        raise ConfigError(f"{place.key} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split()) or "it wrote nothing to stderr"
        raise ConfigError(f"{place.key} failed with status {done.returncode}: {said}")
    return _one_secret(done.stdout, place, "printed")


def from_file(path: str, place: SecretOrigin) -> str:
    """The content of a file without its final line break. Raises ConfigError."""
    path = os.path.join(place.folder, path)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ConfigError(f"{place.key}: {path} cannot be read: {error.strerror}") from None
    return _one_secret(content, place, "holds")


def _one_secret(content: bytes, place: SecretOrigin, verb: str) -> str:
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigError(f"{place.key} {verb} something that is not UTF-8") from None
    if not text:
        raise ConfigError(f"{place.key} {verb} nothing")
    return text


def from_keyring(entry: str, place: SecretOrigin) -> str:
    """The password of `service/user` in the system's keyring. Raises ConfigError."""
    service, found, user = entry.rpartition("/")
    if not found or not service or not user:
        raise ConfigError(f"{place.key} is {entry!r}, expected 'service/user'")
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise ConfigError(f"{place.key} needs the keyring package: pip install 'katax[keyring]'") from None
    try:
        password: str | None = keyring.get_password(service, user)
    except KeyringError as error:
        raise ConfigError(f"{place.key}: the keyring cannot be used: {error}") from None
    if password is None:
        raise ConfigError(f"{place.key}: the keyring has no password for {user!r} of {service!r}")
    return password


def readable_by_everyone(path: str) -> bool:
    """True if a password file shows its content to every user of the machine."""
    try:
        return bool(os.stat(path).st_mode & 0o004)
    except OSError:
        return False
