"""A connection's table becomes ConnectionSettings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from katax_cli.core.engine_names import SERVER_ENGINES, SQL_SERVERS
from katax_cli.core.settings import DEFAULT_PORTS, ConnectionSettings, PoolSettings, Secret
from katax_cli.profiles.model.foreign import is_foreign
from katax_cli.profiles.model.secrets import SecretOrigin, secret_of
from katax_cli.profiles.model.tls import tls_from_options, tls_from_table
from katax_cli.profiles.model.urls import database_number, parse_url, sqlite_path

_PARTS = ("host", "port", "user", "database", "socket")
_COPIED = (
    "connect_timeout",
    "statement_timeout",
    "read_only",
    "prefix",
    "decimals",
    "pooler",
    "expect",
    "ssh",
)


class ConnectionContext:
    """The part of a profile that its connections need."""

    __slots__ = ("environ", "folder", "read_only")

    def __init__(self, folder: str, *, environ: Mapping[str, str], read_only: bool = False) -> None:
        self.folder = folder
        self.environ = environ
        self.read_only = read_only


class Flaw(ValueError):
    """Something is wrong with one key of a connection; the text starts with a verb, the subject is the key."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        super().__init__(reason)


def build_connection(
    name: str, table: Mapping[str, Any], context: ConnectionContext, *, needs_approval: str | None = None
) -> ConnectionSettings:
    """Returns the settings of one connection. Raises Flaw."""
    place = SecretOrigin(
        _password_key(table, name), context.folder, environ=context.environ, needs_approval=needs_approval
    )
    fields = _where(table, context.folder)
    try:
        secret = secret_of(table, place)
        if secret is not None and fields.get("password") is not None:
            raise ValueError("has a password in its url and another one; keep one")
    except ValueError as error:
        raise Flaw("", str(error)) from None
    try:
        pool = PoolSettings(**table.get("pool", {}))
    except ValueError as error:
        raise Flaw("pool", str(error).removeprefix("pool ")) from None
    fields.update({key: table[key] for key in _COPIED if key in table})
    fields["password"] = secret or fields.get("password")
    fields["read_only"] = context.read_only or table.get("read_only", False) or fields.get("read_only", False)
    if "tls" in table:
        fields["tls"] = tls_from_table(table["tls"], context.folder)
    main = ConnectionSettings(name=name, pool=pool, **fields)
    _check_fit(main, table)
    return replace(
        main,
        direct=_variant(main, "direct", table.get("direct_url"), context.folder, "direct_url"),
        replicas=tuple(_replicas(main, table.get("replicas", ()), context.folder)),
    )


def _password_key(table: Mapping[str, Any], name: str) -> str:
    kind = next((key for key in ("password_command", "password_file", "keyring") if key in table), "password")
    return f"{kind} of {name!r}"


