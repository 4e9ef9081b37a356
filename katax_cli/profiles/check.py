"""Everything that is wrong or risky about a profile, at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from katax_cli.core.settings import ConnectionSettings
from katax_cli.errors import ConfigError, UnknownProfile
from katax_cli.profiles.load import LoadedProfile, load, merge, search_from
from katax_cli.profiles.model.layer import Path, dotted
from katax_cli.profiles.model.problems import Problem, Problems, origin_of
from katax_cli.profiles.model.secrets import readable_by_everyone
from katax_cli.profiles.model.urls import mask_url
from katax_cli.profiles.show import is_reference
from katax_cli.profiles.sources.document import read_trusted
from katax_cli.profiles.sources.find import ConfigFolder, Search
from katax_cli.profiles.sources.trust import approved

MistakeOf = Callable[[str, Mapping[str, Any]], tuple[str | None, str] | None]
"""Judges a job by its name and table: the key and the reason of a mistake, or None."""


def check_profiles(*, mistake_of: MistakeOf | None = None) -> tuple[list[str], list[Problem]]:
    """The names of all profiles that lie here, and their problems, each once; of the built-in one where none lies."""
    try:
        names = search_from(None, None).names()
    except ConfigError:
        names = []
    checked: list[str | None] = [*names] or [None]
    checks = [check_profile(name, mistake_of=mistake_of) for name in checked]
    return names, list(dict.fromkeys(problem for problems in checks for problem in problems))


def check_profile(
    name: str | None = None,
    *,
    cwd: str | None = None,
    environ: Mapping[str, str] | None = None,
    mistake_of: MistakeOf | None = None,
) -> list[Problem]:
    """Every problem of a profile, with file, line and remedy; empty when all is well. Connects nowhere.

    Raises UnknownProfile and UntrustedFile; a file that cannot be read is a problem.
    """
    search = None
    try:
        search = search_from(cwd, environ)
        loaded = load(search, name)
    except UnknownProfile:
        raise
    except ConfigError as error:
        return [Problem(None, None, "", str(error)), *(_notes(search) if search else ())]
    _check_connections(loaded)
    _check_clear_secrets(loaded)
    _check_reserved(loaded)
    _check_dotenv(loaded)
    _check_jobs(loaded, mistake_of)
    return [*loaded.problems.found, *_notes(search)]


def _check_jobs(loaded: LoadedProfile, mistake_of: MistakeOf | None) -> None:
    """The jobs whose keys are right, and that mean nothing all the same."""
    if mistake_of is None:
        return
    for name, table in loaded.jobs.items():
        path = ("cron", "jobs", name)
        if any(problem.key.startswith(dotted(path)) for problem in loaded.problems.errors):
            continue
        mistake = mistake_of(name, table)
        if mistake is not None:
            key, message = mistake
            loaded.problems.add((*path, key) if key else path, message)


def _notes(search: Search) -> Iterator[Problem]:
    """Files that were passed over."""
    for note in search.notes:
        if note.startswith("ignored "):
            file, _, reason = note.removeprefix("ignored ").partition(": ")
            why, _, remedy = reason.partition("; ")
            yield Problem(file, None, "", f"ignored, {why}", remedy, level="warning")


def _check_connections(loaded: LoadedProfile) -> None:
    tables = merge(loaded.layers).get("connections")
    for name, table in tables.items() if isinstance(tables, dict) else ():
        if isinstance(table, dict):
            _check_password(loaded, ("connections", name), table)
    for settings in loaded.profile.connections.values() if loaded.profile else ():
        _check_certificates(loaded.problems, settings)


def _check_password(loaded: LoadedProfile, path: Path, table: Mapping[str, Any]) -> None:
    problems, search = loaded.problems, loaded.search
    file = table.get("password_file")
    if isinstance(file, str):
        full = os.path.join(search.folder, file)
        if not os.path.isfile(full):
            problems.add(
                (*path, "password_file"), f"{dotted(path)}.password_file: no file at {full}", "create it"
            )
        elif readable_by_everyone(full):
            problems.add(
                (*path, "password_file"),
                f"{dotted(path)}.password_file: {full} is readable by everyone",
                f"run: chmod 600 {full}",
                level="warning",
            )
    command = table.get("password_command")
    layer = origin_of(loaded.layers, path)
    source = layer.file if layer else None
    if command is None or source is None or _is_users(search, source):
        return
    if not approved(source, command, search.environ):
        problems.add(
            (*path, "password_command"),
            f"{dotted(path)}.password_command was not approved and will not run",
            f"read it, then run: katax profile trust {source}",
            level="warning",
        )


def _is_users(search: Search, file: str) -> bool:
    return file.startswith(os.path.join(search.user.folder, ""))


def _check_certificates(problems: Problems, settings: ConnectionSettings) -> None:
    for key in ("ca", "cert", "key") if settings.tls else ():
        file = getattr(settings.tls, key)
        if file is not None and file != "system" and not os.path.isfile(file):
            path = ("connections", settings.name, "tls", key)
            problems.add(path, f"{dotted(path)}: no file at {file}", "paths start in the project folder")


def _check_clear_secrets(loaded: LoadedProfile) -> None:
    """A password in a file of a project ends up in its version control."""
    merged = merge(loaded.layers)
    if merged.get("role") not in ("prod", "frozen"):
        return
    for path in _secrets(merged):
        layer = origin_of(loaded.layers, path)
        if layer and layer.file and not _is_users(loaded.search, layer.file):
            loaded.problems.add(
                path,
                f"{dotted(path)} holds a secret in the clear",
                "write '${env:NAME}', or use password_command, password_file or keyring",
                level="warning",
            )


def _secrets(merged: Mapping[str, Any]) -> Iterator[Path]:
    """Keys whose written text holds a secret itself."""
    for group, keys in (
        ("connections", ("password", "url", "direct_url")),
        ("ws", ("auth_token", "admin_token")),
    ):
        tables = merged.get(group)
        for name, table in tables.items() if isinstance(tables, dict) else ():
            for key in keys if isinstance(table, dict) else ():
                text = table.get(key)
                if isinstance(text, str) and _is_clear(key, text):
                    yield group, name, key
    backup = merged.get("backup")
    identity = backup.get("identity") if isinstance(backup, dict) else None
    if isinstance(identity, str) and _is_clear("identity", identity):
        yield "backup", "identity"


def _is_clear(key: str, text: str) -> bool:
    if not key.endswith("url"):
        return not is_reference(text)
    password = text.partition("://")[2].rpartition("@")[0].partition(":")[2]
    return mask_url(text) != text and not (password and is_reference(password))


def _check_reserved(loaded: LoadedProfile) -> None:
    for place in loaded.search.places:
        for file, line in _reserved(place):
            message = "profile 'local' is built in, this one is never used"
            loaded.problems.found.append(
                Problem(file, line, "profiles.local", message, "give it another name")
            )


def _reserved(place: ConfigFolder) -> Iterator[tuple[str, int | None]]:
    if "local" in place.files:
        yield place.files["local"], 1
    if place.katax and place.katax.file and "local" in place.tables():
        yield place.katax.file, place.katax.line(("profiles", "local"))


def _check_dotenv(loaded: LoadedProfile) -> None:
    """Values that `.env` readers do not agree about."""
    path = os.path.join(loaded.search.folder, ".env")
    notes: list[str] = []
    text = read_trusted(path, notes)
    loaded.search.notes += [note for note in notes if note not in loaded.search.notes]
    if not text:
        return
    from io import StringIO

    from dotenv.parser import parse_stream

    for binding in parse_stream(StringIO(text)):
        line = binding.original.line + _blank_lines(binding.original.string)
        for message, remedy in _doubts(
            binding.key, binding.original.string, binding.value, error=binding.error
        ):
            level = "error" if binding.error else "warning"
            loaded.problems.found.append(Problem(path, line, binding.key or "", message, remedy, level))  # type: ignore[arg-type]


def _blank_lines(text: str) -> int:
    """The parser counts empty lines before a binding as part of it."""
    return text[: len(text) - len(text.lstrip())].count("\n")


def _doubts(key: str | None, written: str, value: str | None, *, error: bool) -> Iterator[tuple[str, str]]:
    if error:
        yield "not a line of NAME=value", "write NAME=value"
        return
    if key is None or value is None:
        return
    raw = written.partition("=")[2].strip()
    if raw[:1] not in ("'", '"') and " #" in raw:
        yield f"{key} is cut at ' #'", "put quotes around the whole value if the rest belongs to it"
    if "${" in value:
        yield f"{key} contains '${{', which katax keeps and other readers of .env replace", "avoid it"
