"""Connections that a program describes itself."""

from __future__ import annotations

from typing import Any

import pytest

from katax_cli.core.settings import PoolSettings, TlsSettings
from katax_cli.errors import ConfigError
from katax_cli.profiles.model.connections import ConnectionContext
from katax_cli.profiles.sources.adhoc import connection_of, pool_of

AROUND = ConnectionContext("/project", environ={})


def make(connection: str | dict[str, Any], **more: Any) -> Any:
    return connection_of("x", connection, AROUND, **more)


def test_a_url_and_its_parts_are_the_same_connection() -> None:
    url = make("postgresql://ann:pw@db:6000/app")
    parts = make(
        {"host": "db", "port": 6000, "user": "ann", "password": "pw", "database": "app"}, type="postgresql"
    )

    assert url == parts
    assert parts.password.reveal() == "pw"


def test_a_type_alone_is_the_usual_place() -> None:
    settings = make({}, type="redis")

    assert (settings.host, settings.port) == ("localhost", 6379)


@pytest.mark.parametrize("key", ["db", "database"])
@pytest.mark.parametrize("number", [2, "2"])
def test_redis_databases_are_numbers(key: str, number: object) -> None:
    assert make({key: number}, type="redis").database == "2"


def test_relative_files_start_in_the_projects_folder() -> None:
    assert make("sqlite:///a.db").path == "/project/a.db"
    assert make({"type": "sqlite", "database": "b.db"}).path == "/project/b.db"


@pytest.mark.parametrize(("said", "mode"), [(True, "verify-full"), (False, "disable")])
def test_tls_as_a_boolean(said: bool, mode: str) -> None:
    assert make({"tls": said}, type="mysql").tls.mode == mode


def test_tls_as_in_a_profile() -> None:
    assert make({"tls": {"mode": "require"}}, type="mysql").tls == TlsSettings("require")


def test_keys_that_are_none_are_not_said() -> None:
    assert make({"password": None, "host": "h"}, type="mysql").password is None


def test_a_pool_in_the_connection() -> None:
    assert make({"pool": {"max": 3}}, type="mysql").pool.max == 3
    assert make({"pool": PoolSettings(max=4)}, type="mysql").pool.max == 4


def test_a_frozen_profile_holds_here_too() -> None:
    context = ConnectionContext("/project", environ={}, read_only=True)

    assert connection_of("x", "sqlite:///a.db", context).read_only


@pytest.mark.parametrize(
    ("connection", "type", "message"),
    [
        ({"hots": "h"}, "mysql", "unknown key 'hots' in [connections.x]; did you mean 'host'?"),
        ({"retry": {"attempt": 2}}, "mysql", "unknown key 'attempt'"),
        (
            {"retry": {"attempts": 0}},
            "mysql",
            "connections.x.retry: retry attempts is 0, expected at least 1",
        ),
        ({"port": "x"}, "mysql", "connections.x.port is 'x', expected a whole number"),
        ({}, None, "connections.x has neither url nor type; write one of them"),
        ({"type": "redis"}, "mysql", "connection 'x' is said to be of type mysql and redis; keep one"),
        ("redis://h", "mysql", "connections.x.type is 'mysql', but the url is one of redis"),
        ({"pool": {"max": 0}}, "mysql", "connections.x.pool max is 0, expected at least 1"),
    ],
)
def test_mistakes_say_where(connection: Any, type: str | None, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(connection, type=type)

    assert str(caught.value).startswith(message)


def test_no_mistake_quotes_a_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        make("s3cr3t-not-a-url")
    assert "s3cr3t" not in str(caught.value)


def test_pools() -> None:
    assert pool_of({"min": 1, "max": 3, "timeout": 2}) == PoolSettings(min=1, max=3, timeout=2.0)
    settings = PoolSettings(max=9)
    assert pool_of(settings) is settings
    for wrong, message in (
        ({"size": 3}, "unknown key 'size' in [pool]"),
        ({"min": 3, "max": 2}, "pool min is 3, expected 0 to max (2)"),
    ):
        with pytest.raises(ConfigError) as caught:
            pool_of(wrong)
        assert str(caught.value).startswith(message)
