"""`katax ws`: a server in a process of its own, and the commands that talk to it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from katax_cli.profiles.model.model import WsSettings
from katax_cli.services.ws.server import Sockets
from tests.cli.harness import Done, katax, write_profile
from tests.cli.processes import eventually
from tests.cli.sockets import listening, next_row, rows_of, said, serving
from tests.servers import free_port
from tests.servers.fixtures import MakeProxy
from tests.services.ws.conftest import MakeClient, joining, next_event, soon
from tests.waiting import until

TOKEN = "hush-token-hush"


@pytest.fixture
def port(tmp_path: Path) -> int:
    """A profile with one server, `main`, on this port."""
    number = free_port()
    write_profile(tmp_path, {"main": "sqlite:///x.db"}, extra=f"[ws.main]\nport = {number}\n")
    return number


@pytest.fixture
def join(tmp_path: Path) -> Iterator[MakeClient]:
    with joining(str(tmp_path / ".katax")) as make:
        yield make


@pytest.fixture
def server(port: int) -> Iterator[str]:
    """Its URL, while it serves."""
    with serving():
        yield f"http://127.0.0.1:{port}"


def test_what_is_emitted_is_heard_by_clients_and_observers(server: str, join: MakeClient) -> None:
    client = join(server)
    client.connect(deadline=soon())

    with listening("--count", "2", "-f", "jsonl") as listener:
        sent = katax("ws", "emit", "news", '{"x": 1.5}', "-f", "json")
        assert katax("ws", "emit", "news", "no json").code == 0
        rows = rows_of(listener)

    assert sent.json == {"event": "news", "room": None, "clients": 1}
    assert [next_event(client, "news").data for _ in range(2)] == [{"x": 1.5}, "no json"]
    assert list(rows[0]) == ["event", "room", "data", "sid", "received_at"]
    assert [row["data"] for row in rows] == [{"x": 1.5}, "no json"]
    assert listener.returncode == 0


def test_a_room_narrows_both(server: str, join: MakeClient) -> None:
    inside, outside = join(server), join(server)
    inside.join("r", deadline=soon())
    outside.connect(deadline=soon())

    with listening("--room", "r", "--event", "news", "--count", "1", "-f", "jsonl") as listener:
        katax("ws", "emit", "other", "0", "--room", "r")
        katax("ws", "emit", "news", "1")
        assert katax("ws", "emit", "news", "2", "--room", "r", "-f", "json").json["clients"] == 1
        assert [row["data"] for row in rows_of(listener)] == [2]

    assert next_event(inside, "news").data == 1
    assert katax("ws", "rooms", "-f", "json").json == [{"room": "r", "clients": 1}]


def test_an_ordinary_client_from_the_shell(server: str) -> None:
    with listening("--as-client", "--room", "r", "--count", "1", "-f", "jsonl") as listener:
        with listening("--event", "hello", "--count", "1", "-f", "jsonl") as observer:
            sent = katax("ws", "emit", "hello", "7", "--as-client", "-f", "json")
            (seen,) = rows_of(observer)
        katax("ws", "emit", "news", "1", "--room", "r")
        (heard,) = rows_of(listener)

    assert sent.json == {"event": "hello", "answer": {"received": True}}
    assert (seen["data"], len(seen["sid"]) > 10) == (7, True)
    assert (heard["event"], heard["data"]) == ("news", 1)


def test_clients_are_listed_and_kicked(server: str, join: MakeClient) -> None:
    client = join(server)
    client.join("r", deadline=soon())

    (row,) = katax("ws", "clients", "-f", "json").json
    assert list(row) == ["sid", "address", "transport", "connected_at", "rooms", "worker"]
    assert (row["address"], row["transport"], row["rooms"]) == ("127.0.0.1", "websocket", ["r"])

    assert katax("ws", "kick", row["sid"], "--dry-run").code == 0
    assert katax("ws", "clients", "-f", "json").json == [row]
    assert katax("ws", "kick", row["sid"], "-f", "json").json == {"sid": row["sid"], "kicked": True}
    assert katax("ws", "clients", "-f", "json").json == []
    assert katax("ws", "kick", row["sid"]).code == 1


def test_kicking_asks_on_production(tmp_path: Path) -> None:
    write_profile(
        tmp_path, {"main": "sqlite:///x.db"}, role="prod", extra=f"[ws.main]\nport = {free_port()}\n"
    )

    done = katax("ws", "kick", "x")

    assert done.code == 4
    assert "needs confirmation; repeat with --yes" in done.err
    assert katax("ws", "kick", "x", "--yes").code == 2


def test_expect_answers_with_its_exit_code(server: str) -> None:
    words = ("ws", "expect", "ready", "--send", "ready", "--data", '{"job": {"id": [7, "x"]}}')

    yes = katax(*words, "--where", "job.id.0=7", "--where", "job.id.1=x", "-f", "json")

    def no() -> Done:
        return katax(*words, "--where", "job.id.0=8", "--timeout", "300ms")

    assert (yes.code, yes.json["data"]) == (0, {"job": {"id": [7, "x"]}})
    # The time may be over before it is connected, which is another answer.
    until(lambda: no() == Done(1, b"", "no matching event 'ready' within 0.3 s\n"))
    assert katax("ws", "expect", "x", "--where", "nonsense").code == 2


@pytest.mark.parametrize("options", [(), ("--as-client",)], ids=["admin", "client"])
def test_more_than_the_server_takes_is_said(options: tuple[str, ...], server: str) -> None:
    Path("fits.json").write_text(f'"{"ä" * 499_000}"')
    Path("big.json").write_text(f'"{"ä" * 500_100}"')

    fits = katax("ws", "emit", "x", "@fits.json", *options)
    big = katax("ws", "emit", "x", "@big.json", *options)

    assert (fits.code, big.code) == (0, 2)
    assert "takes messages of 1,000,000 bytes at the most, this one has 1,000,2" in big.err


def test_the_doctor_finds_one_server_well(server: str, port: int) -> None:
    done = katax("ws", "doctor", "-f", "json")

    (row,) = done.json
    assert list(row) == ["worker", "host", "pid", "port", "listening", "ack_ms"]
    assert (done.code, row["port"], row["listening"]) == (0, port, True)


def test_the_admin_token_is_needed_and_never_shown(
    server: str, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = (tmp_path / ".katax" / "ws-main.token").read_text().strip()
    monkeypatch.setenv("WRONG", TOKEN)

    refused = katax("ws", "clients", "--token", "env:WRONG", "--debug")
    said = katax("ws", "clients", "--token", f"file:{tmp_path}/.katax/ws-main.token", "--url", server)
    bare = katax("ws", "clients", "--token", token)
    elsewhere = katax("ws", "clients", "--url", f"http://example.invalid:{port}")

    assert (refused.code, said.code, bare.code, elsewhere.code) == (2, 0, 2, 2)
    assert "wrong or missing admin token" in refused.err
    assert "give its admin token with --token" in elsewhere.err
    for done in (refused, said, bare, elsewhere):
        assert token not in done.out + done.err
        assert TOKEN not in done.out + done.err


def test_clients_need_the_token_of_the_server(
    port: int, join: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WS_TOKEN", TOKEN)

    with serving("--auth-token", "env:WS_TOKEN", "--log-level", "debug") as process:
        url = f"http://127.0.0.1:{port}"
        refused = katax("ws", "emit", "x", "1", "--as-client")
        allowed = katax("ws", "emit", "x", "1", "--as-client", "--token", "env:WS_TOKEN")
        join(url, token=TOKEN).connect(deadline=soon())
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.terminate()
        _, err = process.communicate(timeout=120)

    assert (refused.code, allowed.code, process.returncode) == (2, 0, 0)
    assert TOKEN.encode() not in err + arguments
    assert katax("ws", "serve", "--auth-token", TOKEN).code == 2


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_with_0(sent: signal.Signals, port: int, join: MakeClient) -> None:
    with serving() as process:
        client = join(f"http://127.0.0.1:{port}")
        client.connect(deadline=soon())

        process.send_signal(sent)

        assert next_event(client, "server_closing").data == {"reason": "shutdown"}
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert b"ws 'main' is ending; notifying 1 clients\n" in err


def test_a_listener_comes_back_and_counts_what_it_missed(port: int) -> None:
    with serving() as first, listening("--event", "news", "--count", "1", "-f", "jsonl") as listener:
        first.terminate()
        first.communicate(timeout=120)
        with serving():
            lost, told = said(listener), said(listener).decode()
            katax("ws", "emit", "news", "1")
            (row,) = rows_of(listener)
    assert lost == b"the connection is lost; reconnecting\n"
    assert told.startswith("reconnected after ")
    assert told.endswith("events sent meanwhile are missing\n")
    assert row["data"] == 1


def test_a_listener_says_how_many_events_it_missed(server: str, port: int, proxy: MakeProxy) -> None:
    way = proxy(("127.0.0.1", port))
    with listening("--url", f"http://127.0.0.1:{way.port}", "--event", "news", "-f", "jsonl") as listener:
        katax("ws", "emit", "news", "0")
        before = next_row(listener)

        way.refuse()
        way.cut()
        for name in ("news", "other", "news"):
            katax("ws", "emit", name, "1")
        way.come_back()
        lost, told = said(listener), said(listener).decode()
        katax("ws", "emit", "news", "2")
        after = next_row(listener)

    assert (before["data"], after["data"]) == (0, 2)
    assert lost == b"the connection is lost; reconnecting\n"
    assert told.startswith("reconnected after ")
    assert told.endswith(" s; 3 events are missing\n")


def plain(stack: ExitStack, port: int, *, sock: socket.socket | None = None) -> ClientConnection:
    """A WebSocket that has joined and says nothing by itself."""
    url = f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
    opening = connect(url, sock=sock, max_queue=1, proxy=None, compression=None, close_timeout=0.1)
    made = stack.enter_context(opening)
    made.recv(timeout=120)
    made.send("40")
    assert str(made.recv(timeout=120)).startswith("40")
    return made


def test_draining_closes_with_service_restart(port: int) -> None:
    with serving() as process, ExitStack() as sockets:
        client = plain(sockets, port)

        process.terminate()

        assert client.recv(timeout=120) == '42["server_closing",{"reason":"shutdown"}]'
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=120)
        process.communicate(timeout=120)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, process.returncode) == (1012, 0)


def who_does_not_read(stack: ExitStack, port: int) -> None:
    """A client for which more waits than the system holds for it."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", port))
    plain(stack, port, sock=narrow)
    Path("bulk.json").write_text(f'"{"x" * 900_000}"')
    for _ in range(10):
        assert katax("ws", "emit", "bulk", "@bulk.json", "-f", "json").json["clients"] == 1


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_drain_that_hangs(second: signal.Signals, tmp_path: Path) -> None:
    port = free_port()
    extra = f"[shutdown]\ntimeout = 600\n[ws.main]\nport = {port}\n"
    write_profile(tmp_path, {"main": "sqlite:///x.db"}, extra=extra)
    with serving() as process, ExitStack() as sockets:
        who_does_not_read(sockets, port)

        process.terminate()
        assert said(process) == b"ws 'main' is ending; notifying 1 clients\n"
        process.send_signal(second)

        assert process.wait(timeout=120) == 128 + second


