"""A database of a test's own on a server that others use too."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle

from tests.servers import mongodb, mysql, postgresql, recycled, redis
from tests.servers.server import Server

_redis_numbers = cycle(range(1, 64))


@contextmanager
def fresh_database(server: Server) -> Iterator[str]:
    """The URL of an empty database on `server`; what is in it goes at the end, also with sessions open."""
    if server.engine == "redis":
        url = server.database_url(str(_redis_number(server)))
        redis.flush(url)
        yield url
        redis.flush(url)
        return
    name = recycled.lend(server) or _create(server)
    yield server.database_url(name)
    _drop(server, name)


def worker_number() -> int:
    """0 without pytest-xdist, else the worker's."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def _redis_number(server: Server) -> int:
    """Our own Redis has 64 databases; another's has 16, of which each test worker keeps to one."""
    return 1 + worker_number() % 15 if server.source in ("URL", "Docker") else next(_redis_numbers)


def _new_name() -> str:
    return f"t_{uuid.uuid4().hex[:12]}"


def _create(server: Server) -> str:
    name = _new_name()
    if server.engine == "postgresql":
        postgresql.create_database(server.url, name)
    elif server.engine == "mysql":
        mysql.create_database(server.url, name)
    return name


def _drop(server: Server, name: str) -> None:
    if server.engine == "postgresql" and recycled.give_back(server, name, _new_name()):
        return
    drop = {
        "postgresql": postgresql.drop_database,
        "mysql": mysql.drop_database,
        "mongodb": mongodb.drop_database,
    }
    drop[server.engine](server.url, name)
