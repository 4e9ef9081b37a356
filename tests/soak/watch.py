"""`katax health serve` under chaos: what /ready says is true of the servers, and it takes nothing that it keeps.

Servers are killed with -9, frozen, refused, swallowed and cut for moments or for long; the process itself is frozen,
or killed with -9 and started again. `python -m tests.soak.watch --seconds 120`; exit 1 when /ready was 200 although a
server had been away for `TOLD` seconds, or 503 although all had been well for as long; when it was 200 on checks older
than three intervals and a round; when /live failed or made its caller wait; or when open files or sessions had grown.
"""

from __future__ import annotations

import json
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
from pathlib import Path
from typing import Any, NamedTuple

from katax_cli.services.health.probe import PROBE_SECONDS
from tests.servers.fleet import Fleet
from tests.servers.rooms import free_port
from tests.soak.acts import Place, freeze, kill, places_of, refuse, run, swallow, tell
from tests.soak.program import SERVERS

INTERVAL = 1.0
TOLD = 20.0
"""Seconds after which /ready knows: two rounds, the longest timeout of a check, and a busy machine."""
PATIENCE = 10.0
"""Seconds within which /live answers, on a busy machine."""


class Answer(NamedTuple):
    """One answer of /ready, with the moments before and after it."""

    began: float
    ended: float
    status: int
    body: dict[str, Any]


@dataclass(eq=False)
class Watcher:
    """The process under test, and a thread that asks it all the time."""

    folder: Path
    port: int
    answers: list[Answer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lives: int = 0
    disturbed: float = 0.0
    """When it was last frozen or started: its answers of that moment are excused."""

    def start(self) -> None:
        words = [sys.executable, "-m", "katax_cli", "health", "serve", "--port", str(self.port)]
        with (self.folder / "watch.log").open("ab") as log:
            self.process = subprocess.Popen(
                words, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.disturbed = time.monotonic()

    def end(self) -> None:
        self.disturbed = time.monotonic()
        self.process.kill()
        self.process.wait()

    def ask_until(self, stopped: threading.Event) -> None:
        while not stopped.wait(0.1):
            self.ask_live()
            self.ask_ready()

    def ask_live(self) -> None:
        began = time.monotonic()
        status = self._get("/live")[0]
        if status == 200 and time.monotonic() - began < PATIENCE:
            self.lives += 1
        elif self.disturbed < began - PATIENCE:
            self.problems.append(f"/live was {status} after {time.monotonic() - began:.1f} s")

    def ask_ready(self) -> None:
        began = time.monotonic()
        status, text = self._get("/ready")
        if status:
            self.answers.append(Answer(began, time.monotonic(), status, json.loads(text)))

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def _get(self, path: str) -> tuple[int, str]:
        """0 when it does not answer at all."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""


class Chaos:
    """What may happen, one thing at a time; notes from when to when servers were away."""

    def __init__(self, places: Sequence[Place], watcher: Watcher, chance: random.Random) -> None:
        self.happened: Counter[str] = Counter()
        self.away: list[tuple[float, float]] = []
        self._places, self._watcher, self._chance = places, watcher, chance

    def step(self) -> None:
        acts = (self.kill, self.freeze, self.refuse, self.swallow, self.cut)
        act: Callable[[Place, float], None] = self._chance.choice(acts)
        if self._chance.random() < 0.2:
            self.harm_the_watcher()
        began = time.monotonic()
        act(self._chance.choice(self._places), self._chance.choice((0.3, 2.0, TOLD + 8.0)))
        self.away.append((began, time.monotonic()))
        self.happened[act.__name__] += 1
        time.sleep(self._chance.choice((0.5, 5.0, TOLD + 8.0)))

    def kill(self, place: Place, seconds: float) -> None:
        kill(place.server, seconds)

    def freeze(self, place: Place, seconds: float) -> None:
        freeze(place.server, seconds)

    def refuse(self, place: Place, seconds: float) -> None:
        refuse(place.wire, seconds)

    def swallow(self, place: Place, seconds: float) -> None:
        swallow(place.wire, seconds)

    def cut(self, place: Place, _seconds: float) -> None:
        place.wire.cut()

    def harm_the_watcher(self) -> None:
        if self._chance.random() < 0.5:
            self._watcher.end()
            self._watcher.start()
            self.happened["kill_watcher"] += 1
        else:
            self._watcher.process.send_signal(signal.SIGSTOP)
            time.sleep(self._chance.choice((0.5, 4.0)))
            self._watcher.process.send_signal(signal.SIGCONT)
            self._watcher.disturbed = time.monotonic()
            self.happened["freeze_watcher"] += 1


def profile(folder: Path, urls: dict[str, str]) -> None:
    tables = "".join(f'[connections.{name}]\ntype = "{name}"\nurl = "{url}"\n' for name, url in urls.items())
    (folder / "profiles").mkdir()
    calm = f"[health]\ninterval = {INTERVAL}\ndegraded_ms = 20000\nunhealthy_ms = 30000\n"
    (folder / "profiles" / "soak.toml").write_text(f'role = "dev"\n{calm}{tables}')


def soak(seconds: float, seed: int, fleet: Fleet) -> bool:
    """Runs the chaos and counts; True when every answer was true."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="katax-soak-")))
        os.environ["HOME"] = str(folder)
        places = places_of(fleet, SERVERS, stack)
        profile(folder, {place.server.engine: place.wire.url for place in places})
        watcher = Watcher(folder, free_port())
        watcher.start()
        stack.callback(watcher.end)
        stopped = threading.Event()
        asking = threading.Thread(target=watcher.ask_until, args=[stopped], daemon=True)
        asking.start()
        stack.callback(stopped.set)
        time.sleep(TOLD)
        before = watcher.files()
        chaos = Chaos(places, watcher, random.Random(seed))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            chaos.step()
        time.sleep(TOLD + 2.0)
        stopped.set()
        asking.join()
        problems = [*watcher.problems, *wrong(watcher.answers, chaos.away), *grown(watcher, places, before)]
        report(seed, chaos, watcher, problems)
        return not problems


def wrong(answers: Sequence[Answer], away: Sequence[tuple[float, float]]) -> Iterator[str]:
    for answer in answers:
        gone = next((each for each in away if each[0] + TOLD < answer.began and answer.ended < each[1]), None)
        if answer.status == 200 and gone:
            yield f"/ready was 200 when a server had been away for {answer.began - gone[0]:.1f} s"
        if answer.status == 200 and answer.body["age_seconds"] > 3 * INTERVAL + PROBE_SECONDS:
            yield f"/ready was 200 on checks that were {answer.body['age_seconds']} s old"
        calm = all(ended + TOLD < answer.began or began > answer.ended for began, ended in away)
        if answer.status != 200 and calm and answer.body["age_seconds"] is not None:
            yield f"/ready was {answer.status} although all was well: {answer.body['reason']}"


def grown(watcher: Watcher, places: Sequence[Place], before: int) -> Iterator[str]:
    if (files := watcher.files()) > before + 5:
        yield f"{files} open files, {before} in the beginning"
    for place in places:
        if place.wire.open_connections > 1:
            yield f"{place.wire.open_connections} sessions on {place.server.engine}"


def report(seed: int, chaos: Chaos, watcher: Watcher, problems: Sequence[str]) -> None:
    statuses = Counter(answer.status for answer in watcher.answers)
    summary = (
        f"{watcher.lives} times alive, ready {dict(statuses)}; chaos {dict(chaos.happened)}, seed {seed}"
    )
    tell(summary, problems)


if __name__ == "__main__":
    sys.exit(run("watch", __doc__, soak, seconds=300.0))
