"""The sockets of a container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from katax_cli import ConfigError, ConnectionConflict, Katax, Sockets, Unavailable
from tests.cli.harness import write_profile
from tests.servers import free_port
from tests.services.ws.conftest import MakeClient, joining, next_event, soon


@pytest.fixture
def katax(tmp_path: Path) -> Iterator[Katax]:
    write_profile(
        tmp_path, {"main": "sqlite:///x.db"}, extra='[ws.configured]\nport = 0\npath = "/elsewhere"\n'
    )
    with Katax() as made:
        yield made


@pytest.fixture
def join(tmp_path: Path) -> Iterator[MakeClient]:
    with joining(str(tmp_path / ".katax")) as make:
        yield make


def test_one_name_is_one_server(katax: Katax) -> None:
    port = free_port()
    server = katax.socket("main", port)

    assert isinstance(server, Sockets)
    assert (server.port, server.settings.path, server.settings.host) == (port, "/socket.io", "127.0.0.1")
    assert katax.socket("main") is katax.socket("main", port, "/socket.io") is server
    with pytest.raises(ConnectionConflict):
        katax.socket("main", path="/other")
    with pytest.raises(ConnectionConflict):
        katax.socket("main", auth_token="t")


def test_the_profile_configures_it(katax: Katax) -> None:
    server = katax.socket("configured")

    assert server.settings.path == "/elsewhere"
    assert katax.socket("other", port=0) is not server


def test_a_port_in_use_leaves_the_name_free(katax: Katax) -> None:
    taken = katax.socket("a", port=0).port

    with pytest.raises(ConfigError):
        katax.socket("b", port=taken)
    assert katax.socket("b", port=0).port != taken


def test_the_shutdown_closes_it(katax: Katax, join: MakeClient) -> None:
    server = katax.socket(port=0)
    client = join(server)
    client.connect(deadline=soon())

    report = katax.shutdown()

    assert server.closing
    assert next_event(client, "server_closing").data == {"reason": "shutdown"}
    assert not report.left_behind if hasattr(report, "left_behind") else True
    with pytest.raises(Unavailable):
        server.emit("x")


def test_log_entries_are_broadcast(katax: Katax, join: MakeClient) -> None:
    katax.logger.info("before any socket", broadcast=True)
    first, second = katax.socket("a", port=0), katax.socket("b", port=0)
    one, other = join(first), join(second)
    one.join("ops", deadline=soon())
    other.connect(deadline=soon())

    katax.logger.info("quiet")
    katax.logger.warning("for ops", broadcast=True, room="ops", at=Path("/x"), password="hush")
    katax.logger.info({"message": "for all", "broadcast": True})

    assert next_event(one, "log").data == {
        "level": "warning",
        "message": "for ops",
        "at": "/x",
        "password": "***",
    }
    assert next_event(one, "log").data == {"level": "info", "message": "for all"}
    assert next_event(other, "log").data["message"] == "for all"


def test_log_entries_reach_the_clients_of_all_servers_of_the_name(
    tmp_path: Path, join: MakeClient, redis_url: str
) -> None:
    write_profile(
        tmp_path,
        {"main": "sqlite:///x.db", "cache": redis_url},
        extra='[ws.main]\nport = 0\nredis = "cache"\n',
    )
    with Katax() as first, Katax() as second:
        near, far = join(first.socket("main")), join(second.socket("main"))
        near.connect(deadline=soon())
        far.join("ops", deadline=soon())

        first.logger.info("for ops", broadcast=True, room="ops")
        first.logger.info("for all", broadcast=True)

        assert [next_event(far, "log").data["message"] for _ in range(2)] == ["for ops", "for all"]
        assert next_event(near, "log").data["message"] == "for all"


def test_an_entry_of_a_handler_is_broadcast_too(katax: Katax, join: MakeClient) -> None:
    server = katax.socket(port=0)
    server.on("e", lambda data: katax.logger.info("heard", broadcast=True, data=data))
    client = join(server)
    client.call("e", 7, deadline=soon())

    assert next_event(client, "log").data == {"level": "info", "message": "heard", "data": 7}
