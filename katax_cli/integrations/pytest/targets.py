"""The server behind what a test has in hand."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, urlunsplit

from katax_cli.core.settings import ConnectionSettings
from katax_cli.integrations.pytest.fault_proxy import FaultProxy, HostPort
from katax_cli.services.databases.database import Database

MakeFaultProxy = Callable[[str | HostPort | Database], FaultProxy]
"""The type of the fixture `katax_fault_proxy`."""


def proxy_before(target: str | HostPort | Database) -> FaultProxy:
    """A fault proxy before it. Raises ValueError for what is reached by no wire, SQLite's files among it."""
    if isinstance(target, str):
        return FaultProxy.for_url(target)
    if isinstance(target, Database):
        return _before_database(target)
    return FaultProxy(target)


def _before_database(database: Database) -> FaultProxy:
    settings = database.settings
    if settings.embedded:
        from katax_cli.engines.redis.embedded import Home

        database.ping()  # the server is started when it is first used
        return FaultProxy(str(Home.of(str(settings.path)).socket()), url="redis://unix/0")
    if not settings.host or not settings.port:
        raise ValueError(f"a fault proxy stands before a server; {database.name!r} is {settings.address}")
    return FaultProxy((settings.host, settings.port), url=_url(settings))


def _url(settings: ConnectionSettings) -> str:
    user = quote(settings.user or "", safe="")
    password = settings.password.reveal() if settings.password else ""
    login = f"{user}:{quote(password, safe='')}@" if user or password else ""
    database = quote(settings.database or "", safe="")
    return urlunsplit((settings.type, f"{login}{settings.host}:{settings.port}", f"/{database}", "", ""))
