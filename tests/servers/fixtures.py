"""Fixtures over real servers; `tests/README.md` lists them."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pytest

from tests.servers import pgbouncer as pooler
from tests.servers import redis
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.fleet import ENGINES, NO_SETTINGS, Fleet
from tests.servers.fresh import fresh_database
from tests.servers.object_store import ObjectServer, launch_object_store
from tests.servers.proxy import Address, Proxy
from tests.servers.rooms import free_port
from tests.servers.server import Server, reroute

STATEMENTS = "pg_stat_statements"


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
def mariadb(fleet: Fleet) -> Server:
    """MariaDB even where `mysql` is MySQL proper."""
    return fleet.mariadb()


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


@pytest.fixture(scope="session")
def postgresql_full(fleet: Fleet) -> Server:
    """Debian's build: pg_stat_statements preloaded (CREATE EXTENSION is the test's), TLS compiled in."""
    return fleet.variant("postgresql", settings={"shared_preload_libraries": STATEMENTS})


@pytest.fixture(scope="session")
def redis7(fleet: Fleet) -> Server:
    """Redis of the Debian release, 7 or later: functions, ACL, TLS compiled in."""
    return fleet.variant("redis")


@pytest.fixture(scope="session")
def redis_acl(fleet: Fleet) -> Server:
    """The user of its URL may touch `app:*` only; the password of user `default` is that of every test Redis."""
    acl_file = fleet.room.folder("acl") / "users.acl"
    acl_file.write_text(redis.ACL)
    server = fleet.variant("redis", settings={"aclfile": str(acl_file)})
    login = f"{redis.ACL_USER}:{redis.ACL_PASSWORD}"
    return replace(server, url=f"redis://{login}@{server.host}:{server.port}/0")


@pytest.fixture(scope="session")
def certificates(fleet: Fleet) -> Certificates:
    """The authority of the tls_* servers, and a client certificate that it signed."""
    return make_certificates(fleet.room.folder("ca"))


@pytest.fixture(scope="session")
def tls_postgresql(fleet: Fleet, certificates: Certificates) -> Server:
    """TLS only, for host localhost; for other certificates see `throwaway` and `make_certificates`."""
    return fleet.variant("postgresql", certificates=certificates)


@pytest.fixture(scope="session")
def tls_mysql(fleet: Fleet, certificates: Certificates) -> Server:
    return fleet.variant("mysql", certificates=certificates)


@pytest.fixture(scope="session")
def tls_redis(fleet: Fleet, certificates: Certificates) -> Server:
    return fleet.variant("redis", certificates=certificates)


@pytest.fixture(scope="session")
def pgbouncer(fleet: Fleet, postgresql: Server) -> Server:
    """In transaction mode before the session's PostgreSQL; any database of that is reached through it."""
    return fleet.adopt(pooler.launch(postgresql, fleet.room.folder("bouncer")))


@pytest.fixture
def pgbouncer_url(pgbouncer: Server, postgresql_url: str) -> str:
    """The way through PgBouncer to the database of `postgresql_url`."""
    return reroute(postgresql_url, pgbouncer.host, pgbouncer.port)


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


@pytest.fixture
def unreachable_port() -> Iterator[int]:
    """A loopback port where connecting hangs, as behind a firewall that drops packets: its backlog is full."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture(scope="session")
def object_server(fleet: Fleet) -> Iterator[ObjectServer]:
    """An S3 server for the whole session."""
    server = launch_object_store(fleet.room.folder("moto"))
    yield server
    server.process.discard()


@pytest.fixture
def bucket(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> ObjectServer:
    """The same server, with its address and keys in the environment; take a prefix of the test's own.

    Clients share what they read of S3: to read it anew takes ten times what else a client takes.
    """
    monkeypatch.setattr("botocore.session.create_loader", lambda _path=None: object_server.descriptions)
    for name, value in object_server.environment.items():
        monkeypatch.setenv(name, value)
    return object_server
