"""Three Socket.IO servers under chaos: nothing comes twice or out of order, and who stayed connected missed nothing.

`katax ws serve` processes share one Redis. They are killed with -9 and frozen, their wires and those of their clients
are cut, swallowed and refused, Redis is killed and frozen. `python -m tests.soak.sockets --seconds 60`; exit 1 when an
event came twice, after a later one of its sender, or from nowhere; when a client whose connection lasted missed one
that its own server had acknowledged; or when the servers do not act as one again in time once all is well.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.settings import Secret
from katax_cli.errors import KataxError, Unavailable
from katax_cli.services.ws.client import SocketClient, Where
from katax_cli.services.ws.values import NAMESPACE
from tests.servers.fleet import Fleet
from tests.servers.proxy import Proxy
from tests.servers.rooms import free_port
from tests.servers.server import Server
from tests.soak.acts import freeze, kill, refuse, run, swallow, tell

SERVERS, LISTENERS = 3, 4
"""Servers, and listeners on each."""
ROOM, EVENT, END = "soak", "n", "end"
TOKEN = "soak-admin-token"
READY = 30.0
"""Seconds until all servers are ready when nothing disturbs them: 10 promised, a start, and a busy machine."""
LAST = 100
"""Events of each sender after the chaos, which every listener gets once."""


class Sent(NamedTuple):
    """One event of a sender, with the moments before it was sent and after its acknowledgement."""

    number: int
    began: float
    ended: float
    done: bool


class Arrival(NamedTuple):
    """An event at a listener, in its so-manieth connection."""

    session: int
    sender: int
    number: int


@dataclass
class Place:
    """One server: its folder and port, its wire to Redis and the one by which clients come."""

    folder: Path
    port: int
    redis: Proxy
    clients: Proxy
    process: subprocess.Popen[bytes] | None = None
    largest: int = 0
    ends: list[int] = field(default_factory=list)

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            words = [sys.executable, "-m", "katax_cli", "ws", "serve"]
            self.process = subprocess.Popen(
                words, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        assert self.process is not None
        self.weigh()
        self.process.kill()
        self.process.wait()

    def supervise(self) -> None:
        """Starts it again when it ended, as systemd does: without Redis it does not begin (3)."""
        assert self.process is not None
        if self.process.poll() is not None:
            self.ends.append(self.process.returncode)
            self.start()

    def weigh(self) -> None:
        """Notes the most memory that it ever took, in kB."""
        assert self.process is not None
        if self.process.poll() is None:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
            self.largest = max(self.largest, peak)

    def ready(self) -> bool:
        self.supervise()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5.0) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False


@dataclass(eq=False)
class Sender(threading.Thread):
    """Numbers events through one server's administration, one after another, and notes what was acknowledged."""

    number: int
    place: Place
    stopped: threading.Event = field(default_factory=threading.Event)
    sent: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(name=f"sender-{self.number}", daemon=True)

    def run(self) -> None:
        while not self.stopped.is_set():
            with self.client() as client:
                while not self.stopped.is_set() and self.send(client):
                    self.stopped.wait(0.02)
            self.stopped.wait(0.1)

    def client(self) -> SocketClient:
        """One of the server's administration."""
        return SocketClient(Where(self.place.clients.url, namespace=NAMESPACE, token=Secret.of(TOKEN)))

    def send(self, client: SocketClient) -> bool:
        """False when it was not acknowledged."""
        number, began = len(self.sent), time.monotonic()
        request = {"event": EVENT, "data": [self.number, number], "room": ROOM}
        try:
            answer = client.call("emit", request, deadline=Deadline(5.0))
            done = "error" not in answer
        except KataxError:
            done = False
        self.sent.append(Sent(number, began, time.monotonic(), done))
        return done


