"""Configuration of a program: environment > .env > [tool.katax] of pyproject.toml > default, or its own sources."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Protocol, TypeVar, cast, overload

from katax_cli.errors import ConfigError
from katax_cli.profiles.sources.document import parse, read_layer, read_trusted
from katax_cli.profiles.sources.environment import Environment, dotenv_of
from katax_cli.profiles.sources.home import upward

T = TypeVar("T")
ConfigSource = Mapping[str, Any] | str | os.PathLike[str]
"""Values by name, or the file that has them: `*.toml`, `*.json`, else lines of NAME=value as in `.env`."""


class _ConfigValues(Protocol):
    """One source of values; None for a key that it does not have."""

    def get(self, key: str) -> Any: ...

    def all(self) -> Mapping[str, Any]: ...


class Config:
    """Values by name, of the first source that has them; what was `set` comes before all sources.

    Without `sources` these are the environment, `.env` of `folder`, and [tool.katax] of the nearest pyproject.toml
    from there upward. With them it is these only, the first one first; the names of files are relative to `folder`,
    and a file that is not there has no values. Mappings are looked at anew each time, files are read once, when they
    are first needed. Files that others could have written are ignored; `notes` says so.
    """

    def __init__(
        self,
        folder: str | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        sources: Sequence[ConfigSource] | None = None,
    ) -> None:
        self._folder = os.path.abspath(folder or os.getcwd())
        environ = os.environ if environ is None else environ
        self.notes: list[str] = []
        self._set: dict[str, Any] = {}
        self._sources: list[_ConfigValues] = (
            [_Variables(environ, self._folder, self.notes), _Project(environ, self._folder, self.notes)]
            if sources is None
            else [self._values_of(source) for source in sources]
        )

    @overload
    def get(self, key: str) -> Any: ...
    @overload
    def get(self, key: str, default: T) -> T: ...
    def get(self, key: str, default: Any = None) -> Any:
        """The value of the first source that has the key, else the default.

        Text becomes what the default is: a boolean (true, yes, on, 1 and their opposites), a number, a list or table
        (JSON), or whatever the default's type makes of a string; text of a TOML or JSON file stays text. Raises
        ConfigError, which does not quote it, when it cannot.
        """
        value = self._value(key)
        if value is None:
            return default
        if isinstance(value, _PlainText) and default is not None:
            return _as_type_of(type(default), str(value), key, ", which its default is")
        if isinstance(value, _PlainText):
            return str(value)
        return float(value) if type(default) is float and type(value) is int else value

    def required(self, key: str, type: type[T] = str) -> T:  # type: ignore[assignment]
        """The value as one of `type`. Raises ConfigError when no source has it, it is empty, or it is none such."""
        value = self._value(key)
        if value is None or value == "":
            raise ConfigError(f"{key} is not set; set it in the environment or in {self._where()}")
        if isinstance(value, type) and not isinstance(value, _PlainText):
            return value
        return cast("T", _as_type_of(type, str(value), key))

    def set(self, key: str, value: object) -> None:
        """Sets a value for this object, before all of its sources; changes no file and no environment."""
        self._set[key] = _PlainText(value) if isinstance(value, str) else value

    def has(self, key: str) -> bool:
        """True if a source has the key."""
        return self._value(key) is not None

    def get_all(self) -> dict[str, Any]:
        """Everything from all sources; that includes every secret of the environment."""
        below = (source.all() for source in reversed(self._sources))
        merged = dict(chain.from_iterable(values.items() for values in (*below, self._set)))
        return {key: str(value) if isinstance(value, _PlainText) else value for key, value in merged.items()}

    def __repr__(self) -> str:
        return f"<Config of {self._folder}>"

    def _value(self, key: str) -> Any:
        if key in self._set:
            return self._set[key]
        return next((value for one in self._sources if (value := one.get(key)) is not None), None)

    def _where(self) -> str:
        files = [one.file for one in self._sources if isinstance(one, _Variables | _File)]
        return files[-1] if files else "one of the sources"

    def _values_of(self, source: ConfigSource) -> _ConfigValues:
        if isinstance(source, Mapping):
            return _Given(source)
        if isinstance(source, str | os.PathLike):
            return _File(os.path.join(self._folder, os.fspath(source)), self.notes)
        raise TypeError(f"a source is a mapping or the name of a file, not {type(source).__name__}")


class _PlainText(str):
    """Text of a source that has nothing but text: it may be meant as a number."""

    __slots__ = ()


class _Given:
    """A mapping of the program, looked at anew each time."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def get(self, key: str) -> Any:
        return _marked(self._values.get(key))

    def all(self) -> Mapping[str, Any]:
        return self._values


