"""A program under chaos: what katax called done is there once, what it called not done is not there.

Servers are killed with -9 and restarted, frozen and thawed; wires are cut, refused, slowed and swallowed; the disk of
its SQLite file is full for a while; the program itself is killed with -9 and started again.
`python -m tests.soak.program --seconds 120`; exit 1 when katax said something wrong of a write, handed a reply to the
wrong caller, or was late.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from katax_cli import Katax
from katax_cli.profiles.load import load_profile
from tests.servers.fleet import Fleet
from tests.soak.acts import Place, freeze, kill, places_of, refuse, run, say, swallow, tell
from tests.soak.writer import SQL_ENGINES, TIMEOUT

SERVERS = ("postgresql", "mysql", "redis")
LATE = TIMEOUT + 2.0
"""Seconds after which an answer counts as late: the deadline, what katax gives a cancellation, and a busy machine."""
SMALLEST, NO_LIMIT = 200_000, resource.RLIM_INFINITY
"""Bytes of the smallest limit on files, which the program's notes stay below."""
LENGTHS = """
local page, lengths = redis.call("SCAN", ARGV[1], "MATCH", "soak:*", "COUNT", 1000), {}
for number, key in ipairs(page[2]) do lengths[number] = redis.call("LLEN", key) end
return {page[1], page[2], lengths}
"""
TABLE = "create table if not exists soak (id varchar(60) not null, part int not null)"


class Attempt(NamedTuple):
    """One call of the program: what was tried on which engine."""

    engine: str
    kind: str
    id: str


class Chaos:
    """What may happen, one thing at a time."""

    def __init__(self, places: Sequence[Place], folder: Path, chance: random.Random) -> None:
        self.happened: Counter[str] = Counter()
        self._places = places
        self._folder = folder
        self._chance = chance
        self._number = 0
        self.start()

    def start(self) -> None:
        self._number += 1
        words = [sys.executable, "-m", "tests.soak.writer", str(self._folder), str(self._number)]
        log = (self._folder / "program.log").open("ab")
        self.program = subprocess.Popen(words, stdout=log, stderr=log, cwd=Path(__file__).parents[2])

    def end(self) -> None:
        self.program.kill()
        self.program.wait()

    def step(self) -> None:
        acts = (
            self.kill_server,
            self.freeze_server,
            self.cut,
            self.refuse,
            self.swallow,
            self.slow,
            self.fill_disk,
        )
        act: Callable[[Place], None] = self._chance.choice(acts)
        if self._chance.random() < 0.1:
            self.end()
            self.start()
            self.happened["kill_program"] += 1
        act(self._chance.choice(self._places))
        self.happened[act.__name__] += 1
        time.sleep(self._chance.uniform(0.2, 2.0))
        assert self.program.poll() is None, (self._folder / "program.log").read_text()[-4000:]

    def kill_server(self, place: Place) -> None:
        kill(place.server, self._chance.uniform(0.0, 2.0))

    def freeze_server(self, place: Place) -> None:
        freeze(place.server, self._chance.choice((0.3, 1.0, 6.0)))

    def cut(self, place: Place) -> None:
        place.wire.cut()

    def refuse(self, place: Place) -> None:
        refuse(place.wire, self._chance.uniform(0.1, 3.0))

    def swallow(self, place: Place) -> None:
        swallow(place.wire, self._chance.uniform(0.1, 5.0))

    def slow(self, place: Place) -> None:
        place.wire.slow(self._chance.uniform(0.01, 0.3))
        time.sleep(self._chance.uniform(0.5, 2.0))
        place.wire.slow(0.0)

    def fill_disk(self, _place: Place) -> None:
        """No file of the program grows beyond a size that its database or its log has."""
        size = max((self._folder / "soak.db").stat().st_size, SMALLEST)
        for limit in (self._chance.choice((SMALLEST, size)), NO_LIMIT):
            resource.prlimit(self.program.pid, resource.RLIMIT_FSIZE, (limit, NO_LIMIT))
            time.sleep(self._chance.uniform(0.1, 4.0))


