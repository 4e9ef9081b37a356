"""Leads a program through proxies: wherever its environment or its words name a server, they name the proxy instead.

Nothing is added that was not there: a password stays where it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

from katax_cli.core.settings import DEFAULT_PORTS, ConnectionSettings
from katax_cli.services.shutdown_drill.proxy import Proxy

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_URL = re.compile(r"[a-z][a-z0-9+]*://[^\s'\"]+")


class Route(NamedTuple):
    """A server by its address, and the proxy before it."""

    name: str
    host: str
    port: int
    proxy: Proxy


def routes(connections: Iterable[ConnectionSettings]) -> list[Route]:
    """A proxy before each server that has one TCP address."""
    return [
        Route(connection.name, connection.host, connection.port, Proxy((connection.host, connection.port)))
        for connection in connections
        if connection.host is not None and connection.port is not None
        if connection.topology == "single" and len(connection.nodes) <= 1 and not connection.srv
    ]


def led(environ: Mapping[str, str], ways: Sequence[Route]) -> dict[str, str]:
    """The environment with every `host:port` and URL of a server changed, and libpq's PGHOST and PGPORT."""
    changed = {name: rewritten(value, ways) for name, value in environ.items()}
    for way in ways:
        named = (environ.get("PGHOST"), environ.get("PGPORT", str(DEFAULT_PORTS["postgresql"])))
        if named[0] in _names(way.host) and named[1] == str(way.port):
            changed |= {"PGHOST": "127.0.0.1", "PGPORT": str(way.proxy.port)}
    return changed


def rewritten(text: str, ways: Sequence[Route]) -> str:
    """A value or a word with every address of a server replaced by its proxy's."""
    for way in ways:
        there = f"127.0.0.1:{way.proxy.port}"
        for host in _names(way.host):
            text = re.sub(rf"(?<![\w.-]){re.escape(host)}:{way.port}(?!\d)", there, text)
        text = _URL.sub(partial(_with_port, way), text)
    return text


def _with_port(way: Route, match: re.Match[str]) -> str:
    """The proxy's URL for one that leaves out the usual port of its kind; any other URL as it is."""
    url = match[0]
    try:
        parts = urlsplit(url)
        bare = parts.port is None and parts.hostname in {name.strip("[]") for name in _names(way.host)}
    except ValueError:
        return url
    kind = parts.scheme.partition("+")[0]
    kind = {"postgres": "postgresql", "mariadb": "mysql"}.get(kind, kind)
    if not bare or DEFAULT_PORTS.get(kind) != way.port:
        return url
    login = parts.netloc.rpartition("@")[0]
    place = f"{login}@127.0.0.1" if login else "127.0.0.1"
    return parts._replace(netloc=f"{place}:{way.proxy.port}").geturl()


def _names(host: str) -> frozenset[str]:
    """The same host by other names: loopback has several."""
    return _LOOPBACK if host in _LOOPBACK or host == "::1" else frozenset({host})
