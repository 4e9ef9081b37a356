"""Keeps secrets out of what is written: by the names under which they stand, and by their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MASK = "***"
_SHORTEST = 4
"""Shorter values would be found in every second word."""
_DEEPEST = 8
_NAMES = (
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "privatekey",
    "accesskey",
    "connectionstring",
)
_LOGIN = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s\"']+(?=@)", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """True for names such as `db_password`, `apiKey`, `X-Auth-Token`."""
    plain = "".join(c for c in name.lower() if c.isalnum())
    return any(word in plain for word in _NAMES)


class Redactor:
    """Masks values under telling names, passwords in URLs, and every occurrence of `secrets()`.

    `secrets` is asked at each use: passwords become known when connections are opened.
    """

    def __init__(self, secrets: Callable[[], Iterable[str]] = tuple) -> None:
        self._secrets = secrets

    def text(self, text: str) -> str:
        """`text` without the secrets."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            if len(secret) >= _SHORTEST and secret in text:
                text = text.replace(secret, MASK)
        return _LOGIN.sub(rf"\g<head>{MASK}", text) if "://" in text else text

    def fields(self, fields: Mapping[str, object]) -> dict[str, object]:
        """The same for named values, however deep."""
        return {str(name): self._value(name, value, 0) for name, value in fields.items()}

    def _value(self, name: object, value: Any, depth: int) -> object:
        if isinstance(name, str) and value is not None and is_secret_name(name):
            return MASK
        if value is None or isinstance(value, bool | int | float):
            return value
        if depth < _DEEPEST and isinstance(value, Mapping):
            return {str(key): self._value(key, each, depth + 1) for key, each in value.items()}
        if depth < _DEEPEST and isinstance(value, list | tuple | set | frozenset):
            return [self._value(None, each, depth + 1) for each in value]
        if isinstance(value, BaseException):
            return self.text(f"{type(value).__name__}: {value}")
        return self.text(str(value))