def profile(folder: Path, urls: dict[str, str]) -> None:
    tables = "".join(f'[connections.{name}]\ntype = "{name}"\nurl = "{url}"\n' for name, url in urls.items())
    (folder / "profiles").mkdir()
    quiet = '[logging]\nqueries = "off"\n'
    (folder / "profiles" / "soak.toml").write_text(f'role = "dev"\n{quiet}{tables}')


def soak(seconds: float, seed: int, fleet: Fleet) -> bool:
    """Runs the chaos and counts; True when katax was right about every write."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="katax-soak-")))
        os.environ["HOME"] = str(folder)
        places = places_of(fleet, SERVERS, stack)
        urls = {"sqlite": f"sqlite:///{folder}/soak.db"} | {
            each.server.engine: each.wire.url for each in places
        }
        profile(folder, urls)
        with Katax(load_profile("soak", cwd=str(folder))) as katax:
            for engine in SQL_ENGINES:
                katax.database(engine).execute(TABLE)
        chaos = Chaos(places, folder, random.Random(seed))
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                chaos.step()
        finally:
            chaos.end()
        time.sleep(1.0)
        with Katax(load_profile("soak", cwd=str(folder))) as katax:
            return report(seed, chaos, folder, {engine: stored(katax, engine) for engine in urls})


def stored(katax: Katax, engine: str) -> Counter[tuple[str, int]]:
    """How often each row is there; of Redis, how long each list is."""
    database: Any = katax.database(engine)
    rows: Counter[tuple[str, int]] = Counter()
    if engine != "redis":
        for row in database.query("select id, part from soak", timeout=60.0):
            rows[row["id"], row["part"]] += 1
        return rows
    cursor = "0"
    while True:
        cursor, keys, lengths = database.redis("EVAL", LENGTHS, 0, cursor, timeout=60.0)
        for key, length in zip(keys, lengths, strict=True):
            rows[key.decode().removeprefix("soak:"), 0] = length
        if cursor == b"0":
            return rows


def notes(folder: Path) -> Iterator[list[str]]:
    for file in folder.glob("notes-*"):
        for line in file.read_text().splitlines():
            yield line.split()


def report(seed: int, chaos: Chaos, folder: Path, rows: dict[str, Counter[tuple[str, int]]]) -> bool:
    said: dict[Attempt, str] = {}
    slowest, problems = 0.0, []
    for word, engine, kind, id, *rest in notes(folder):
        attempt = Attempt(engine, kind, id)
        if word == "try":
            said.setdefault(attempt, "killed")
        else:
            said[attempt] = word
        if rest and (took := float(rest[0])) > LATE:
            problems.append(f"{attempt}: {word} after {took:.1f} s")
        slowest = max(slowest, float(rest[0]) if rest else 0.0)
    for attempt, word in said.items():
        problems += wrong(attempt, word, rows[attempt.engine])
    words = Counter(said.values())
    for engine in rows:
        by_engine = Counter(word for attempt, word in said.items() if attempt.engine == engine)
        say(f"  {engine}: {dict(by_engine)}")
    summary = f"{len(said)} calls {dict(words)}, the slowest {slowest:.1f} s; chaos {dict(chaos.happened)}, seed {seed}"
    tell(summary, problems)
    return not problems


def wrong(attempt: Attempt, word: str, rows: Counter[tuple[str, int]]) -> Iterator[str]:
    """What contradicts what katax said of this call."""
    if word == "wrong":
        yield f"{attempt}: got the reply of another call"
    if attempt.kind == "read":
        return
    parts = (1, 2) if attempt.kind == "pair" else (0,)
    counts = [rows[attempt.id, part] for part in parts]
    allowed = {"done": {1}, "not": {0}}.get(word, {0, 1})
    if len(set(counts)) > 1 or counts[0] not in allowed:
        yield f"{attempt}: katax said {word}, the server has {counts}"


if __name__ == "__main__":
    sys.exit(run("program", __doc__, soak, seconds=600.0))