@dataclass(eq=False)
class Listener(threading.Thread):
    """A client in the room, which comes back by itself; its connections begin at `sessions`."""

    place: Place
    seconds: float
    arrivals: list[Arrival] = field(default_factory=list)
    sessions: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(name=f"listener-{self.place.port}", daemon=True)

    def run(self) -> None:
        deadline = Deadline(self.seconds)
        while not deadline.expired:
            try:
                if self.listen(deadline):
                    return
            except KataxError:
                time.sleep(0.1)

    def listen(self, deadline: Deadline) -> bool:
        """True when the end was told."""
        where = Where(self.place.clients.url)
        with SocketClient(where, on_gap=lambda _: self.sessions.append(time.monotonic())) as client:
            client.join(ROOM, deadline=Deadline(10.0))
            self.sessions.append(time.monotonic())
            for event in client.events(deadline):
                if event.name == END:
                    return True
                if event.name == EVENT:
                    self.arrivals.append(Arrival(len(self.sessions), *event.data))
        return False


class Chaos:
    """What may happen, one thing at a time."""

    def __init__(self, places: Sequence[Place], redis: Server, chance: random.Random) -> None:
        self.happened: Counter[str] = Counter()
        self._places, self._redis, self._chance = places, redis, chance

    def step(self) -> None:
        acts = (self.kill, self.freeze, self.cut, self.cut_clients, self.refuse, self.swallow)
        act: Callable[[Place], None] = self._chance.choice(acts)
        if self._chance.random() < 0.15:
            self.harm_redis()
        act(self._chance.choice(self._places))
        self.happened[act.__name__] += 1
        time.sleep(self._chance.uniform(0.2, 3.0))
        for place in self._places:
            place.supervise()

    def kill(self, place: Place) -> None:
        place.kill()
        place.start()

    def freeze(self, place: Place) -> None:
        assert place.process is not None
        place.process.send_signal(signal.SIGSTOP)
        time.sleep(self._chance.choice((0.3, 2.0, 8.0)))
        place.process.send_signal(signal.SIGCONT)

    def cut(self, place: Place) -> None:
        place.redis.cut()

    def cut_clients(self, place: Place) -> None:
        place.clients.cut()

    def refuse(self, place: Place) -> None:
        refuse(place.redis, self._chance.uniform(0.1, 5.0))

    def swallow(self, place: Place) -> None:
        swallow(place.redis, self._chance.uniform(0.1, 6.0))

    def harm_redis(self) -> None:
        if self._chance.random() < 0.5:
            kill(self._redis, self._chance.uniform(0.0, 3.0))
        else:
            freeze(self._redis, self._chance.choice((0.5, 4.0)))
        self.happened["redis"] += 1


def made(folder: Path, redis: Server, stack: ExitStack) -> Place:
    port, wire = free_port(), Proxy.for_url(redis.url)
    clients = Proxy(("127.0.0.1", port), url=f"http://127.0.0.1:{port}")
    stack.callback(wire.close)
    stack.callback(clients.close)
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "soak.toml").write_text(
        f'role = "dev"\n[ws.main]\nport = {port}\nredis = "cache"\nadmin_token = "env:SOAK_ADMIN_TOKEN"\n'
        f'[connections.cache]\ntype = "redis"\nurl = "{wire.url}"\n'
    )
    place = Place(folder, port, wire, clients)
    place.start()
    stack.callback(place.kill)
    return place


def soak(seconds: float, seed: int, fleet: Fleet) -> bool:
    """Runs the chaos and counts; True when every promise held."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="katax-soak-")))
        os.environ |= {"HOME": str(root), "SOAK_ADMIN_TOKEN": TOKEN}
        redis = fleet.private("redis")
        places = [made(root / f"s{number}", redis, stack) for number in range(SERVERS)]
        within(READY, lambda: all(place.ready() for place in places))
        senders = [Sender(number, place) for number, place in enumerate(places)]
        listeners = [Listener(place, seconds + 300.0) for place in places for _ in range(LISTENERS)]
        for thread in (*listeners, *senders):
            thread.start()
        chaos = Chaos(places, redis, random.Random(seed))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            chaos.step()
        began = time.monotonic()
        within(READY, lambda: all(place.ready() for place in places))
        recovered = time.monotonic() - began
        last = finish(senders, listeners)
        for place in places:
            place.weigh()
        problems = list(wrong(senders, listeners, last))
        if recovered >= READY:
            problems.append(f"not ready again within {READY:g} s")
        problems += [f"{place.folder.name}: a traceback in its log" for place in places if told_badly(place)]
        problems += [
            f"{place.folder.name} ended with {code}" for place in places for code in place.ends if code != 3
        ]
        report(seed, chaos, senders, listeners, places, recovered, problems)
        return not problems


def finish(senders: Sequence[Sender], listeners: Sequence[Listener]) -> list[int]:
    """Sends the last events once all listeners are in the room; returns the number of each sender's first."""
    for sender in senders:
        sender.stopped.set()
    for sender in senders:
        sender.join()
    within(READY, lambda: all_joined(senders[0], len(listeners)))
    last = [len(sender.sent) for sender in senders]
    for sender in senders:
        with sender.client() as client:
            for _ in range(LAST):
                sender.send(client)
    wanted = sum(sum(each.done for each in sender.sent[last[sender.number] :]) for sender in senders)
    within(60.0, lambda: all(len(after(each, last)) >= wanted for each in listeners))
    end = {"event": END, "room": ROOM}
    within(60.0, lambda: asked(senders[0], "emit", end) and not any(each.is_alive() for each in listeners))
    return last


