"""Tokens of Socket.IO servers: what clients send, and the admin token that a first start makes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hmac import compare_digest
from secrets import token_hex, token_urlsafe
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from katax_cli.core.settings import Secret
from katax_cli.errors import ConfigError
from katax_cli.profiles.model.model import WsSettings
from katax_cli.profiles.sources.home import ensure_home
from katax_cli.profiles.sources.ownership import refuse_untrusted


def token_file(home: str, name: str) -> str:
    """The file of a server's admin token, inside `.katax/`."""
    return os.path.join(home, f"ws-{quote(name, safe='')}.token")


def known_admin_token(settings: WsSettings, home: str) -> Secret:
    """The admin token as configured, else the one that a server on this machine made. Raises ConfigError."""
    if settings.admin_token is not None:
        return settings.admin_token
    path = token_file(home, settings.name)
    if not os.path.exists(path):
        raise ConfigError(
            f"no admin token of ws {settings.name!r} here; start 'katax ws serve' first, "
            "or name one with --token env:NAME"
        )
    return _read(path)


def made_admin_token(settings: WsSettings, home: str) -> Secret:
    """The same for the server itself, which makes one (0600) on its first start."""
    if settings.admin_token is not None:
        return settings.admin_token
    path = token_file(ensure_home(home), settings.name)
    if not os.path.exists(path):
        _make(path)
    return _read(path)


def same(given: object, expected: Secret) -> bool:
    """True if they are equal; takes as long for any that is not."""
    return isinstance(given, str) and compare_digest(given.encode(), expected.reveal().encode())


def sent_token(auth: object, headers: dict[str, str]) -> object:
    """The token of a client: `auth.token` of the handshake, else an `Authorization: Bearer` header."""
    if isinstance(auth, dict) and "token" in auth:
        return auth["token"]
    scheme, _, token = headers.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token if scheme.lower() == "bearer" else None


def address_of(environ: Mapping[str, Any]) -> str:
    """The address of a client: behind a proxy the proxy's."""
    return str((environ["asgi.scope"].get("client") or ["unknown"])[0])


def headers_of(environ: Mapping[str, Any]) -> Mapping[str, str]:
    """The headers of a client's request, names in small letters."""
    return MappingProxyType(
        {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in environ["asgi.scope"]["headers"]
        }
    )


def without_token(auth: object) -> object:
    """The client's own handshake data, without the server's token."""
    if isinstance(auth, dict):
        return {key: value for key, value in auth.items() if key != "token"}
    return auth


def _read(path: str) -> Secret:
    refuse_untrusted(path)
    try:
        with open(path, encoding="ascii") as file:
            token = file.read().strip()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}; run this as the user of the server"
        ) from error
    if not token:
        raise ConfigError(f"{path} is empty; delete it, and the next start makes another")
    return Secret.of(token)


def _make(path: str) -> None:
    """Whole or not at all, and the same for servers that start together: the first link wins."""
    part = f"{path}.{token_hex(4)}"
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(token_urlsafe(32) + "\n")
    try:
        os.link(part, path)
    except FileExistsError:
        return
    finally:
        os.unlink(part)
