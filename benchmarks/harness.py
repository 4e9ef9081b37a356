"""One way to compare katax with a peer: same process, same server, alternating runs, medians.

A script calls `compare` for each piece of work and `finish` at its end. Rows are printed as one table and
merged into `benchmarks/results.json` by work and peer, which `run.py` prints whole.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import machine

# Processes that are timed find their modules compiled, as an installed program does.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

RESULTS = Path(__file__).with_name("results.json")
_VERDICTS = {True: "yes", False: "NO", None: "–"}
HEADINGS = ("work", "katax", "peer", "", "ratio", "of cpu", "target", "met")

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One piece of work: seconds for katax and for its peer, None when that is absent; `target` is the most allowed
    of their ratio, None where it is for information."""

    work: str
    katax: float
    peer: str
    seconds: float | None
    target: float | None
    note: str = ""
    katax_cpu: float | None = None
    cpu: float | None = None

    @property
    def cpu_ratio(self) -> float | None:
        """The ratio of user and system time, which a busy machine changes less than the time on the wall."""
        return None if self.katax_cpu is None or not self.cpu else self.katax_cpu / self.cpu

    @property
    def ratio(self) -> float | None:
        return None if self.seconds is None else self.katax / self.seconds

    @property
    def met(self) -> bool | None:
        return None if self.ratio is None or self.target is None else self.ratio <= self.target


_rows: list[Row] = []


def row(
    work: str,
    *,
    katax_seconds: float,
    peer_name: str,
    peer_seconds: float | None,
    target: float | None = 1.0,
    note: str = "",
    katax_cpu: float | None = None,
    peer_cpu: float | None = None,
) -> Row:
    """Adds a row that was measured elsewhere."""
    made = Row(work, katax_seconds, peer_name, peer_seconds, target, note, katax_cpu, peer_cpu)
    _rows.append(made)
    return made


def compare(
    work: str,
    *,
    katax: Work,
    peers: Mapping[str, Work | None],
    target: float = 1.0,
    runs: int = 7,
    warm_up: int = 1,
) -> list[Row]:
    """Runs katax and all peers in turn, `runs` times, and adds a row for each peer with the median times.

    A peer that is None is absent here, and its row says so. The order turns round with every run, so that
    nobody always runs in the wake of the same neighbour.
    """
    contenders: dict[str, Work] = {"katax": katax, **{name: run for name, run in peers.items() if run}}
    for _ in range(warm_up):
        for run in contenders.values():
            run()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in range(runs):
        for name in rotated(list(contenders), number):
            times[name].append(_seconds(contenders[name]))
    wall = {name: median(seconds for seconds, _ in runs) for name, runs in times.items()}
    cpu = {name: median(seconds for _, seconds in runs) for name, runs in times.items()}
    return [
        row(
            work,
            katax_seconds=wall["katax"],
            peer_name=name,
            peer_seconds=wall.get(name),
            target=target,
            note="" if name in times else "absent",
            katax_cpu=cpu["katax"],
            peer_cpu=cpu.get(name),
        )
        for name in peers
    ]


def present(module: str) -> bool:
    """Whether a peer's module is installed here."""
    return find_spec(module) is not None


def finish() -> int:
    """Prints the rows of this script and merges them into the results; 1 when a target was missed."""
    print(table(_rows))
    _merge(_rows)
    return int(any(each.met is False for each in _rows))


def recorded() -> list[Row]:
    """All rows of earlier scripts, sorted by work and peer."""
    if not RESULTS.exists():
        return []
    fields = Row.__dataclass_fields__
    rows = json.loads(RESULTS.read_text())["rows"]
    return [Row(**{name: each[name] for name in fields if name in each}) for each in rows]


def table(rows: Sequence[Row]) -> str:
    """Columns: work, katax, peer and its time, ratio of both times, target, whether it is met."""
    cells = [HEADINGS, *(as_cells(each) for each in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(line.rstrip() for line in lines)


def as_cells(each: Row) -> tuple[str, ...]:
    """The row in words, in the order of HEADINGS."""
    target = "–" if each.target is None else f"≤ {each.target:g}"
    seconds = each.note or "absent" if each.seconds is None else _human(each.seconds)
    ratio = "–" if each.ratio is None else f"{each.ratio:.2f}"
    cpu = "–" if each.cpu_ratio is None else f"{each.cpu_ratio:.2f}"
    return (each.work, _human(each.katax), each.peer, seconds, ratio, cpu, target, _VERDICTS[each.met])


def _human(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1.0:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _merge(rows: Sequence[Row]) -> None:
    kept = {(each.work, each.peer): each for each in (*recorded(), *rows)}
    document = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "machine_facts": machine.facts(),
        "rows": [
            {**asdict(kept[key]), "ratio": kept[key].ratio, "met": kept[key].met} for key in sorted(kept)
        ],
    }
    RESULTS.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def rotated(names: list[str], by: int) -> list[str]:
    """The names in an order that turns round with every run."""
    start = by % len(names)
    return names[start:] + names[:start]


def _seconds(run: Work) -> tuple[float, float]:
    """Seconds on the wall, and of processors: this process's, and those of the programs that it ran."""
    gc.collect()
    started, used = perf_counter(), process_time() + _seconds_of_programs()
    run()
    return perf_counter() - started, process_time() + _seconds_of_programs() - used


def _seconds_of_programs() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu_seconds(pid: int, *, with_ended: bool = False) -> float:
    """Processor time that a process has used so far, all of its threads together; its ended children's too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if with_ended else 13])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server(engine: str) -> Iterator[str]:
    """The URL of a real server as the tests start it, with logins that cost what they usually do; it ends with the
    context."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from contextlib import closing

    import psycopg

    from tests.servers.fleet import Fleet

    with closing(Fleet()) as fleet:
        started = fleet.shared(engine)
        if engine == "postgresql":
            with psycopg.connect(started.url) as connection:
                # The tests' own password takes one iteration of SCRAM, which some drivers refuse.
                connection.execute(f"ALTER USER {started.user} PASSWORD '{started.password}'".encode())
        yield started.url
