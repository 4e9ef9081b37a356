"""`${env:NAME}`: the real environment first, then the project's `.env`, which feeds nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from katax_cli.profiles.model.layer import UNSET, FromEnvironment, Path, Unset
from katax_cli.profiles.sources.document import read_trusted

_OPEN = "${env:"


class Environment:
    """Reads variables; `.env` is read only when the real environment does not have one."""

    def __init__(self, environ: Mapping[str, str], folder: str, notes: list[str]) -> None:
        self._environ = environ
        self._file = os.path.join(folder, ".env")
        self._notes = notes
        self._dotenv: Mapping[str, str | None] | None = None
        self._ignored = ""

    def get(self, name: str) -> str | None:
        return self._environ[name] if name in self._environ else self._of_file().get(name)

    def dotenv(self) -> dict[str, str]:
        """The values of `.env`, including those that the real environment overrides."""
        return {name: value for name, value in self._of_file().items() if value is not None}

    def origin(self, name: str) -> str:
        """The origin of a variable's value, for `profile show --origin`."""
        return "environment" if name in self._environ else self._file

    def place(self, name: str) -> str:
        """`.env` and the line on which a variable is set, the last if there are several."""
        with open(self._file, encoding="utf-8") as file:
            lines = list(enumerate(file, 1))
        set_on = [number for number, line in lines if _name_set_by(line) == name]
        return f"{self._file}:{set_on[-1]}" if set_on else self._file

    def why_ignored(self) -> str:
        """`; PATH is ignored: …` when there is a `.env` that others could have written, else nothing."""
        self._of_file()
        return f"; {self._ignored}" if self._ignored else ""

    def _of_file(self) -> Mapping[str, str | None]:
        if self._dotenv is None:
            self._dotenv = self._read()
        return self._dotenv

    def _read(self) -> Mapping[str, str | None]:
        notes: list[str] = []
        text = read_trusted(self._file, notes)
        self._notes += notes
        self._ignored = next(iter(notes), "")
        return dotenv_of(text) if text else {}


def dotenv_of(text: str) -> dict[str, str | None]:
    """The variables of lines of NAME=value."""
    from io import StringIO

    from dotenv import dotenv_values

    # Interpolation would rewrite a password that contains `${`, even inside single quotes.
    return dict(dotenv_values(stream=StringIO(text), interpolate=False))


def _name_set_by(line: str) -> str:
    """NAME of `NAME=…` and `export NAME=…`."""
    return line.partition("=")[0].strip().removeprefix("export ").strip().strip("'")


Missing = Callable[[Path, str], None]


def substitute(value: Any, path: Path, environment: Environment, missing: Missing) -> Any:
    """Returns the value with every `${env:NAME}` in its strings replaced; `missing` hears of unset ones."""
    if isinstance(value, str):
        return _filled(value, path, environment, missing) if _OPEN in value else value
    if isinstance(value, Mapping):
        return {
            key: each if _kept_raw((*path, key)) else substitute(each, (*path, key), environment, missing)
            for key, each in value.items()
        }
    if isinstance(value, list):
        filled = [substitute(each, path, environment, missing) for each in value]
        return UNSET if UNSET in filled else filled
    return value


def _kept_raw(path: Path) -> bool:
    # A job's condition is evaluated at each occurrence, with the environment of that moment.
    return len(path) == 4 and path[:2] == ("cron", "jobs") and path[3] == "enabled"


def _filled(text: str, path: Path, environment: Environment, missing: Missing) -> FromEnvironment | Unset:
    done, rest = "", text
    while _OPEN in rest:
        before, _, rest = rest.partition(_OPEN)
        name, closed, rest = rest.partition("}")
        value = environment.get(name) if closed else None
        if value is None:
            missing(path, name)
            return UNSET
        done += before + value
    return FromEnvironment(done + rest)


def variables(text: str) -> list[str]:
    """The names of the variables in a string."""
    return [part.partition("}")[0] for part in text.split(_OPEN)[1:]]
