"""All soaks, one after another, within a given time: `make soak`, or `python -m tests.soak --minutes 30`.

Their output and a report go into `.soak/`; exit 1 when one of them found a problem, or did not end by itself.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from katax_cli import __version__
from tests.soak.acts import say

FOLDER = Path(".soak")
LEAST = 20.0
"""Seconds of chaos that each soak gets, however short the time."""
TOO_LONG = 600.0
"""Seconds after which a soak that should have ended counts as hanging."""


class Part(NamedTuple):
    """One soak: its words, its share of the time, and the seconds that it takes before and after its chaos."""

    words: tuple[str, ...]
    share: int
    around: float

    @property
    def name(self) -> str:
        return "-".join(word for word in self.words if not word.startswith("-"))


PARTS = (
    Part(("program",), 4, 60.0),
    Part(("cron", "--clocks", "sqlite"), 2, 15.0),
    Part(("cron", "--clocks", "postgresql"), 2, 25.0),
    Part(("cron", "--clocks", "mysql"), 2, 25.0),
    Part(("sockets",), 3, 30.0),
    Part(("watch",), 3, 90.0),
)


class Result(NamedTuple):
    """What one soak came to; `code` is None when it hung and was ended."""

    name: str
    seconds: float
    code: int | None
    output: str


def soaked(part: Part, seconds: float, seed: int) -> Result:
    """Runs one soak with so many seconds of chaos; its output is in a file too, as it comes."""
    words = [
        f"tests.soak.{part.words[0]}",
        *part.words[1:],
        "--seconds",
        f"{seconds:.0f}",
        "--seed",
        str(seed),
    ]
    log = FOLDER / f"{part.name}.log"
    with log.open("wb") as file:
        soak = subprocess.Popen([sys.executable, "-m", *words], stdout=file, stderr=file)
        try:
            code: int | None = soak.wait(seconds + part.around + TOO_LONG)
        except subprocess.TimeoutExpired:
            soak.kill()
            soak.wait()
            code = None
    return Result(part.name, seconds, code, log.read_text(errors="replace").strip())


def run_all(total: float, seed: int) -> list[Result]:
    """All soaks; what one leaves of its time, or takes beyond it, is shared by those after it."""
    results: list[Result] = []
    end = time.monotonic() + total
    for number, part in enumerate(PARTS):
        share = (end - time.monotonic()) * part.share / sum(other.share for other in PARTS[number:])
        seconds = max(LEAST, share - part.around)
        say(f"{part.name}: {seconds:.0f} s")
        results.append(soaked(part, seconds, seed))
        say(results[-1].output)
    return results


def report(results: Sequence[Result], seed: int, began: datetime) -> str:
    """What was run, on which machine, and the last words of each soak."""
    took = (datetime.now() - began).total_seconds() / 60
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    lines = [
        f"# Soak of {took:.0f} minutes, begun {began:%Y-%m-%d %H:%M}, seed {seed}",
        "",
        f"katax {__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()}, "
        f"{os.cpu_count()} processors, load average at the end {load}",
    ]
    for result in results:
        ended = "hung and was ended" if result.code is None else f"exit {result.code}"
        lines += ["", f"## {result.name}: {ended}, {result.seconds:.0f} s of chaos", "", "```"]
        lines += [*result.output.splitlines()[-40:], "```"]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="for all soaks together")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args(arguments)
    FOLDER.mkdir(exist_ok=True)
    began = datetime.now()
    results = run_all(options.minutes * 60, options.seed)
    text = report(results, options.seed, began)
    (FOLDER / "report.md").write_text(text)
    failed = [result.name for result in results if result.code != 0]
    say(f"report: {FOLDER / 'report.md'}; {', '.join(failed) + ' failed' if failed else 'no problems'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
