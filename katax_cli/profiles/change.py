"""Changes of configuration files that commands make: the default profile, and a profile of one URL."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from katax_cli.core.settings import Role
from katax_cli.errors import ConfigError
from katax_cli.profiles.load import search_from
from katax_cli.profiles.model.connections import ConnectionContext, Flaw, build_connection
from katax_cli.profiles.model.lines import line_of
from katax_cli.profiles.model.urls import has_secret_option
from katax_cli.profiles.sources.document import parse, read_trusted
from katax_cli.profiles.sources.find import Search
from katax_cli.profiles.sources.home import ensure_home, katax_home
from katax_cli.profiles.sources.ownership import refuse_untrusted
from katax_cli.profiles.template import profile_path

_REFERENCE = "env:"


class NewProfile(NamedTuple):
    """A profile file to be written: its path and text, and the file and text of its password, if it has one."""

    path: str
    text: str
    connection: str
    password_file: str | None
    password: str | None


def default_file(name: str, *, cwd: str | None = None, environ: Mapping[str, str] | None = None) -> str:
    """The katax.toml that names the default profile: the project's, without a project the user's.

    Raises UnknownProfile when there is no profile of this name, and what makes it unusable.
    """
    search = search_from(cwd, os.environ if environ is None else environ)
    search.choose(name)
    return os.path.join(search.project.folder if search.project else search.user.folder, "katax.toml")


def use_profile(name: str, file: str) -> None:
    """Writes `default_profile` into a katax.toml, whose other lines stay as they are. Raises ConfigError."""
    refuse_untrusted(file)
    text = read_trusted(file, []) or ""
    before = parse(file, text)
    line = f"default_profile = {json.dumps(name, ensure_ascii=False)}"
    lines = text.splitlines()
    at = line_of(text, ("default_profile",))
    if at is None:
        lines.insert(0, line)
    else:
        comment = lines[at - 1].partition("#")[1:]
        lines[at - 1] = "  ".join(filter(None, [line, "".join(comment)]))
    changed = "\n".join(lines) + "\n"
    if parse(file, changed) != {**before, "default_profile": name}:
        raise ConfigError(f"{file}:{at} cannot be changed safely; write {line} there")
    _write(file, changed, mode=None)


def plan_profile(
    name: str, url: str, role: Role, *, cwd: str | None = None, environ: Mapping[str, str] | None = None
) -> NewProfile:
    """A profile whose one connection has this URL, or the URL of `env:NAME`.

    The password goes into a file of its own inside `.katax/`, which no version control takes. Raises ConfigError
    for a wrong URL, which is not quoted, and for a profile that is there already.
    """
    search = search_from(cwd, os.environ if environ is None else environ)
    path = profile_path(search.folder, name)
    if name in search.names():
        raise ConfigError(f"profile {name!r} is there already; choose another name or edit it")
    if url.startswith(_REFERENCE):
        variable = url.removeprefix(_REFERENCE)
        found = search.variables.get(variable)
        if found is None:
            raise ConfigError(
                f"the environment variable {variable} is not set; its URL says what it connects to"
            )
        kind, _ = _read(found, search)
        return _profile(path, role, kind, f"${{env:{variable}}}", None, None)
    kind, password = _read(url, search)
    plain = _without_password(url)
    home = katax_home(search.folder, search.environ)
    file = None if password is None else os.path.join(home, "passwords", name)
    return _profile(path, role, kind, plain, file, password, folder=search.folder)


def _read(url: str, search: Search) -> tuple[str, str | None]:
    """Kind and password of a URL."""
    try:
        settings = build_connection(
            "main", {"url": url}, ConnectionContext(search.folder, environ=search.environ)
        )
    except Flaw as flaw:
        raise ConfigError(f"the url {flaw}") from None
    return settings.type, settings.password.reveal() if settings.password else None


def _without_password(url: str) -> str:
    head, slashes, rest = url.partition("://")
    userinfo, at, server = rest.rpartition("@")
    user = userinfo.partition(":")[0]
    plain = f"{head}{slashes}{user}{at if user else ''}{server}"
    if has_secret_option(plain):
        raise ConfigError(
            "the url has a secret in its parameters; write env:NAME and keep it in that variable"
        )
    return plain


def _profile(
    path: str,
    role: Role,
    kind: str,
    url: str,
    password_file: str | None,
    password: str | None,
    *,
    folder: str = "",
) -> NewProfile:
    connection = "cache" if kind == "redis" else "main"
    table: dict[str, Any] = {"type": kind, "url": url}
    if password_file is not None:
        table["password_file"] = os.path.relpath(password_file, folder)
    keys = "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items())
    text = f'role = "{role}"\n\n[connections.{connection}]\n{keys}'
    return NewProfile(path, text, connection, password_file, password)


def add_profile(planned: NewProfile) -> None:
    """Writes the files of a new profile. Raises ConfigError."""
    if planned.password_file is not None and planned.password is not None:
        folder = os.path.dirname(planned.password_file)
        ensure_home(os.path.dirname(folder))
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _write(planned.password_file, planned.password + "\n", mode=0o600)
    _write(planned.path, planned.text, mode=None)


def _write(path: str, text: str, *, mode: int | None) -> None:
    """Replaces a file as a whole, with the rights that it had."""
    part = f"{path}.part"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        rights = os.stat(path).st_mode & 0o777 if mode is None and os.path.exists(path) else mode
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, rights or 0o666)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, os.path.realpath(path))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
