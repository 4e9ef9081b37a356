"""The servers of one process: started when first asked for, stopped together."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType

from tests.servers import docker, mongodb, mysql, postgresql, redis
from tests.servers.certificates import Certificates
from tests.servers.installs import install, packaged, planned
from tests.servers.launch import Launch
from tests.servers.rooms import Room, free_port
from tests.servers.server import Server

ENGINES = ("postgresql", "mysql", "mongodb", "redis", "sqlite")
LAUNCHERS: Mapping[str, Callable[[Launch], Server]] = {
    "postgresql": postgresql.launch,
    "mysql": mysql.launch,
    "mongodb": mongodb.launch,
    "redis": redis.launch,
}
GREETERS: Mapping[str, Callable[[str], str]] = {
    "postgresql": postgresql.greet,
    "mysql": mysql.greet,
    "mongodb": mongodb.greet,
    "redis": redis.greet,
}
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


class Fleet:
    """`shared` gives one server for each engine, `private` a new one whose life is the caller's."""

    def __init__(self) -> None:
        self.room = Room()
        self._shared: dict[str, Server] = {}
        self._private: list[Server] = []

    def shared(self, engine: str) -> Server:
        """By URL, Docker, PATH or package, the first that is there; without power over its life."""
        if engine not in self._shared:
            self._shared[engine] = self._find(engine)
        return self._shared[engine]

    def mariadb(self) -> Server:
        """The shared `mysql` where that is MariaDB, else one of its own."""
        server = self.shared("mysql")
        if server.flavour == "mariadb":
            return server
        if "mariadb" not in self._shared:
            self._shared["mariadb"] = self._other_mariadb()
        return self._shared["mariadb"]

    def private(
        self,
        engine: str,
        *,
        full: bool = False,
        certificates: Certificates | None = None,
        client_certificate: bool = False,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> Server:
        """From PATH or a package, never somebody else's; `certificates` implies the full build."""
        spec = Launch(
            install=install(engine, full=full or certificates is not None),
            folder=self.room.folder(engine),
            port=free_port(),
            settings=settings,
            certificates=certificates,
            client_certificate=client_certificate,
        )
        server = LAUNCHERS[engine](spec)
        self._private.append(server)
        return server

    def variant(
        self,
        engine: str,
        *,
        certificates: Certificates | None = None,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> Server:
        """A full build for the whole session; like `shared`, without power over its life."""
        server = self.private(engine, full=True, certificates=certificates, settings=settings)
        return dataclasses.replace(server, process=None)

    def adopt(self, server: Server) -> Server:
        """Stop `server`, which somebody else started, at the end of the session."""
        self._private.append(server)
        return dataclasses.replace(server, process=None)

    def dismiss(self, server: Server) -> None:
        """Stop a private server for good."""
        self._private.remove(server)
        if server.process:
            server.process.discard()

    def close(self) -> None:
        for server in list(self._private):
            self.dismiss(server)
        self.room.close()

    def _other_mariadb(self) -> Server:
        if docker.running():
            return _given(docker.url("mariadb"), "mysql", "Docker")
        spec = Launch(install=packaged("mysql"), folder=self.room.folder("mysql"), port=free_port())
        return self.adopt(mysql.launch(spec))

    def _find(self, engine: str) -> Server:
        if url := given_url(engine):
            return _given(url, engine, "URL")
        if docker.running():
            return _given(docker.url(engine), engine, "Docker")
        return dataclasses.replace(self.private(engine), process=None)


def _given(url: str, engine: str, source: str) -> Server:
    return Server(engine=engine, url=url, version=GREETERS[engine](url), source=source)


def given_url(engine: str) -> str:
    """KATAX_TEST_<ENGINE>_URL, or empty."""
    return os.environ.get(f"KATAX_TEST_{engine.upper()}_URL", "")


def source(engine: str) -> str:
    """Where the shared server of `engine` would come from; starts nothing."""
    if engine == "sqlite":
        return "Python's sqlite3"
    if given_url(engine):
        return "URL"
    return "Docker" if docker.running() else planned(engine)
