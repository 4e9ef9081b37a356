"""Fixtures over real servers; `tests/README.md` lists them."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from .certificates import Certificates
from .fleet import ENGINES, NO_SETTINGS, Fleet
from .fresh import fresh_database
from .proxy import Address, Proxy
from .rooms import free_port
from .server import Server


@dataclass(frozen=True)
class Target:
    """An engine with a database of the test's own, for tests whose body runs on several engines."""

    engine: str
    url: str
    server: Server


class Throwaway(Protocol):
    """Start a private server; see Fleet.private."""

    def __call__(
        self,
        engine: str,
        *,
        full: bool = False,
        certificates: Certificates | None = None,
        client_certificate: bool = False,
        settings: "dict[str, str]" = ...,
    ) -> Server: ...


MakeFresh = Callable[[str | Server], Target]
MakeProxy = Callable[[Server | Target | str | Address], Proxy]


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """The servers of this test process."""
    with closing(Fleet()) as servers:
        yield servers


@pytest.fixture(scope="session")
def postgresql(fleet: Fleet) -> Server:
    return fleet.shared("postgresql")


@pytest.fixture(scope="session")
def mysql(fleet: Fleet) -> Server:
    """MariaDB, or MySQL where a URL or Docker brings it; `flavour` says which."""
    return fleet.shared("mysql")


@pytest.fixture(scope="session")
def mongodb(fleet: Fleet) -> Server:
    return fleet.shared("mongodb")


@pytest.fixture(scope="session")
def redis_server(fleet: Fleet) -> Server:
    return fleet.shared("redis")


@pytest.fixture
def fresh(fleet: Fleet, tmp_path: Path) -> Iterator[MakeFresh]:
    """`fresh("postgresql")` or `fresh(server)`: a new empty database, gone after the test."""
    with ExitStack() as databases:

        def make(where: str | Server) -> Target:
            if where == "sqlite":
                return _sqlite_target(tmp_path)
            server = fleet.shared(where) if isinstance(where, str) else where
            return Target(server.engine, databases.enter_context(fresh_database(server)), server)

        yield make


def _sqlite_target(folder: Path) -> Target:
    number = len(list(folder.glob("fresh*.db")))
    path = folder / f"fresh{number}.db"
    path.touch()
    server = Server(engine="sqlite", url=f"sqlite:///{path}", version="", source="Python's sqlite3")
    return Target("sqlite", server.url, server)


@pytest.fixture
def postgresql_url(fresh: MakeFresh) -> str:
    return fresh("postgresql").url


@pytest.fixture
def mysql_url(fresh: MakeFresh) -> str:
    return fresh("mysql").url


@pytest.fixture
def mongodb_url(fresh: MakeFresh) -> str:
    return fresh("mongodb").url


@pytest.fixture
def redis_url(fresh: MakeFresh) -> str:
    return fresh("redis").url


@pytest.fixture
def sqlite_url(fresh: MakeFresh) -> str:
    return fresh("sqlite").url


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, fresh: MakeFresh) -> Target:
    """Runs the test once on each engine."""
    return fresh(request.param)


@pytest.fixture(params=("postgresql", "mysql", "sqlite"))
def sql_engine(request: pytest.FixtureRequest, fresh: MakeFresh) -> Target:
    """Runs the test once on each SQL engine."""
    return fresh(request.param)


@pytest.fixture
def throwaway(fleet: Fleet) -> Iterator[Throwaway]:
    """`throwaway("mysql", …)`: a server that the test may kill, freeze and restart."""
    servers: list[Server] = []

    def make(
        engine: str,
        *,
        full: bool = False,
        certificates: Certificates | None = None,
        client_certificate: bool = False,
        settings: dict[str, str] | None = None,
    ) -> Server:
        server = fleet.private(
            engine,
            full=full,
            certificates=certificates,
            client_certificate=client_certificate,
            settings=settings or NO_SETTINGS,
        )
        servers.append(server)
        return server

    yield make
    for server in servers:
        fleet.dismiss(server)


@pytest.fixture
def proxy() -> Iterator[MakeProxy]:
    """`proxy(server)`, `proxy(target)`, `proxy(url)` or `proxy((host, port))`: see Proxy."""
    with ExitStack() as proxies:

        def make(target: Server | Target | str | Address) -> Proxy:
            made = Proxy(target) if isinstance(target, tuple) else Proxy.for_url(_url(target))
            return proxies.enter_context(closing(made))

        yield make


def _url(target: Server | Target | str) -> str:
    return target if isinstance(target, str) else target.url


@pytest.fixture
def closed_port() -> int:
    """A loopback port that nobody listens on, and that nobody else in the suite gets."""
    return free_port()


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A loopback port that completes the TCP handshake and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]