def test_a_drain_has_an_end(tmp_path: Path) -> None:
    port = free_port()
    extra = f"[shutdown]\ntimeout = 1.0\n[ws.main]\nport = {port}\n"
    write_profile(tmp_path, {"main": "sqlite:///x.db"}, extra=extra)
    with serving() as process, ExitStack() as sockets:
        who_does_not_read(sockets, port)

        process.terminate()
        _, err = process.communicate(timeout=120)

    assert process.returncode == 0
    assert b"1 clients did not read in time and were cut off\n" in err


def test_no_server_is_unavailable(port: int) -> None:
    katax("ws", "serve", "--redis", "nowhere")
    os.makedirs(".katax", exist_ok=True)
    Path(".katax/ws-main.token").write_text("x")
    os.chmod(".katax/ws-main.token", 0o600)

    done = katax("ws", "clients")

    assert done.code == 3
    assert f"'127.0.0.1:{port}' is not available: " in done.err


def test_a_server_that_never_started_here_has_no_token(port: int) -> None:
    done = katax("ws", "clients")

    assert done.code == 2
    assert "start 'katax ws serve' first" in done.err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("serve", "other"), 2, "no Socket.IO server named 'other'; known servers: main"),
        (("serve", "--redis", "main"), 2, "--redis takes a Redis connection"),
        (("serve", "--host", "0.0.0.0"), 4, "set auth_token, or repeat with --insecure"),
        (("clients", "--url", "ftp://x"), 2, "the url of a Socket.IO server is"),
        (("listen", "--count", "0"), 2, "range"),
    ],
)
def test_wrong_words(words: tuple[str, ...], code: int, says: str, port: int) -> None:
    extra = ("--token", f"file:{__file__}") if "--url" in words else ()
    done = katax("ws", *words, *extra)

    assert (done.code, says in done.err) == (code, True), done.err


