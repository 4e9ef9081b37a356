"""Where words and variables name a server they come to name its proxy, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from katax_cli.core.settings import ConnectionSettings
from katax_cli.services.shutdown_drill.routes import Route, led, rewritten, routes


@pytest.fixture
def ways() -> Iterator[list[Route]]:
    made = routes(
        [
            ConnectionSettings("main", "postgresql", host="localhost", port=5432),
            ConnectionSettings("cache", "redis", host="cache.example", port=6380),
            ConnectionSettings("file", "sqlite", path=":memory:"),
        ]
    )
    yield made
    for way in made:
        way.proxy.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://app:pw@localhost:5432/x", "postgresql://app:pw@127.0.0.1:{main}/x"),
        ("postgres://app@127.0.0.1/x?a=b", "postgres://app@127.0.0.1:{main}/x?a=b"),
        ("postgresql+psycopg://[::1]:5432/x", "postgresql+psycopg://127.0.0.1:{main}/x"),
        ("cache.example:6380", "127.0.0.1:{cache}"),
        ("redis://cache.example/0", "redis://cache.example/0"),
        ("localhost:54321", "localhost:54321"),
        ("other-localhost:5432", "other-localhost:5432"),
        ("mysql://localhost/x", "mysql://localhost/x"),
        ("postgresql://app:pw@[::1/x", "postgresql://app:pw@[::1/x"),
    ],
)
def test_only_the_servers_of_the_profile_are_replaced(text: str, expected: str, ways: list[Route]) -> None:
    ports = {way.name: way.proxy.port for way in ways}

    assert rewritten(text, ways) == expected.format(**ports)


def test_there_is_a_proxy_for_each_address(ways: list[Route]) -> None:
    assert [way.name for way in ways] == ["main", "cache"]


def test_libpq_is_led_too(ways: list[Route]) -> None:
    given = {"PGHOST": "127.0.0.1", "SECRET": "x", "URL": "redis://cache.example:6380"}
    ports = {way.name: str(way.proxy.port) for way in ways}

    assert led(given, ways) == {
        "PGHOST": "127.0.0.1",
        "PGPORT": ports["main"],
        "SECRET": "x",
        "URL": f"redis://127.0.0.1:{ports['cache']}",
    }
    assert led({"PGHOST": "elsewhere"}, ways) == {"PGHOST": "elsewhere"}