def _where(table: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Type, server, user and database: from the URL or from the single keys."""
    if "url" not in table:
        return _from_parts(table, folder)
    both = next((part for part in _PARTS if part in table), None)
    if both is not None:
        raise Flaw("", f"has both url and {both}; keep one")
    fields = _from_url(table["url"], "url", folder)
    if table.get("type", fields["type"]) != fields["type"]:
        raise Flaw("type", f"is {table['type']!r}, but the url is one of {fields['type']}")
    return fields


def _from_url(url: str, key: str, folder: str) -> dict[str, Any]:
    try:
        fields = parse_url(url, folder)
        options = fields["options"]
        implied = url.lower().startswith(("rediss:", "mongodb+srv:"))
        fields["tls"] = tls_from_options(options, folder, always=implied)
    except ValueError as error:
        raise Flaw(key, str(error)) from None
    fields["ignored"] = tuple(name for name in options if is_foreign(fields["type"], name))
    for name in fields["ignored"]:
        del options[name]
    password = options.pop("password", None)
    if password:
        fields["password"] = Secret.of(password)
    fields["user"] = fields.get("user") or options.pop("user", None)
    if options.get("connect_timeout", "").isdigit() and int(options["connect_timeout"]):
        fields["connect_timeout"] = float(options.pop("connect_timeout"))
    return fields


def _from_parts(table: Mapping[str, Any], folder: str) -> dict[str, Any]:
    kind = table.get("type")
    if kind is None:
        raise Flaw("", "has neither url nor type; write one of them")
    if kind == "sqlite":
        if "database" not in table:
            raise Flaw("", "has no database; write url = 'sqlite:///file.db' or database = 'file.db'")
        return {"type": kind, "path": sqlite_path(table["database"], folder)}
    fields = {part: table[part] for part in ("user", "database") if part in table}
    if kind == "redis" and "database" in table:
        try:
            database_number(table["database"])
        except ValueError:
            raise Flaw("database", "is not a number, which is what Redis databases are called") from None
    port = table.get("port", DEFAULT_PORTS[kind])
    if not 0 < port < 65536:
        raise Flaw("port", f"is {port}, expected 1 to 65535")
    if "socket" in table:
        if "host" in table:
            raise Flaw("", "has both socket and host; keep one")
        fields.update(socket=os.path.normpath(os.path.join(folder, table["socket"])))
        if kind == "postgresql":
            fields.update(port=port)
    else:
        host = table.get("host", "localhost")
        fields.update(host=host, port=port, nodes=((host, port),))
    return {"type": kind, **fields}


def _check_fit(settings: ConnectionSettings, table: Mapping[str, Any]) -> None:
    """A key that its kind of server would silently ignore is a mistake."""
    fits = {
        "prefix": ("redis",),
        "pooler": SQL_SERVERS,
        "direct_url": SQL_SERVERS,
        "replicas": SQL_SERVERS,
        "tls": SERVER_ENGINES,
    }
    for key, kinds in fits.items():
        if key in table and settings.type not in kinds:
            raise Flaw(key, f"means nothing to {settings.type}; it is for {', '.join(kinds)}")
    if settings.ssh is not None:
        _check_ssh(settings)


def _check_ssh(settings: ConnectionSettings) -> None:
    """A tunnel leads to one server."""
    word = settings.ssh or ""
    if not word or word.startswith("-") or any(c.isspace() for c in word):
        raise Flaw("ssh", "is no destination, expected 'user@host' or 'ssh://user@host:22'")
    one = (
        settings.topology == "single" and len(settings.nodes) <= 1 and not (settings.srv or settings.embedded)
    )
    if settings.type == "sqlite" or not one:
        raise Flaw(
            "ssh", "leads to one server; it is not for files, embedded servers, clusters and several hosts"
        )


def _variant(
    main: ConnectionSettings, suffix: str, url: str | None, folder: str, key: str
) -> ConnectionSettings | None:
    """The same connection at another address; what its URL leaves out is as in the main one."""
    if url is None:
        return None
    fields = _from_url(url, key, folder)
    if fields["type"] != main.type:
        raise Flaw(key, f"is a url of {fields['type']}, but the connection is one of {main.type}")
    # A password belongs to its user: another user without one has none.
    if fields.get("user") in (None, main.user):
        fields["user"], fields["password"] = main.user, fields.get("password") or main.password
    fields["tls"] = fields["tls"] or main.tls
    fields["database"] = fields.get("database") or main.database
    blank: dict[str, Any] = {"host": None, "port": None, "socket": None, "nodes": (), "pooler": None}
    return replace(main, **{**blank, **fields, "name": f"{main.name}/{suffix}"})


def _replicas(main: ConnectionSettings, urls: tuple[str, ...], folder: str) -> list[ConnectionSettings]:
    replicas = [
        _variant(main, f"replica-{at}", url, folder, "replicas") for at, url in enumerate(urls, start=1)
    ]
    return [replace(replica, read_only=True, expect=None) for replica in replicas if replica is not None]


def variants_of(main: ConnectionSettings) -> list[ConnectionSettings]:
    """The connection and its other addresses."""
    return [main, *main.replicas, *([main.direct] if main.direct else [])]
