"""Reads tables by the key table: unknown keys, wrong types and missing keys become problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from katax_cli.core.text.duration import parse_duration
from katax_cli.errors import nearest
from katax_cli.profiles.model.keys import Key
from katax_cli.profiles.model.layer import FromEnvironment, Path, Unset, dotted
from katax_cli.profiles.model.problems import Problems

_WORDS = {
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    str: "a string",
    FromEnvironment: "text from the environment",
    list: "a list",
    dict: "a table",
}


class _Wrong(Exception):
    """The expected value, as an error."""


def read_table(
    value: Mapping[str, Any], keys: Mapping[str, Key], path: Path, problems: Problems
) -> dict[str, Any]:
    """Returns the values that are right, durations as seconds and lists as tuples."""
    known = {}
    for name, each in value.items():
        if name not in keys:
            problems.add((*path, name), *unknown_key(name, keys, path))
        elif not isinstance(each, Unset):
            known[name] = read_value(each, keys[name], (*path, name), problems)
    for name, key in keys.items():
        if key.required and name not in value:
            _missing(name, key, path, problems)
    return {name: each for name, each in known.items() if each is not None}


def read_value(value: Any, key: Key, path: Path, problems: Problems) -> Any:
    """Returns the value as its kind says; None when it is wrong (a problem says why)."""
    if key.kind == "table" or key.kind == "tables":
        return _read_tables(value, key, path, problems)
    try:
        return _READERS[key.kind](value, key)
    except _Wrong as expected:
        problems.add(path, f"{dotted(path)} is {_seen(value, key)}, expected {expected}")
    return None


def _read_tables(value: Any, key: Key, path: Path, problems: Problems) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        problems.add(path, f"{dotted(path)} is {_seen(value, key)}, expected a table")
        return None
    if key.kind == "table":
        return read_table(value, key.keys or {}, path, problems)
    one = Key("table", key.doc, keys=key.keys)
    tables = {name: read_value(each, one, (*path, name), problems) for name, each in value.items()}
    return {name: table for name, table in tables.items() if table is not None}


def unknown_key(name: str, keys: Mapping[str, Key], path: Path) -> tuple[str, str]:
    """The message and the remedy for a key that does not exist."""
    near = nearest(name, keys)
    where = f" in [{dotted(path)}]" if path else ""
    hint = f"did you mean {near!r}?" if near else f"known keys: {', '.join(keys)}"
    return f"unknown key {name!r}{where}", hint


def _missing(name: str, key: Key, path: Path, problems: Problems) -> None:
    where = f"[{dotted(path)}]" if path else "the profile"
    choices = f"; set it to {_either(key.choices)}" if key.choices else ""
    problems.add((*path, name), f"{where} has no {name}{choices}")


def _seen(value: Any, key: Key) -> str:
    """The written value: the text itself only where it cannot be a secret."""
    if key.kind == "choice" and type(value) is str:
        return repr(value)
    if key.kind in ("seconds", "positive", "number", "integer") and type(value) in (str, int, float):
        return repr(value)
    return _WORDS.get(type(value), "a date or time")


def _either(choices: tuple[str, ...]) -> str:
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))


def _string(value: Any, key: Key) -> str:
    if not isinstance(value, str):
        raise _Wrong("a string")
    # A plain string again, so that what is stored has no class of its own.
    return str.__str__(value)


def _boolean(value: Any, key: Key) -> bool:
    if isinstance(value, FromEnvironment) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _integer(value: Any, key: Key) -> int:
    if isinstance(value, FromEnvironment) and value.isascii() and value.isdigit():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Wrong("a whole number")
    return value


def _number(value: Any, key: Key) -> float:
    if isinstance(value, FromEnvironment):
        try:
            return float(value)
        except ValueError:
            raise _Wrong("a number") from None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _Wrong("a number")
    return float(value)


def _seconds(value: Any, key: Key) -> float:
    expected = "seconds or a duration such as 250ms, 30s, 5m, 2h, 7d"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _Wrong(expected)
    try:
        return parse_duration(str(value))
    except ValueError:
        raise _Wrong(expected) from None


def _positive(value: Any, key: Key) -> float:
    seconds = _seconds(value, key)
    if seconds == 0:
        raise _Wrong("more than 0 seconds")
    return seconds


def _choice(value: Any, key: Key) -> str:
    if value not in key.choices:
        raise _Wrong(_either(key.choices))
    return str.__str__(value)


def _strings(value: Any, key: Key) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str | Unset) for each in value):
        raise _Wrong("a list of strings")
    return tuple(str.__str__(each) for each in value if isinstance(each, str))


def _command(value: Any, key: Key) -> str | tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        return str.__str__(value)
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return tuple(str.__str__(each) for each in value)
    raise _Wrong("a command as a string or a list of words")


def _switch(value: Any, key: Key) -> bool | str:
    if not isinstance(value, bool | str):
        raise _Wrong("true, false or an expression such as '${env:APP_ENV} == production'")
    return value


_READERS: Mapping[str, Callable[[Any, Key], Any]] = {
    "string": _string,
    "secret": _string,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "seconds": _seconds,
    "positive": _positive,
    "choice": _choice,
    "strings": _strings,
    "command": _command,
    "switch": _switch,
}