def test_a_port_in_use_and_a_wrong_path_are_said(server: str, port: int) -> None:
    again = katax("ws", "serve")
    elsewhere = katax("ws", "emit", "x", "1", "--as-client", "--url", f"{server}/wrong")

    assert (again.code, elsewhere.code) == (2, 2)
    assert f"ws 'main' cannot listen on 127.0.0.1:{port}: Address already in use; choose another" in again.err
    assert "no Socket.IO there; name its path" in elsewhere.err


def test_several_servers_are_told_apart_by_their_names(tmp_path: Path, join: MakeClient) -> None:
    ports = {"chat": free_port(), "news": free_port()}
    extra = "".join(f"[ws.{name}]\nport = {port}\n" for name, port in ports.items())
    write_profile(tmp_path, {"main": "sqlite:///x.db"}, extra=extra)
    with serving("chat"), serving("news"):
        clients = {name: join(f"http://127.0.0.1:{port}") for name, port in ports.items()}
        for client in clients.values():
            client.connect(deadline=soon())

        unnamed = katax("ws", "emit", "x", "1")
        for name in ports:
            assert katax("ws", "emit", name, "1", "--name", name, "-f", "json").json["clients"] == 1

        for name, client in clients.items():
            assert next(iter(client.events(soon()))).name == name
    assert unnamed.code == 2
    assert "has several Socket.IO servers; choose one: chat, news" in unnamed.err


