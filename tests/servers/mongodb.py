"""MongoDB of the tests: a mongod where there is one, else nx-27017, the wire protocol over SQLite."""

import sys
from importlib.metadata import version
from typing import Any

import pymongo

from tests.servers.launch import HOST, Launch
from tests.servers.process import ServerProcess
from tests.servers.server import DATABASE, Server


def launch(spec: Launch) -> Server:
    """Start one; the caller stops it. Neither has a password: nx knows no authentication."""
    (spec.folder / "data").mkdir()
    real = (spec.install.programs / "mongod").exists()
    url = f"mongodb://{HOST}:{spec.port}/{DATABASE}"
    process = ServerProcess("mongodb", _mongod(spec) if real else _nx(spec), spec.folder, lambda: greet(url))
    return Server(
        engine="mongodb",
        url=url,
        version=process.start(),
        source=spec.install.source,
        process=process,
        socket=spec.folder / f"mongodb-{spec.port}.sock" if real else None,
        tools=spec.install.programs,
    )


def greet(url: str) -> str:
    """The server's version; raises while it does not answer."""
    with _client(url) as client:
        # nx answers buildInfo without a version.
        return str(client.server_info().get("version") or f"nx-27017 {version('nx-27017')}")


def drop_database(url: str, name: str) -> None:
    with _client(url, patience=60.0) as client:
        client.drop_database(name)


def _client(url: str, *, patience: float = 1.0) -> pymongo.MongoClient[dict[str, Any]]:
    return pymongo.MongoClient(url, serverSelectionTimeoutMS=int(1000 * patience), directConnection=True)


def _mongod(spec: Launch) -> list[str]:
    where = ["--dbpath", str(spec.folder / "data"), "--port", str(spec.port), "--bind_ip", HOST]
    options = [word for name, value in spec.settings.items() for word in (f"--{name}", value)]
    program = spec.install.program("mongod")
    return [
        program,
        *where,
        "--unixSocketPrefix",
        str(spec.folder),
        "--wiredTigerCacheSizeGB",
        "0.25",
        *options,
    ]


def _nx(spec: Launch) -> list[str]:
    """Each with files of its own: the defaults allow one instance a machine."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "nx_27017.nx_27017",
        "--host",
        HOST,
        "-p",
        str(spec.port),
    ]
    files = {"--data-dir": "data", "--pid-file": "nx.pid", "--log-file": "nx.log"}
    return [*command, *(word for name, file in files.items() for word in (name, str(spec.folder / file)))]
