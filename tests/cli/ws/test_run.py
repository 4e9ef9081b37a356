"""Several `katax ws serve` of one name, each in a process of its own, over one Redis."""

from __future__ import annotations

import signal
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError

import pytest

from katax_cli.services.ws.client import SocketClient
from tests.cli.harness import Done, katax, write_profile
from tests.cli.sockets import Process, serving
from tests.servers import free_port
from tests.servers.fixtures import Throwaway
from tests.services.ws.conftest import MakeClient, joining, next_event, soon
from tests.waiting import until


class Worker(NamedTuple):
    """A server in its process."""

    process: Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ready") as answer:
                return bool(answer.status == 200)
        except HTTPError as error:
            with error:
                return False


Pair = tuple[Worker, Worker]
Start = Callable[[str], Pair]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(url of Redis)`: two workers of the server `main`."""
    with ExitStack() as workers:

        def make(redis: str) -> Pair:
            ports = free_port(), free_port()
            extra = f'[ws.main]\nport = {ports[0]}\nredis = "cache"\n'
            profile = write_profile(tmp_path, {"main": "sqlite:///x.db", "cache": redis}, extra=extra)
            profile.write_text(f'{profile.read_text()}prefix = "{tmp_path.name}:"\n')
            first, second = (
                Worker(workers.enter_context(serving("--port", str(port))), port) for port in ports
            )
            return first, second

        yield make


@pytest.fixture
def pair(start: Start, redis_url: str) -> Pair:
    return start(redis_url)


@pytest.fixture
def join(tmp_path: Path) -> Iterator[MakeClient]:
    with joining(str(tmp_path / ".katax")) as make:
        yield make


def in_room(pair: Pair, join: MakeClient) -> list[SocketClient]:
    """A client on each worker, in the room `r`."""
    clients = [join(worker.url) for worker in pair]
    for client in clients:
        client.join("r", deadline=soon())
    return clients


@contextmanager
def stopped(worker: Worker) -> Iterator[None]:
    """It hangs: its connections live, and it does nothing."""
    worker.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("asked", [0, 1])
def test_an_event_reaches_the_clients_of_all(asked: int, pair: Pair, join: MakeClient) -> None:
    clients = in_room(pair, join)

    def is_sent() -> bool:
        """And that the other worker said so in time: a busy machine may be too slow once."""
        sent = katax("ws", "emit", "news", '{"x": 1}', "--room", "r", "--url", pair[asked].url, "-f", "json")
        return (sent.json["clients"], sent.err) == (2, "")

    until(is_sent)
    assert [next_event(client, "news").data for client in clients] == [{"x": 1}] * 2


def test_what_they_know_adds_up_and_kicking_reaches_across(pair: Pair, join: MakeClient) -> None:
    near, far = in_room(pair, join)

    # A worker that is slow to answer is left out, with a word.
    until(lambda: katax("ws", "rooms", "-f", "json").json == [{"room": "r", "clients": 2}])
    pids: dict[int, str] = {}

    def both_are_told() -> bool:
        rows = katax("ws", "clients", "-f", "json").json
        pids.update({int(row["worker"].rpartition(":")[2]): row["sid"] for row in rows})
        return set(pids) == {worker.process.pid for worker in pair}

    until(both_are_told)
    sid = pids[pair[1].process.pid]
    assert katax("ws", "kick", sid, "--url", pair[0].url).code == 0

    until(lambda: katax("ws", "rooms", "-f", "json").json == [{"room": "r", "clients": 1}])
    katax("ws", "emit", "news", "1", "--url", pair[1].url)
    assert next_event(near, "news").data == 1
    assert far.where.url == pair[1].url


def test_the_doctor_knows_both(pair: Pair) -> None:
    answers: list[Done] = []

    def is_well() -> bool:
        answers.append(katax("ws", "doctor", "-f", "json"))
        return (answers[-1].code, answers[-1].err) == (0, "")

    until(is_well)
    assert {(row["pid"], row["port"], row["listening"]) for row in answers[-1].json} == {
        (worker.process.pid, worker.port, True) for worker in pair
    }


def test_the_doctor_names_who_hangs(pair: Pair) -> None:
    asked, hanging = pair
    with stopped(hanging):
        done = katax("ws", "doctor", "--url", asked.url)
        sent = katax("ws", "emit", "news", "1", "--url", asked.url)
        itself = katax("ws", "doctor", "--url", hanging.url, "--timeout", "500ms")

    assert (done.code, sent.code, itself.code) == (1, 0, 3)
    assert f":{hanging.process.pid}; restart it" in done.err
    assert f":{hanging.process.pid}; see 'katax ws doctor'" in sent.err
    assert f":{asked.process.pid}" not in done.err
    until(lambda: katax("ws", "doctor").code == 0)


def test_the_end_of_one_leaves_the_other_alone(pair: Pair, join: MakeClient) -> None:
    leaving, staying = in_room(pair, join)

    pair[0].process.terminate()
    assert next_event(leaving, "server_closing").data == {"reason": "shutdown"}
    pair[0].process.communicate(timeout=120)

    assert pair[0].process.returncode == 0
    done = katax("ws", "doctor", "--url", pair[1].url, "-f", "json")
    assert (done.code, [row["pid"] for row in done.json]) == (0, [pair[1].process.pid])
    sent = katax("ws", "emit", "last", "1", "--url", pair[1].url, "-f", "json")
    assert sent.json["clients"] == 1
    assert next(iter(staying.events(soon()))).name == "last"


def test_who_was_killed_is_no_worker_for_long(pair: Pair, join: MakeClient) -> None:
    (_, staying) = in_room(pair, join)

    pair[0].process.kill()
    pair[0].process.communicate()
    katax("ws", "emit", "news", "1", "--url", pair[1].url)

    assert next_event(staying, "news").data == 1
    until(lambda: katax("ws", "doctor", "--url", pair[1].url).code == 0)


def test_both_hear_again_after_redis_restarted(start: Start, join: MakeClient, throwaway: Throwaway) -> None:
    redis = throwaway("redis")
    pair = start(redis.url)
    clients = in_room(pair, join)

    redis.stop()
    until(lambda: not any(worker.is_ready for worker in pair))
    assert katax("ws", "doctor").code == 3
    redis.start()

    until(lambda: katax("ws", "doctor").code == 0)
    until(lambda: all(worker.is_ready for worker in pair))
    for worker in pair:
        sent = katax("ws", "emit", "again", "1", "--url", worker.url, "-f", "json")
        assert sent.json["clients"] == 2
    for client in clients:
        assert [next_event(client, "again").data for _ in pair] == [1, 1]


def test_a_worker_that_finds_no_redis_says_so(tmp_path: Path, closed_port: int) -> None:
    extra = f'[ws.main]\nport = {free_port()}\nredis = "cache"\n'
    write_profile(tmp_path, {"cache": f"redis://127.0.0.1:{closed_port}"}, extra=extra)

    done = katax("ws", "serve")

    assert done.code == 3
    assert f"127.0.0.1:{closed_port}" in done.err