def test_a_room_that_is_not_open_is_said(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    settings = WsSettings("closed", port=0)
    server = Sockets(settings, home=str(tmp_path / ".katax"), may_join=lambda _client, _room: False)
    with closing(server):
        words = ("--as-client", "--room", "r", "--url", server.url)
        done = [katax("ws", "listen", *words), katax("ws", "emit", "x", "1", *words)]

    assert [each.code for each in done] == [1, 1]
    for each in done:
        assert "the server did not open room 'r': this room is not open to you" in each.err


def test_the_built_in_profile_has_to_be_named() -> None:
    done = katax("ws", "serve")

    assert done.code == 4
    assert "repeat with -p local" in done.err


def test_a_note_on_the_profile_is_written_once(tmp_path: Path) -> None:
    file = write_profile(tmp_path, {"main": "postgresql://app@127.0.0.1:1/app"})
    file.write_text(file.read_text() + 'password_file = "password"\n')
    (tmp_path / "password").write_text("s3cr3t\n")
    (tmp_path / "password").chmod(0o644)

    done = katax("ws", "serve", "--redis", "nowhere")

    assert done.code == 2
    assert done.err.count("is readable by everyone") == 1


def test_a_server_reports_to_the_state_database(server: str) -> None:
    assert eventually(lambda: Path(".katax/state.db").exists())
