"""Three daemons under chaos: every planned occurrence exactly one row, at most one start for each.

Daemons are killed with -9, frozen and thawed; their wires to the state database are cut, or SQLite's write lock is
held; with `--clocks` their wall clocks jump by up to a minute, each for itself.
`python -m tests.soak.cron --seconds 60 sqlite postgresql`; exit 1 when something was lost or doubled.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.servers.fleet import Fleet
from tests.servers.fresh import fresh_database
from tests.servers.proxy import Proxy
from tests.services.cron.daemons import DaemonProcess, history, until
from tests.soak.acts import parser_of, tell

ENGINES = ("sqlite", "postgresql", "mysql")
DAEMONS = 3
JOBS = {
    "quick": "",
    "together": 'on_overlap = "allow"',
    "all": 'on_overlap = "allow"\non_miss = "all"',
    "none": 'on_miss = "skip"\nstart_deadline = 2.0',
    "slow": "",
    "queued": 'on_overlap = "queue"\ntimeout = 3.0\nkill_after = 0.5',
}


WALL_CLOCK = """
import time
from pathlib import Path

true = time.time
offset = Path(__file__).with_name("offset")
time.time = lambda: true() + float(offset.read_text())
"""
"""Loaded by every Python that finds it, before katax asks for the time."""


@dataclass
class Place:
    """Where one daemon lives: a folder of its own, a wire of its own."""

    folder: Path
    proxy: Proxy | None
    jumps: bool
    daemon: DaemonProcess | None = None

    def start(self) -> None:
        self.daemon = DaemonProcess(self.folder, environ=self.clock() if self.jumps else {})

    def clock(self) -> dict[str, str]:
        """Variables for a wall clock of its own; the monotonic one stays true, as when somebody sets the time.

        Not by libfaketime: with a true monotonic clock it refuses every `time.sleep` of Python (EINVAL).
        """
        module = self.folder / "clock" / "sitecustomize.py"
        if not module.exists():
            module.parent.mkdir()
            module.write_text(WALL_CLOCK)
            self.set_clock(0)
        return {"PYTHONPATH": str(module.parent)}

    def set_clock(self, seconds: int) -> None:
        """So many seconds ahead of the true time, or behind it."""
        written = self.folder / "clock" / "written"
        written.write_text(str(seconds))
        written.rename(self.folder / "clock" / "offset")

    def end(self) -> None:
        if self.daemon is not None:
            self.daemon.end()

    def signal(self, number: signal.Signals) -> None:
        if self.daemon is not None:
            self.daemon.signal(number)


def profile(folder: Path, state: str, starts: Path) -> None:
    """The same jobs for every daemon; each writes a line when it starts."""
    (folder / "profiles").mkdir(parents=True)
    jobs = "".join(
        f'[cron.jobs.{name}]\nschedule = "@every 1s"\n{policy}\n'
        f'command = "echo $KATAX_JOB $KATAX_SCHEDULED_AT >> {starts}'
        f'{"; sleep 1.5" if name in ("slow", "queued") else ""}"\n'
        for name, policy in JOBS.items()
    )
    (folder / "profiles" / "soak.toml").write_text(
        f'role = "dev"\n[state]\nurl = "{state}"\n[cron]\ntimezone = "UTC"\n{jobs}'
        '[connections.main]\ntype = "sqlite"\nurl = "sqlite:///main.db"\n'
    )


class Chaos:
    """What may happen to daemons, one thing at a time."""

    def __init__(self, places: Sequence[Place], state_file: Path | None, chance: random.Random) -> None:
        self.happened: Counter[str] = Counter()
        self._places = places
        self._file = state_file
        self._chance = chance

    def step(self) -> None:
        """One act, on one of the daemons, and a pause."""
        acts = [self.kill, self.freeze, self.cut]
        if self._places[0].jumps:
            acts.append(self.jump)
        act: Callable[[Place], None] = self._chance.choice(acts)
        act(self._chance.choice(self._places))
        self.happened[act.__name__] += 1
        time.sleep(self._chance.uniform(0.1, 1.5))

    def kill(self, place: Place) -> None:
        if place.daemon is not None:
            place.daemon.kill()
        place.start()

    def freeze(self, place: Place) -> None:
        """Longer than a lease from time to time."""
        place.signal(signal.SIGSTOP)
        time.sleep(self._chance.choice((0.5, 2.0, 5.0, 22.0)))
        place.signal(signal.SIGCONT)

    def cut(self, place: Place) -> None:
        if place.proxy is None:
            self._lock()
            return
        if self._chance.random() < 0.5:
            place.proxy.refuse()
        place.proxy.cut()
        time.sleep(self._chance.uniform(0.0, 3.0))
        place.proxy.come_back()

    def jump(self, place: Place) -> None:
        place.set_clock(self._chance.choice((-60, -5, -1, 0, 1, 5, 60)))

    def _lock(self) -> None:
        assert self._file is not None
        with closing(sqlite3.connect(self._file, isolation_level=None, timeout=30.0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(self._chance.choice((0.5, 3.0, 12.0)))
            connection.rollback()


@contextmanager
def state_of(engine: str, root: Path, fleet: Fleet) -> Iterator[tuple[str, Path | None]]:
    """The URL of an empty state database, and its file where it is one."""
    if engine == "sqlite":
        path = root / "state.db"
        yield f"sqlite:///{path}", path
        return
    with fresh_database(fleet.shared(engine)) as url:
        yield url, None


def soak(engine: str, seconds: float, seed: int, fleet: Fleet, *, jumps: bool) -> bool:
    """Runs the chaos on one engine and counts; True when nothing was lost or doubled."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="katax-soak-")))
        os.environ["HOME"] = str(root)
        url, path = stack.enter_context(state_of(engine, root, fleet))
        starts = root / "starts"
        profile(root, url, starts)
        os.chdir(root)
        stack.callback(os.chdir, "/")
        places = [made(root / f"d{number}", url, starts, stack, jumps=jumps) for number in range(DAEMONS)]
        for place in places:
            place.start()
        until(starts.exists)
        chaos = Chaos(places, path, random.Random(seed))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            chaos.step()
        time.sleep(3.0)
        for place in places:
            assert place.daemon is not None
            place.daemon.stop()
        return report(engine, seed, chaos, starts.read_text().splitlines())


