"""Configuration of a program: environment > .env > [tool.katax] of pyproject.toml > default."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, overload

from katax_cli.errors import ConfigError
from katax_cli.profiles.sources.document import read_layer
from katax_cli.profiles.sources.environment import Environment
from katax_cli.profiles.sources.home import upward

T = TypeVar("T")


class Config:
    """Values by name. `.env` is the one of `folder`; pyproject.toml is the nearest from there upward.

    The environment is looked at anew each time, the files once. Files that others could have written are
    ignored; `notes` says so.
    """

    def __init__(self, folder: str | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._folder = os.path.abspath(folder or os.getcwd())
        self._environ = os.environ if environ is None else environ
        self.notes: list[str] = []
        self._environment = Environment(self._environ, self._folder, self.notes)
        self._project: Mapping[str, Any] | None = None

    @overload
    def get(self, key: str) -> Any: ...
    @overload
    def get(self, key: str, default: T) -> T: ...
    def get(self, key: str, default: Any = None) -> Any:
        """The value of the first source that has the key, else the default.

        Text from the environment or `.env` becomes what the default is: a boolean (true, yes, on, 1 and their
        opposites), a number, a list or table (JSON), or whatever the default's type makes of a string. Raises
        ConfigError, which does not quote it, when it cannot.
        """
        text = self._environment.get(key)
        if text is not None:
            return text if default is None else _as_type_of(default, text, key)
        value = self._tool_katax().get(key, default)
        return float(value) if type(default) is float and type(value) is int else value

    def has(self, key: str) -> bool:
        """True if a source has the key."""
        return self._environment.get(key) is not None or key in self._tool_katax()

    def get_all(self) -> dict[str, Any]:
        """Everything from all sources; that includes every secret of the environment."""
        return {**self._tool_katax(), **self._environment.dotenv(), **self._environ}

    def __repr__(self) -> str:
        return f"<Config of {self._folder}>"

    def _tool_katax(self) -> Mapping[str, Any]:
        if self._project is None:
            self._project = self._read_project()
        return self._project

    def _read_project(self) -> Mapping[str, Any]:
        for folder in upward(self._folder, self._environ):
            layer = read_layer(os.path.join(folder, "pyproject.toml"), self.notes)
            if layer is not None:
                return cast("Mapping[str, Any]", layer.table.get("tool", {}).get("katax", {}))
        return {}


def _as_type_of(default: object, text: str, key: str) -> Any:
    kind = type(default)
    read = _READERS.get(kind, kind)
    try:
        value = read(text)
    except (ValueError, TypeError, ArithmeticError):
        raise ConfigError(f"the value of {key} is no {_name(kind)}, which its default is") from None
    if not isinstance(value, kind):
        raise ConfigError(f"the value of {key} is no {_name(kind)}, which its default is")
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
