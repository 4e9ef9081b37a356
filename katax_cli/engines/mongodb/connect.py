"""From the settings of a connection to a pymongo client."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from logging import NullHandler, getLogger
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pymongo import MongoClient

from katax_cli.core.settings import ConnectionSettings, TlsSettings
from katax_cli.engines.mongodb.pool_events import PoolWatch, RunningWatch, SendWatch

APP_NAME = "katax"
# Without a handler Python writes the warnings of pymongo's own threads to stderr.
getLogger("pymongo").addHandler(NullHandler())
DocumentClient = MongoClient[dict[str, Any]]


def client(settings: ConnectionSettings, timeout: float | None) -> DocumentClient:
    """A client that has not answered yet; its own retries are off. `timeout` bounds each later answer."""
    with _tls_options(settings.tls) as tls:
        ours = {
            **_login(settings),
            **_times(settings, timeout),
            **_topology(settings),
            **tls,
            "appname": APP_NAME,
            "retryReads": False,
            "retryWrites": False,
            "minPoolSize": settings.pool.min,
            "maxPoolSize": settings.pool.max,
            "event_listeners": [PoolWatch(settings.pool.max), SendWatch(), RunningWatch()],
        }
        return MongoClient(_hosts(settings), **_others(settings, ours), **ours)


def database_name(settings: ConnectionSettings) -> str:
    """The profile's database, MongoDB's own default without one."""
    return settings.database or "test"


def _others(settings: ConnectionSettings, ours: dict[str, Any]) -> dict[str, Any]:
    """The options of the URL that katax does not decide; their names are the same in any case."""
    decided = {name.lower() for name in ours}
    return {name: value for name, value in settings.options.items() if name.lower() not in decided}


def says(settings: ConnectionSettings, *names: str) -> bool:
    """True when the connection has one of these options, whose names are in lower case here."""
    return bool({name.lower() for name in settings.options} & set(names))


def _hosts(settings: ConnectionSettings) -> list[str]:
    """One URI: pymongo takes a client's default database from nothing else."""
    default = f"/{quote(settings.database, safe='')}" if settings.database else ""
    if settings.srv:
        return [f"mongodb+srv://{settings.host}{default}"]
    if settings.socket:
        return [f"mongodb://{quote(settings.socket, safe='')}{default}"]
    nodes = settings.nodes or ((settings.host or "localhost", settings.port or 27017),)
    hosts = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in nodes]
    return [f"mongodb://{','.join(hosts)}{default}"]


def _login(settings: ConnectionSettings) -> dict[str, Any]:
    if settings.user is None:
        return {}
    password = {"password": settings.password.reveal()} if settings.password else {}
    # As in a URL: the user is authenticated by the database named there, unless options name another.
    elsewhere = not settings.database or says(settings, "authsource", "authmechanism")
    source = {} if elsewhere else {"authSource": settings.database}
    return {"username": settings.user, **password, **source}


def connecting(settings: ConnectionSettings, timeout: float | None) -> float:
    """Seconds that connecting may take: as the profile says, or less when the caller has less."""
    return settings.connect_timeout if timeout is None else min(timeout, settings.connect_timeout)


def _times(settings: ConnectionSettings, timeout: float | None) -> dict[str, Any]:
    return {
        "connectTimeoutMS": _milliseconds(connecting(settings, timeout)),
        "serverSelectionTimeoutMS": _milliseconds(connecting(settings, timeout)),
        "socketTimeoutMS": None if timeout is None else _milliseconds(timeout),
        "waitQueueTimeoutMS": _milliseconds(settings.pool.timeout),
        "maxIdleTimeMS": _milliseconds(settings.pool.idle_timeout),
    }


def _topology(settings: ConnectionSettings) -> dict[str, Any]:
    """One host without a replica set's name means this server, not what it may be a member of."""
    alone = not settings.srv and len(settings.nodes) < 2
    told = says(settings, "replicaset", "directconnection", "loadbalanced")
    return {"directConnection": True} if alone and not told else {}


@contextmanager
def _tls_options(tls: TlsSettings | None) -> Iterator[dict[str, Any]]:
    """`require` encrypts, `verify-ca` checks the issuer, `verify-full` the name too. Files are read within."""
    if tls is None:
        yield {}
    elif tls.mode == "disable":
        yield {"tls": False}
    else:
        with _certificate_file(tls) as certificate:
            given = {"tlsCAFile": tls.ca, "tlsCertificateKeyFile": certificate}
            yield {
                "tls": True,
                "tlsAllowInvalidCertificates": tls.mode == "require",
                "tlsAllowInvalidHostnames": tls.mode != "verify-full",
                **{name: path for name, path in given.items() if path},
            }


@contextmanager
def _certificate_file(tls: TlsSettings) -> Iterator[str | None]:
    """pymongo takes certificate and key in one file; two are put together for as long as it reads them."""
    if not tls.key or not tls.cert or tls.key == tls.cert:
        yield tls.cert
        return
    # Made for its owner alone (0600), and removed on leaving.
    with tempfile.NamedTemporaryFile(suffix=".pem") as both:
        both.write(Path(tls.cert).read_bytes() + b"\n" + Path(tls.key).read_bytes())
        both.flush()
        yield both.name


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))
