"""Connection URLs, taken apart. No message here quotes a URL: any part of a mistyped one may be the password."""

from __future__ import annotations

import os
from typing import Any

from katax_cli.core.settings import DEFAULT_PORTS, Secret
from katax_cli.errors import nearest

SCHEMES = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "mongodb": "mongodb",
    "mongodb+srv": "mongodb",
    "redis": "redis",
    "rediss": "redis",
    "sentinel": "redis",
    "cluster": "redis",
    "unix": "redis",
    "sqlite": "sqlite",
}
# `postgresql+psycopg`: SQLAlchemy names a driver behind the server. `mongodb+srv` means something else.
_WITH_DRIVER = ("postgresql", "postgres", "mysql", "mariadb", "sqlite")
_SENTINEL_PORT = 26379
_ENCODE = "percent-encode @ : / ? in user and password"


def scheme_of(url: str) -> str:
    """The scheme, one of SCHEMES, without SQLAlchemy's name of a driver. Raises ValueError."""
    scheme, found, rest = url.partition(":")
    scheme = scheme.lower()
    if scheme in SCHEMES and found:
        return scheme
    server, _, driver = scheme.partition("+")
    if server in _WITH_DRIVER and driver.replace("_", "").isalnum() and rest.startswith("//"):
        return server
    # Without '//' it may be anything, a password too.
    if not rest.startswith("//") or not scheme.replace("+", "").isalnum():
        raise ValueError(f"is no URL, expected one that starts with {', '.join(SCHEMES)} and '://'")
    near = server if server in SCHEMES else nearest(scheme, SCHEMES)
    hint = f"did you mean {near}://? " if near else ""
    raise ValueError(f"has the unknown scheme {scheme!r}; {hint}known schemes: {', '.join(SCHEMES)}")


def parse_url(url: str, folder: str) -> dict[str, Any]:
    """Returns the fields of ConnectionSettings that a URL holds; `options` is what is left of its query.

    Relative SQLite files start in `folder`. Raises ValueError whose text starts with a verb.
    """
    if url == "embedded":
        return {"type": "redis", "embedded": True, "options": {}}
    scheme = scheme_of(url)
    rest, _, query = url.partition(":")[2].partition("?")
    options = _query(query)
    if scheme == "sqlite":
        return _sqlite(rest, options, folder)
    if not rest.startswith("//"):
        raise ValueError(f"has no '//' after {scheme!r}, expected {scheme}://host/…")
    authority, _, path = rest[2:].partition("/")
    if "@" in path and scheme != "unix":
        raise ValueError(f"has an '@' behind its first '/'; {_ENCODE}")
    user, password, hosts = _userinfo(authority)
    fields: dict[str, Any] = {"type": SCHEMES[scheme], "user": user, "password": password, "options": options}
    if scheme == "unix":
        fields.update(socket="/" + decode(path), database=database_number(options.pop("db", None)))
    else:
        _place(fields, scheme, hosts, decode(path))
    return fields


def _place(fields: dict[str, Any], scheme: str, hosts: str, path: str) -> None:
    """Fills in servers and database."""
    kind = fields["type"]
    options = fields["options"]
    hosts = hosts or _host_option(options)
    port = _SENTINEL_PORT if scheme == "sentinel" else DEFAULT_PORTS[kind]
    nodes = [_node(host, port) for host in (hosts or "localhost").split(",")]
    socket = options.pop("unix_socket", None) or options.pop("socket", None)
    if nodes[0][0].startswith("/"):
        socket = nodes[0][0]
    if scheme == "mongodb+srv":
        fields.update(host=nodes[0][0], srv=True)
    elif socket:
        fields.update(socket=socket, port=nodes[0][1] if kind == "postgresql" else None)
    else:
        fields.update(host=nodes[0][0], port=nodes[0][1], nodes=tuple(nodes))
    if kind == "redis":
        _redis(fields, scheme, path)
    else:
        fields["database"] = path or options.pop("dbname", None)


def _redis(fields: dict[str, Any], scheme: str, path: str) -> None:
    options = fields["options"]
    service, _, number = path.partition("/") if scheme == "sentinel" else ("", "", path)
    if scheme == "sentinel":
        if not service:
            raise ValueError("names no service, expected sentinel://host:26379/SERVICE/0")
        fields["service"] = service
    if scheme in ("sentinel", "cluster"):
        fields["topology"] = scheme
    fields["database"] = database_number(number or options.pop("db", None))
    if scheme == "cluster" and fields["database"] not in (None, "0"):
        raise ValueError("has a database number, but a cluster has only database 0")


def database_number(text: str | None) -> str | None:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("has a Redis database that is not a number, expected redis://host:6379/0")
    return text or None


def _host_option(options: dict[str, str]) -> str:
    """libpq's `?host=/run/postgresql&port=5433`."""
    host, port = options.pop("host", ""), options.pop("port", "")
    return f"{host}:{port}" if port else host


def _userinfo(authority: str) -> tuple[str | None, Secret | None, str]:
    userinfo, found, hosts = authority.rpartition("@")
    if not found:
        return None, None, authority
    user, _, password = userinfo.partition(":")
    return decode(user) or None, Secret.of(decode(password)) if password else None, hosts


def _node(text: str, default_port: int) -> tuple[str, int]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"has a port that is no number from 1 to 65535; {_ENCODE}")
    return decode(host) or "localhost", int(port) if port else default_port


def _query(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split("&") if pair)
    return {decode(name): decode(value) for name, _, value in pairs}


def _sqlite(rest: str, options: dict[str, str], folder: str) -> dict[str, Any]:
    path = decode(rest)
    if path.startswith("//"):
        if path[2:3] not in ("", "/"):
            raise ValueError("has two slashes, expected sqlite:///relative.db or sqlite:////absolute.db")
        path = path[3:]
    fields: dict[str, Any] = {"type": "sqlite", "path": sqlite_path(path, folder), "options": options}
    if options.get("mode") == "ro":
        del options["mode"]
        fields["read_only"] = True
    return fields


def sqlite_path(path: str, folder: str) -> str:
    """A database file, relative ones from `folder`; no name or `:memory:` is a database in memory."""
    return ":memory:" if path in ("", ":memory:") else os.path.normpath(os.path.join(folder, path))


def decode(text: str) -> str:
    """Percent-decodes."""
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text)


_SECRET_WORDS = ("pass", "secret", "token", "pwd", "authmechanismproperties")


def has_secret_option(url: str) -> bool:
    """True if a parameter of the URL holds a secret. Raises ValueError for what is no URL."""
    names = parse_url(url, "/")["options"]
    return any(word in name.lower() for name in names for word in _SECRET_WORDS)


def mask_url(url: str) -> str:
    """The URL for people: password and secret-looking options replaced by `***`."""
    head, found, rest = url.partition("://")
    if not found:
        return url
    # The last '@' of all, so that no part of a password with a '/' or '?' in it is taken for something else.
    userinfo, at, server = rest.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    place, question, query = server.partition("?")
    pairs = "&".join(_masked_pair(pair) for pair in query.split("&"))
    return f"{head}://{user}{':***' if colon else ''}{at}{place}{question}{pairs}"


def _masked_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}=***" if equals and any(word in decode(name).lower() for word in _SECRET_WORDS) else pair
