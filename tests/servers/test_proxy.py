"""The proxy: each way of breaking the wire does what it says and nothing else."""

import socket
import threading
from collections.abc import Iterator

import psycopg
import pytest

from tests.servers import Proxy, Server
from tests.servers.fixtures import MakeFresh, MakeProxy, Target
from tests.test_servers import write_and_read
from tests.waiting import SECONDS


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that answers each chunk with itself in capitals."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with client:
            try:
                while chunk := client.recv(1024):
                    client.sendall(chunk.upper())
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with listener:
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=SECONDS)


def say(client: socket.socket, words: bytes) -> bytes:
    client.sendall(words)
    return client.recv(1024)


def says_nothing(client: socket.socket) -> bool:
    client.settimeout(0.1)
    try:
        client.recv(1024)
    except TimeoutError:
        return True
    finally:
        client.settimeout(SECONDS)
    return False


def test_bytes_go_both_ways_and_are_counted(proxy: MakeProxy, echo: tuple[str, int]) -> None:
    between = proxy(echo)
    with connect(between) as one, connect(between) as two:
        assert say(one, b"hello") == b"HELLO"
        assert say(two, b"you") == b"YOU"
        assert (between.connections, between.open_connections) == (2, 2)
        assert (between.bytes_up, between.bytes_down) == (8, 8)


def test_an_orderly_end_is_passed_on(proxy: MakeProxy, echo: tuple[str, int]) -> None:
    with connect(proxy(echo)) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1024) == b"LAST WORDS"
        assert client.recv(1024) == b""


def test_cut_resets_and_a_new_connection_works(proxy: MakeProxy, echo: tuple[str, int]) -> None:
    between = proxy(echo)
    with connect(between) as client:
        say(client, b"hello")
        between.cut()
        assert between.open_connections == 0
        with pytest.raises(ConnectionResetError):
            client.recv(1024)
    with connect(between) as client:
        assert say(client, b"again") == b"AGAIN"
    assert between.connections == 2


def test_stall_holds_bytes_and_resume_lets_them_go(proxy: MakeProxy, echo: tuple[str, int]) -> None:
    between = proxy(echo)
    with connect(between) as client:
        say(client, b"hello")
        between.stall()
        client.sendall(b"held back")
        assert says_nothing(client)
        assert between.open_connections == 1
        between.resume()
        assert client.recv(1024) == b"HELD BACK"


def test_frozen_connections_fall_silent_and_new_ones_work(proxy: MakeProxy, echo: tuple[str, int]) -> None:
    between = proxy(echo)
    with connect(between) as old:
        assert say(old, b"a") == b"A"
        between.freeze()
        old.sendall(b"b")
        with connect(between) as new:
            assert say(new, b"c") == b"C"
        assert says_nothing(old)


def test_a_stalled_connection_can_be_cut(proxy: MakeProxy, echo: tuple[str, int]) -> None:
    between = proxy(echo)
    with connect(between) as client:
        between.stall()
        client.sendall(b"held back")
        assert says_nothing(client)
        between.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1024)


def test_slow_delays_but_delivers(proxy: MakeProxy, echo: tuple[str, int]) -> None:
    between = proxy(echo)
    with connect(between) as client:
        between.slow(0.02)
        assert say(client, b"slowly") == b"SLOWLY"
        between.slow(bytes_per_second=0.01)
        client.sendall(b"more slowly")
        assert says_nothing(client)
        between.resume()
        assert client.recv(1024) == b"MORE SLOWLY"


def test_refuse_and_come_back_on_the_same_port(proxy: MakeProxy, echo: tuple[str, int]) -> None:
    between = proxy(echo)
    with connect(between) as client:
        say(client, b"hello")
        between.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(between)
        assert say(client, b"still here") == b"STILL HERE"
    between.come_back()
    with connect(between) as client:
        assert say(client, b"back") == b"BACK"


def test_a_black_hole_accepts_and_says_nothing(proxy: MakeProxy, echo: tuple[str, int]) -> None:
    between = proxy(echo)
    between.black_hole()
    with connect(between) as client:
        client.sendall(b"anybody?")
        assert says_nothing(client)
    between.come_back()
    with connect(between) as client:
        assert say(client, b"back") == b"BACK"