class _Variables:
    """The environment, which is looked at anew each time, and the `.env` of a folder below it."""

    def __init__(self, environ: Mapping[str, str], folder: str, notes: list[str]) -> None:
        self.file = os.path.join(folder, ".env")
        self._environ = environ
        self._environment = Environment(environ, folder, notes)

    def get(self, key: str) -> Any:
        return _marked(self._environment.get(key))

    def all(self) -> Mapping[str, Any]:
        return {**self._environment.dotenv(), **self._environ}


class _Project:
    """[tool.katax] of the nearest pyproject.toml, read once."""

    def __init__(self, environ: Mapping[str, str], folder: str, notes: list[str]) -> None:
        self._environ = environ
        self._folder = folder
        self._notes = notes

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def all(self) -> Mapping[str, Any]:
        return self._values

    @cached_property
    def _values(self) -> Mapping[str, Any]:
        return next(self._tables(), {})

    def _tables(self) -> Iterator[Mapping[str, Any]]:
        for folder in upward(self._folder, self._environ):
            layer = read_layer(os.path.join(folder, "pyproject.toml"), self._notes)
            if layer is not None:
                yield cast("Mapping[str, Any]", layer.table.get("tool", {}).get("katax", {}))


class _File:
    """A file of a program's own, read once; without values when it is not there or not to be trusted."""

    def __init__(self, file: str, notes: list[str]) -> None:
        self.file = file
        self._notes = notes

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def all(self) -> Mapping[str, Any]:
        return self._values

    @cached_property
    def _values(self) -> Mapping[str, Any]:
        text = read_trusted(self.file, self._notes)
        return {} if text is None else _read(self.file, text)


def _read(file: str, text: str) -> Mapping[str, Any]:
    """The values of a file. Raises ConfigError when it is not what its name says."""
    if file.endswith(".toml"):
        return parse(file, text)
    if not file.endswith(".json"):
        return {name: _PlainText(value) for name, value in dotenv_of(text).items() if value is not None}
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: holds {type(values).__name__}, expected an object with the values")
    return values


def _marked(value: Any) -> Any:
    return _PlainText(value) if isinstance(value, str) else value


def _as_type_of(kind: type, text: str, key: str, why: str = "") -> Any:
    read: Callable[[str], Any] = _READERS.get(kind, kind)
    refusal = f"the value of {key} is no {_name(kind)}{why}"
    try:
        value = read(text)
    except (ValueError, TypeError, ArithmeticError):
        raise ConfigError(refusal) from None
    if not isinstance(value, kind):
        raise ConfigError(refusal)
    return value


def _name(kind: type) -> str:
    return {
        bool: "boolean",
        int: "whole number",
        float: "number",
        dict: "JSON object",
        list: "JSON list",
    }.get(kind, kind.__name__)


_BOOLEANS = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False, "": False,
}  # fmt: skip


def _boolean(text: str) -> bool:
    if text.strip().lower() not in _BOOLEANS:
        raise ValueError
    return _BOOLEANS[text.strip().lower()]


_READERS: Mapping[type, Callable[[str], Any]] = {
    bool: _boolean,
    list: json.loads,
    dict: json.loads,
    tuple: lambda text: tuple(json.loads(text)),
}
