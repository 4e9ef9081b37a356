"""Drills of the targets beside, on a database of the test's own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from katax_cli.profiles.load import load_profile
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.shutdown_drill.drill import drill
from katax_cli.services.shutdown_drill.values import DrillPlan, DrillReport, Verdict
from tests.cli.harness import write_profile
from tests.waiting import SECONDS

ROOT = Path(__file__).parents[3]
PATIENT: dict[str, Any] = {"ready_within": SECONDS, "grace": SECONDS, "settle": SECONDS, "drain": SECONDS}
"""For what is expected to come."""
LEFT = 1.0
"""To settle where something stays, which is looked at for as long."""
Drill = Callable[..., DrillReport]


def command(kind: str, url: str, *more: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.services.shutdown_drill.targets", kind, url, *more)


@dataclass(frozen=True)
class Ground:
    """A profile whose only server is at `url`, and a table `work` where there are tables."""

    folder: Path
    url: str

    def drill(self, kind: str, *more: str, **plan: Any) -> DrillReport:
        """The report on one kind of target."""
        return self.run(command(kind, self.url, *more), **plan)

    def drill_at_work(self, kind: str, **plan: Any) -> DrillReport:
        """The report on one that the signal met in a transaction: drilled again when it came before its first."""
        give_up = time.monotonic() + SECONDS
        while verdicts(report := self.drill(kind, **plan))["in_flight_finished"].status == "skipped":
            assert time.monotonic() < give_up, report
        return report

    def run(self, words: tuple[str, ...], **plan: Any) -> DrillReport:
        """The report on any program."""
        write_profile(self.folder, {"main": self.url})
        chosen: dict[str, Any] = {**PATIENT, "after": 0.2, **plan}
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        with Runtime(load_profile("test"), probing=True) as runtime:
            return drill(
                DrillPlan(words, **chosen),
                [runtime.database("main")],
                sink=lambda _line: None,
                environ=environ,
            )


def verdicts(report: DrillReport) -> Mapping[str, Verdict]:
    return {each.check: each for each in report.verdicts}


def failed(report: DrillReport) -> set[str]:
    return {each.check for each in report.verdicts if each.status == "failed"}