def test_the_hook_sees_what_clients_send(proxy: MakeProxy, echo: tuple[str, int]) -> None:
    between = proxy(echo)
    seen: list[bytes] = []
    between.on_client_bytes(seen.append)
    with connect(between) as client:
        say(client, b"one")
        say(client, b"two")
    assert seen == [b"one", b"two"]


def test_a_server_that_is_gone_looks_gone(proxy: MakeProxy, closed_port: int) -> None:
    between = proxy(("127.0.0.1", closed_port))
    with pytest.raises(ConnectionResetError), connect(between) as client:
        client.recv(1)


def test_a_deaf_port_takes_the_connection_and_is_silent(deaf_port: int) -> None:
    with socket.create_connection(("127.0.0.1", deaf_port), timeout=SECONDS) as client:
        client.sendall(b"anybody?")
        assert says_nothing(client)


@pytest.mark.parametrize(("forward", "rows"), [(True, 1), (False, 0)])
def test_the_wire_is_cut_at_commit(fresh: MakeFresh, proxy: MakeProxy, *, forward: bool, rows: int) -> None:
    target = fresh("postgresql")
    between = proxy(target)
    with psycopg.connect(target.url) as direct:
        direct.execute("CREATE TABLE note (words text)")
    connection = psycopg.connect(between.url)
    connection.execute("INSERT INTO note VALUES ('once')")
    between.cut_after(b"COMMIT", forward=forward)
    with pytest.raises(psycopg.OperationalError):
        connection.commit()
    connection.close()
    assert count(target) == rows
    assert between.open_connections == 0


def count(target: Target) -> int:
    with psycopg.connect(target.url) as direct:
        row = direct.execute("SELECT count(*) FROM note").fetchone()
    assert row
    return int(row[0])


def test_the_trap_springs_once(proxy: MakeProxy, echo: tuple[str, int]) -> None:
    between = proxy(echo)
    between.cut_after(lambda chunk: chunk.startswith(b"go"), forward=False)
    with connect(between) as client:
        assert say(client, b"stay") == b"STAY"
        with pytest.raises(ConnectionResetError):
            say(client, b"go")
    with connect(between) as client:
        assert say(client, b"go") == b"GO"


def test_a_cut_behind_the_answer_waits_until_the_server_has_done_all(proxy: MakeProxy) -> None:
    """However long it takes for what comes after its first answer."""
    done: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            server, _ = listener.accept()
            with server:
                server.sendall(server.recv(1024))
                done.append(server.recv(1024))  # of a wire that is cut it raises
                server.sendall(b"late")

        serving = threading.Thread(target=serve)
        serving.start()
        between = proxy(listener.getsockname())
        between.cut_after(b"go", forward=True)
        with connect(between) as client:
            with pytest.raises(ConnectionResetError):
                say(client, b"go")
            assert done == [b""]
        serving.join()


def test_nobody_else_gets_the_port_while_it_refuses(proxy: MakeProxy, echo: tuple[str, int]) -> None:
    between = proxy(echo)
    between.refuse()
    with socket.socket() as stranger, pytest.raises(OSError, match="Address already in use"):
        stranger.bind((between.host, between.port))
    between.come_back()
    with connect(between) as client:
        assert say(client, b"back") == b"BACK"


@pytest.mark.parametrize("which", ["postgresql", "mysql", "mongodb", "redis"])
def test_every_engine_works_through_it(fresh: MakeFresh, proxy: MakeProxy, which: str) -> None:
    target = fresh(which)
    between = proxy(target)
    assert write_and_read(Target(which, between.url, target.server)) == 7
    assert between.connections >= 1
    assert between.bytes_down > 0


def test_its_url_keeps_everything_but_the_place(proxy: MakeProxy, postgresql: Server) -> None:
    between = proxy(postgresql)
    assert between.url == postgresql.url.replace(f":{postgresql.port}/", f":{between.port}/")
