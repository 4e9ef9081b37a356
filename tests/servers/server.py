"""What a test gets: the address of a real server and, when it is the test's own, power over its life."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from tests.servers.certificates import Certificates
from tests.servers.process import ServerProcess

USER = "katax"
# Recognisable on purpose: tests of secrets look for it in everything that katax prints or stores.
PASSWORDS = {
    "postgresql": "s3cr3t-katax-pg",
    "mysql": "s3cr3t-katax-my",
    "mongodb": "s3cr3t-katax-mo",
    "redis": "s3cr3t-katax-re",
}
DATABASE = "katax"


def reroute(url: str, host: str, port: int) -> str:
    """`url` by way of another address, a proxy say."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}{host}:{port}"))


@dataclass(frozen=True, kw_only=True)
class Server:
    """One real server. `process` is None when the session or somebody else owns it."""

    engine: str
    url: str = field(repr=False)
    version: str
    source: str
    process: ServerProcess | None = field(default=None, repr=False)
    socket: Path | None = None
    tools: Path | None = None
    certificates: Certificates | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None, "servers of the tests have their port in the URL"
        return port

    @property
    def user(self) -> str:
        return unquote(urlsplit(self.url).username or "")

    @property
    def password(self) -> str:
        return unquote(urlsplit(self.url).password or "")

    @property
    def database(self) -> str:
        return urlsplit(self.url).path.lstrip("/")

    @property
    def flavour(self) -> str:
        """`mariadb` or `mysql` of that engine, else the engine's name."""
        return "mariadb" if "mariadb" in self.version.lower() else self.engine

    @property
    def pid(self) -> int:
        return self._own.pid

    @property
    def log(self) -> Path:
        return self._own.log

    def database_url(self, database: str) -> str:
        """The same server, another database."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def start(self) -> None:
        """Start after `kill` or `stop`, on the same port with the same data, and wait until it answers."""
        self._own.start()

    def stop(self) -> None:
        """An orderly stop that does not wait for clients."""
        self._own.stop()

    def restart(self) -> None:
        self._own.restart()

    def kill(self) -> None:
        """SIGKILL to the server and its children."""
        self._own.kill()

    def stop_signal(self) -> None:
        """SIGSTOP: connections stay open, nothing answers until `resume`."""
        self._own.freeze()

    def resume(self) -> None:
        """SIGCONT after `stop_signal`."""
        self._own.resume()

    @property
    def _own(self) -> ServerProcess:
        if self.process is None:
            raise RuntimeError(f"this {self.engine} is shared by the session; take one from throwaway(…)")
        return self.process
