"""Servers that speak TLS only: good, wrong and expired certificates behave as such."""

import ssl
from pathlib import Path

import psycopg
import pymysql
import pytest
import redis
from psycopg.conninfo import make_conninfo
from pymysql.connections import Connection

from tests.servers import Certificates, Server, make_certificates
from tests.servers.fixtures import Throwaway

REFUSED = (psycopg.OperationalError, pymysql.MySQLError, redis.ConnectionError, ssl.SSLError)
ENGINES = ("postgresql", "mysql", "redis")


@pytest.fixture(params=ENGINES)
def tls_server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(f"tls_{request.param}")
    return server


def strict(trust: Certificates) -> ssl.SSLContext:
    """As Python 3.13 verifies by default."""
    context = ssl.create_default_context(cafile=str(trust.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def encrypted(server: Server, trust: Certificates, *, client: Certificates | None = None) -> bool:
    """Connect with full verification by `trust` and ask the server whether the session is encrypted."""
    if server.engine == "postgresql":
        return _encrypted_postgresql(server, trust, client)
    if server.engine == "mysql":
        return _encrypted_mysql(server, trust, client)
    files = {"ssl_certfile": str(client.client_cert), "ssl_keyfile": str(client.client_key)} if client else {}
    with redis.Redis.from_url(server.url, ssl_ca_certs=str(trust.ca), retry=None, **files) as cache:
        return bool(cache.ping())


def _encrypted_postgresql(server: Server, trust: Certificates, client: Certificates | None) -> bool:
    files = {"sslcert": str(client.client_cert), "sslkey": str(client.client_key)} if client else {}
    verify = {"sslmode": "verify-full", "sslrootcert": str(trust.ca)}
    with psycopg.connect(make_conninfo(server.url, **verify, **files)) as connection:
        asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return connection.execute(asked).fetchone() == (True,)


def _encrypted_mysql(server: Server, trust: Certificates, client: Certificates | None) -> bool:
    context = strict(trust)
    if client:
        context.load_cert_chain(client.client_cert, client.client_key)
    with mysql(server, context) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        answer = cursor.fetchone()
        return bool(answer and answer[1])


def mysql(server: Server, context: ssl.SSLContext) -> "Connection[pymysql.cursors.Cursor]":
    return pymysql.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, ssl=context
    )


def test_a_verified_connection_is_encrypted(tls_server: Server, certificates: Certificates) -> None:
    assert encrypted(tls_server, certificates)


def test_a_stranger_is_not_trusted(tls_server: Server, tmp_path: Path) -> None:
    with pytest.raises(REFUSED) as refused:
        encrypted(tls_server, make_certificates(tmp_path))
    assert "certificate verify failed" in str(refused.value)


def test_plain_text_is_refused(tls_server: Server) -> None:
    with pytest.raises(REFUSED):
        speak_plainly(tls_server)


def speak_plainly(server: Server) -> None:
    if server.engine == "postgresql":
        psycopg.connect(server.url, sslmode="disable").close()
    elif server.engine == "mysql":
        pymysql.connect(
            host=server.host, port=server.port, user=server.user, password=server.password, ssl_disabled=True
        ).close()
    else:
        with redis.Redis.from_url(server.url.replace("rediss:", "redis:"), retry=None) as cache:
            cache.ping()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_expired_certificate_is_refused(throwaway: Throwaway, tmp_path: Path, engine: str) -> None:
    expired = make_certificates(tmp_path, expired=True)
    with pytest.raises(REFUSED) as refused:
        encrypted(throwaway(engine, certificates=expired), expired)
    assert "expired" in str(refused.value) or "certificate verify failed" in str(refused.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_certificate_for_another_host_is_refused(throwaway: Throwaway, tmp_path: Path, engine: str) -> None:
    elsewhere = make_certificates(tmp_path, hosts=("elsewhere.example",))
    with pytest.raises(REFUSED):
        encrypted(throwaway(engine, certificates=elsewhere), elsewhere)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_can_demand_a_client_certificate(
    throwaway: Throwaway, certificates: Certificates, engine: str
) -> None:
    server = throwaway(engine, certificates=certificates, client_certificate=True)
    assert encrypted(server, certificates, client=certificates)
    with pytest.raises(REFUSED):
        encrypted(server, certificates)