def made(folder: Path, url: str, starts: Path, stack: ExitStack, *, jumps: bool) -> Place:
    proxy = None
    if not url.startswith("sqlite"):
        proxy = Proxy.for_url(url)
        stack.callback(proxy.close)
    profile(folder, url if proxy is None else proxy.url, starts)
    place = Place(folder, proxy, jumps)
    stack.callback(place.end)
    return place


def report(engine: str, seed: int, chaos: Chaos, starts: Sequence[str]) -> bool:
    rows = history()
    problems: list[str] = []
    occurrences = 0
    started = Counter(
        (job, int(datetime.fromisoformat(at).timestamp())) for job, at in map(str.split, starts)
    )
    for job in JOBS:
        mine = [run for run in rows if run.job == job]
        covered = [run.scheduled_at // 1000 + number for run in mine for number in range(run.count)]
        occurrences += len(covered)
        whole = set(range(min(covered), max(covered) + 1))
        problems += [f"{job} {at}: no row" for at in sorted(whole - set(covered))]
        problems += [f"{job} {at}: {many} rows" for at, many in Counter(covered).items() if many > 1]
        may_start = {
            run.scheduled_at // 1000 for run in mine if run.state in ("ran", "failed", "killed", "running")
        }
        problems += [
            f"{job} {at}: started, and its row says otherwise"
            for (name, at) in started
            if name == job and at not in may_start
        ]
    problems += [f"{job} {at}: {many} starts" for (job, at), many in started.items() if many > 1]
    problems += [f"{run.job} {run.scheduled_at}: still running" for run in rows if run.state == "running"]
    states = Counter[str]()
    for run in rows:
        states[run.state] += run.count
    tell(
        f"{engine}: {occurrences} occurrences in {len(rows)} rows {dict(states)}, {len(starts)} starts; "
        f"chaos {dict(chaos.happened)}, seed {seed}",
        problems,
    )
    return not problems


def main(arguments: Sequence[str]) -> int:
    parser = parser_of("cron", __doc__, 300.0)
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help=f"of {', '.join(ENGINES)}; none: all")
    parser.add_argument("--clocks", action="store_true", help="wall clocks that jump")
    options = parser.parse_args(arguments)
    with closing(Fleet()) as fleet:
        held = [
            soak(engine, options.seconds, options.seed, fleet, jumps=options.clocks)
            for engine in options.engines or ENGINES
        ]
    return int(not all(held))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