def all_joined(sender: Sender, listeners: int) -> bool:
    try:
        return bool(asked(sender, "rooms", None)["rooms"].get(ROOM) == listeners)
    except Unavailable:
        return False


def asked(sender: Sender, what: str, request: Any) -> Any:
    """The answer of a sender's server to one request of its administration."""
    with sender.client() as client:
        return client.call(what, request, deadline=Deadline(10.0))


def within(seconds: float, holds: Callable[[], object]) -> bool:
    """Waits until something holds; False when it did not in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def after(listener: Listener, first: Sequence[int]) -> list[Arrival]:
    """What arrived of the events from `first` of each sender on."""
    return [each for each in list(listener.arrivals) if each.number >= first[each.sender]]


def wrong(senders: Sequence[Sender], listeners: Sequence[Listener], last: Sequence[int]) -> Iterator[str]:
    for listener in listeners:
        name, heard = listener.name, listener.arrivals
        yield from (f"{name}: {key} came {many} times" for key, many in twice(heard))
        for sender in senders:
            numbers = [each.number for each in heard if each.sender == sender.number]
            yield from (
                f"{name}: {later} of sender {sender.number} came before {number}"
                for later, number in pairwise(numbers)
                if later > number
            )
            known = {each.number for each in sender.sent}
            yield from (f"{name}: {number} came from nowhere" for number in set(numbers) - known)
            missed = {each.number for each in expected(listener, sender, last[sender.number])} - set(numbers)
            yield from (f"{name}: {number} of sender {sender.number} is missing" for number in sorted(missed))


def twice(heard: Sequence[Arrival]) -> list[tuple[tuple[int, int], int]]:
    counts = Counter((each.sender, each.number) for each in heard)
    return [(key, many) for key, many in counts.items() if many > 1]


def expected(listener: Listener, sender: Sender, last: int) -> list[Sent]:
    """What a listener has to have: its own server's events since its last connection, and all after the chaos."""
    since = listener.sessions[-1] if listener.sessions else float("inf")
    own = listener.place is sender.place
    return [
        each for each in sender.sent if each.done and ((own and each.began > since) or each.number >= last)
    ]


def told_badly(place: Place) -> bool:
    return "Traceback" in (place.folder / "server.log").read_text(errors="replace")


def report(
    seed: int,
    chaos: Chaos,
    senders: Sequence[Sender],
    listeners: Sequence[Listener],
    places: Sequence[Place],
    recovered: float,
    problems: Sequence[str],
) -> None:
    sent = [each for sender in senders for each in sender.sent]
    arrivals = sum(len(each.arrivals) for each in listeners)
    connections = sum(len(each.sessions) for each in listeners)
    megabytes = max(each.largest for each in places) / 1024
    tell(
        f"{len(sent)} events, {sum(each.done for each in sent)} acknowledged; {arrivals} arrivals in {connections} "
        f"connections; ready again after {recovered:.1f} s; at most {megabytes:.0f} MB; "
        f"chaos {dict(chaos.happened)}, seed {seed}",
        problems,
    )


if __name__ == "__main__":
    sys.exit(run("sockets", __doc__, soak, seconds=300.0))
