"""Processes that report to one state database, and a dashboard of many connections; each in a program of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from growing.commands import connections
from growing.fit import Cost, Growth, Place
from growing.programs import profile, program

REPORTING = r"""
import json, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter, process_time, time
from katax_cli.core.clock import SYSTEM
from katax_cli.profiles.load import load_profile
from katax_cli.services.dashboard.state_source import StateWatch
from katax_cli.services.state.reporter import Reporter
from katax_cli.services.state.store import HealthRecord, StateStore
sys.path.insert(0, sys.argv[3])
from growing.fit import Place

size, server = int(sys.argv[1]), Place(Path("."), "", int(sys.argv[2]) or None)
profile = load_profile("grow")
with StateStore(profile) as store:
    store.database()
reporters = [Reporter(profile, "grown", dict) for _ in range(size)]

def one_round(reporter):
    reporter.record(HealthRecord(time(), "main", "healthy", 1.0, 1.0, None))
    reporter.tick()

def taken(work):
    before, began = process_time() + server.server_seconds(), perf_counter()
    work()
    return process_time() + server.server_seconds() - before, perf_counter() - began

with ThreadPoolExecutor(8) as threads:
    def all_of_them():
        list(threads.map(one_round, reporters))
    all_of_them()
    writing = min(taken(all_of_them) for _ in range(2))
    watch = StateWatch(profile, clock=SYSTEM)
    reading = min(taken(lambda: watch.look({})) for _ in range(3))
    watch.close()
    with StateStore(profile) as store:
        heard = store.database().scalar("select count(*) from katax_processes")
    list(threads.map(lambda reporter: reporter.close(), reporters))
print(json.dumps({"writing": writing, "reading": reading, "heard": heard}))
"""
"""Eight threads make the rounds of all reporters: each has a connection of its own, as a process has."""
LOOKING = r"""
import json, sys
from contextlib import closing
from time import perf_counter, process_time
from katax_cli.profiles.load import load_profile
from katax_cli.services.dashboard.collector import Collector
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.tui.app import Dashboard

FIRST, LAST = 10, 30
with Runtime(load_profile("grow"), probing=True) as runtime:
    databases = [runtime.database(name) for name in runtime.profile.connections]
    with closing(Collector(runtime, databases)) as collector:
        looks = []
        def look():
            looks.append((process_time(), perf_counter()))
            if len(looks) == LAST:
                app.call_from_thread(app.exit)
            return collector(patience=5.0)
        app = Dashboard(look, interval=0.001, run=None, read=None)
        app.run(headless=True, size=(120, 40))
spent, passed = (last - first for last, first in zip(looks[LAST - 1], looks[FIRST]))
print(json.dumps({"refresh": spent / (LAST - 1 - FIRST), "wall": passed / (LAST - 1 - FIRST)}))
"""


def reporting(what: str) -> Callable[[int, Place], Cost]:
    """The cost of `writing` one report of each process, or of `reading` them all as a dashboard does."""

    def cost(size: int, place: Place) -> Cost:
        engine = "postgresql" if place.url else "sqlite"
        profile(place, engine, f'[state]\nurl = "{place.url or "sqlite:state.db"}"\n')
        words = [str(size), str(place.server or 0), str(Path(__file__).parents[1])]
        done = program([sys.executable, "-c", REPORTING, *words], place)
        found = json.loads(done.note)
        if found["heard"] != size:
            raise SystemExit(f"{found['heard']} of {size} processes could report")
        return Cost(found[what][0], done.megabytes, found[what][1])

    return cost


def refreshing(size: int, place: Place) -> Cost:
    """One refresh of the dashboard's screen, without a terminal."""
    connections(place, size)
    done = program([sys.executable, "-c", LOOKING], place)
    found = json.loads(done.note)
    return Cost(found["refresh"], done.megabytes, found["wall"])


def growths() -> list[Growth]:
    small, large = (50, 150, 400), (1, 125, 250, 500, 1_000)
    return [
        *(
            Growth(f"{name}, processes", engine, small, large, reporting(what), start=None, tries=1)
            for engine in ("sqlite", "postgresql")
            for what, name in (
                ("writing", "reports to the state database"),
                ("reading", "one reading of all reports"),
            )
        ),
        Growth(
            "dashboard, one refresh, connections", "redis", (25, 50, 100, 200), (1, 25, 50, 100, 200), refreshing,
            start=None,
        ),
    ]  # fmt: skip
