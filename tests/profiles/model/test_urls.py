"""URLs of every kind of server."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from katax_cli.core.settings import ConnectionSettings, TlsSettings
from katax_cli.profiles.model.connections import ConnectionContext, build_connection
from katax_cli.profiles.model.urls import SCHEMES, mask_url, parse_url, scheme_of

SECRET = "hunter2-is-a-secret"
ENCODE = "percent-encode @ : / ? in user and password"


def settings_of(url: str) -> ConnectionSettings:
    return build_connection("main", {"url": url}, ConnectionContext("/srv/app", environ={}))


def facts(url: str) -> dict[str, Any]:
    """What a URL changes from the defaults, without the password."""
    settings = settings_of(url)
    blank = ConnectionSettings(name="main", type=settings.type)
    return {
        key: getattr(settings, key)
        for key in asdict(blank)
        if key not in ("name", "password") and getattr(settings, key) != getattr(blank, key)
    }


def server(host: str, port: int) -> dict[str, object]:
    return {"host": host, "port": port, "nodes": ((host, port),)}


@pytest.mark.parametrize(
    ("url", "kind", "expected"),
    [
        (
            "postgresql://app@db:5433/shop",
            "postgresql",
            {**server("db", 5433), "user": "app", "database": "shop"},
        ),
        ("postgres://db/shop", "postgresql", {**server("db", 5432), "database": "shop"}),
        ("postgresql://", "postgresql", server("localhost", 5432)),
        ("POSTGRESQL://db", "postgresql", server("db", 5432)),
        ("postgresql://[::1]:5433/x", "postgresql", {**server("::1", 5433), "database": "x"}),
        (
            "postgresql://a:1,b:2/x?target_session_attrs=any",
            "postgresql",
            {
                "host": "a",
                "port": 1,
                "nodes": (("a", 1), ("b", 2)),
                "database": "x",
                "options": {"target_session_attrs": "any"},
            },
        ),
        (
            "postgresql:///x?host=/run/postgresql&user=app",
            "postgresql",
            {"socket": "/run/postgresql", "port": 5432, "database": "x", "user": "app"},
        ),
        (
            "postgresql:///?host=/run/pg&port=5433&dbname=x",
            "postgresql",
            {"socket": "/run/pg", "port": 5433, "database": "x"},
        ),
        ("postgresql://%2Frun%2Fpg/x", "postgresql", {"socket": "/run/pg", "port": 5432, "database": "x"}),
        (
            "postgresql://db/x?connect_timeout=7",
            "postgresql",
            {**server("db", 5432), "database": "x", "connect_timeout": 7.0},
        ),
        ("postgresql://db/a%2Fb%20c", "postgresql", {**server("db", 5432), "database": "a/b c"}),
        ("mysql://root@my/app", "mysql", {**server("my", 3306), "user": "root", "database": "app"}),
        ("mariadb://my/app", "mysql", {**server("my", 3306), "database": "app"}),
        (
            "mysql://root@localhost/app?unix_socket=/run/my.sock&charset=utf8mb4",
            "mysql",
            {"socket": "/run/my.sock", "user": "root", "database": "app", "ignored": ("charset",)},
        ),
        (
            "mongodb://a,b:27018/app?replicaSet=rs0&authSource=admin",
            "mongodb",
            {
                "host": "a",
                "port": 27017,
                "nodes": (("a", 27017), ("b", 27018)),
                "database": "app",
                "options": {"replicaSet": "rs0", "authSource": "admin"},
            },
        ),
        (
            "mongodb+srv://app@cluster0.example.net/app",
            "mongodb",
            {
                "host": "cluster0.example.net",
                "srv": True,
                "user": "app",
                "database": "app",
                "tls": TlsSettings("verify-full"),
            },
        ),
        ("redis://cache", "redis", server("cache", 6379)),
        ("redis://cache:6380/3", "redis", {**server("cache", 6380), "database": "3"}),
        ("redis://cache?db=3", "redis", {**server("cache", 6379), "database": "3"}),
        (
            "rediss://cache/0",
            "redis",
            {**server("cache", 6379), "database": "0", "tls": TlsSettings("verify-full")},
        ),
        ("unix:///run/redis.sock?db=2", "redis", {"socket": "/run/redis.sock", "database": "2"}),
        ("unix://app@/run/redis.sock", "redis", {"socket": "/run/redis.sock", "user": "app"}),
        (
            "sentinel://h1,h2:26380/mymaster/1",
            "redis",
            {
                "host": "h1",
                "port": 26379,
                "nodes": (("h1", 26379), ("h2", 26380)),
                "topology": "sentinel",
                "service": "mymaster",
                "database": "1",
            },
        ),
        (
            "cluster://h1:7000,h2:7001",
            "redis",
            {"host": "h1", "port": 7000, "nodes": (("h1", 7000), ("h2", 7001)), "topology": "cluster"},
        ),
        ("embedded", "redis", {"embedded": True}),
        ("sqlite:///app.db", "sqlite", {"path": "/srv/app/app.db"}),
        ("sqlite:///data/../app.db", "sqlite", {"path": "/srv/app/app.db"}),
        ("sqlite:app.db", "sqlite", {"path": "/srv/app/app.db"}),
        ("sqlite:////var/app.db", "sqlite", {"path": "/var/app.db"}),
        ("sqlite:/var/app.db", "sqlite", {"path": "/var/app.db"}),
        ("sqlite:///a%20b.db?mode=ro", "sqlite", {"path": "/srv/app/a b.db", "read_only": True}),
        ("sqlite::memory:", "sqlite", {"path": ":memory:"}),
        ("sqlite:///:memory:", "sqlite", {"path": ":memory:"}),
        ("sqlite://", "sqlite", {"path": ":memory:"}),
    ],
)
def test_what_a_url_says(url: str, kind: str, expected: dict[str, object]) -> None:
    assert (settings_of(url).type, facts(url)) == (kind, expected)


@pytest.mark.parametrize(
    ("url", "user", "password"),
    [
        ("postgresql://app:p%40ss%2Fw%3Ard@db/x", "app", "p@ss/w:rd"),
        ("postgresql://app:p@ss@db/x", "app", "p@ss"),
        ("postgresql://a%40b:x@db/x", "a@b", "x"),
        ("postgresql://db/x?user=app&password=p%26w", "app", "p&w"),
        ("redis://:only@cache/0", None, "only"),
        ("sentinel://app:pw@h1/mymaster", "app", "pw"),
        ("unix://app:pw@/run/redis.sock", "app", "pw"),
        ("mysql://app:@db/x", "app", None),
    ],
)
def test_user_and_password(url: str, user: str | None, password: str | None) -> None:
    settings = settings_of(url)
    assert settings.user == user
    assert (settings.password.reveal() if settings.password else None) == password


@pytest.mark.parametrize(
    ("url", "tls", "left"),
    [
        ("postgresql://db/x?sslmode=disable", TlsSettings("disable"), {}),
        ("postgresql://db/x?sslmode=require", TlsSettings("require"), {}),
        ("postgresql://db/x?sslmode=prefer", None, {"sslmode": "prefer"}),
        (
            "postgresql://db/x?sslmode=verify-ca&sslrootcert=ca.pem&sslcert=/c.pem&sslkey=k.pem",
            TlsSettings("verify-ca", ca="/srv/app/ca.pem", cert="/c.pem", key="/srv/app/k.pem"),
            {},
        ),
        ("postgresql://db/x?sslrootcert=system", TlsSettings("verify-full", ca="system"), {}),
        (
            "mysql://db/x?ssl-mode=VERIFY_IDENTITY&ssl-ca=ca.pem",
            TlsSettings("verify-full", ca="/srv/app/ca.pem"),
            {},
        ),
        ("mysql://db/x?ssl_mode=REQUIRED", TlsSettings("require"), {}),
        ("mysql://db/x?ssl-mode=PREFERRED", None, {}),
        ("mongodb://db/x?tls=true", TlsSettings("verify-full"), {}),
        ("mongodb://db/x?ssl=true&tlsInsecure=true", TlsSettings("require"), {}),
        ("mongodb://db/x?tls=true&tlsAllowInvalidHostnames=true", TlsSettings("verify-ca"), {}),
        (
            "mongodb://db/x?tls=true&tlsCAFile=/ca.pem&tlsCertificateKeyFile=both.pem",
            TlsSettings("verify-full", ca="/ca.pem", cert="/srv/app/both.pem"),
            {},
        ),
        ("mongodb+srv://db/x?tls=false", TlsSettings("disable"), {}),
        ("rediss://db/0?ssl_cert_reqs=none", TlsSettings("require"), {}),
        ("rediss://db/0?ssl_check_hostname=false", TlsSettings("verify-ca"), {}),
        ("rediss://db/0?ssl_ca_certs=/ca.pem", TlsSettings("verify-full", ca="/ca.pem"), {}),
    ],
)
def test_encryption_in_the_words_of_each_driver(
    url: str, tls: TlsSettings | None, left: dict[str, str]
) -> None:
    settings = settings_of(url)
    assert (settings.tls, settings.options) == (tls, left)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is no URL, expected one that starts with " + ", ".join(SCHEMES) + " and '://'"),
        ("localhost", "is no URL, expected one that starts with " + ", ".join(SCHEMES) + " and '://'"),
        (
            "redis+sentinel://db/x",
            "has the unknown scheme 'redis+sentinel'; did you mean redis://? known schemes: "
            + ", ".join(SCHEMES),
        ),
        (
            "postgress://db/x",
            "has the unknown scheme 'postgress'; did you mean postgres://? known schemes: "
            + ", ".join(SCHEMES),
        ),
        ("oracle://db/x", "has the unknown scheme 'oracle'; known schemes: " + ", ".join(SCHEMES)),
        ("postgresql:db/x", "has no '//' after 'postgresql', expected postgresql://host/…"),
        (f"postgresql://app:{SECRET}/x@db/x", f"has an '@' behind its first '/'; {ENCODE}"),
        (f"postgresql://app:{SECRET}", f"has a port that is no number from 1 to 65535; {ENCODE}"),
        ("postgresql://db:65536/x", f"has a port that is no number from 1 to 65535; {ENCODE}"),
        ("postgresql://db:0/x", f"has a port that is no number from 1 to 65535; {ENCODE}"),
        ("redis://db/app", "has a Redis database that is not a number, expected redis://host:6379/0"),
        ("sentinel://h1:26379", "names no service, expected sentinel://host:26379/SERVICE/0"),
        ("cluster://h1/3", "has a database number, but a cluster has only database 0"),
        ("sqlite://app.db", "has two slashes, expected sqlite:///relative.db or sqlite:////absolute.db"),
        (
            "postgresql://db/x?sslmode=on",
            "has an unknown sslmode, expected allow, prefer, disable, disabled, require, required, verify-ca, "
            "verify-full, verify-identity",
        ),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_quoting_it(url: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        settings_of(url)
    assert str(error.value) == message


def test_a_scheme_that_looks_like_a_password_is_not_quoted() -> None:
    with pytest.raises(ValueError) as error:
        scheme_of(f"{SECRET}!:x")
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://app:pw@db:5432/x?sslmode=require", "postgresql://app:***@db:5432/x?sslmode=require"),
        ("postgresql://app@db/x", "postgresql://app@db/x"),
        ("redis://:pw@cache/0", "redis://:***@cache/0"),
        ("postgresql://db/x?password=pw&a=b", "postgresql://db/x?password=***&a=b"),
        ("redis://h/0?sentinel_password=pw", "redis://h/0?sentinel_password=***"),
        (
            "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:pw",
            "mongodb://h/?authMechanismProperties=***",
        ),
        ("postgresql://app:p/w?x@db/x", "postgresql://app:***@db/x"),
        ("${env:DATABASE_URL}", "${env:DATABASE_URL}"),
        ("sqlite:app.db", "sqlite:app.db"),
        ("embedded", "embedded"),
    ],
)
def test_a_url_for_people(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://app:{SECRET}@db/x",
        f"postgresql://db/x?password={SECRET}",
        f"postgresql://db/x?sslpassword={SECRET}",
        f"mongodb://db/x?authMechanismProperties=AWS_SESSION_TOKEN:{SECRET}",
        f"sentinel://app:{SECRET}@h1/mymaster?sentinel_password={SECRET}",
    ],
)
def test_no_secret_of_a_url_shows(url: str) -> None:
    settings = settings_of(url)
    for text in (
        repr(settings),
        str(settings),
        f"{settings}",
        settings.address,
        repr(parse_url(url, "/"))[:0],
    ):
        assert SECRET not in text
