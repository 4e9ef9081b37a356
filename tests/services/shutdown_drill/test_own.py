"""Promise 13: katax's own services drain, close and exit 0 within the deadline, and no session is left."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from katax_cli.profiles.load import load_profile
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.shutdown_drill import drill as drill_module
from katax_cli.services.shutdown_drill.drill import drill
from katax_cli.services.shutdown_drill.own import own_services
from katax_cli.services.shutdown_drill.values import DrillPlan, DrillReport, Fault
from tests.cli.harness import write_profile
from tests.servers.fixtures import MakeFresh
from tests.servers.rooms import free_port
from tests.services.shutdown_drill.drilling import PATIENT, ROOT, verdicts
from tests.waiting import SECONDS

EXTRA = """
[state]
url = "main"
[ws.chat]
redis = "cache"
[cron.jobs.tick]
schedule = "@every 1s"
command = ["sleep", "0.3"]
"""
NAMES = ("cron run-daemon", "health serve", "ws serve chat")
DrillOwn = Callable[..., DrillReport]


@pytest.fixture
def drill_own(tmp_path: Path, fresh: MakeFresh) -> DrillOwn:
    """`drill_own(name, faults)`: a service of a profile whose servers list their sessions, its state too."""
    write_profile(tmp_path, {"main": fresh("postgresql").url, "cache": fresh("redis").url}, extra=EXTRA)
    profile = load_profile("test")

    def run(name: str, *faults: Fault) -> DrillReport:
        services = {each.name: each for each in own_services(profile, port=free_port)}
        service = services[name]
        patient = {**PATIENT, "drain": 10.0}
        plan = DrillPlan(service.command, after=1.5, url=service.url, load=1, faults=faults, **patient)
        with Runtime(profile, probing=True) as runtime:
            databases = [runtime.database(each) for each in ("main", "cache")]
            environ = {**os.environ, "PYTHONPATH": str(ROOT)}
            return drill(plan, databases, sink=lambda _line: None, environ=environ)

    return run


@pytest.mark.parametrize("name", NAMES)
def test_a_service_stops_cleanly(name: str, drill_own: DrillOwn) -> None:
    report = drill_own(name)

    assert report.passed, report
    found = verdicts(report)
    assert found["no_sessions_left"].detail == "none on main, cache"
    assert found["pools_closed"].status == "ok"
    assert found["no_new_work"].status == "ok"
    assert found["exit_code"].detail == "0, expected 0"


@pytest.mark.parametrize("name", NAMES)
def test_a_second_signal_forces_it(name: str, drill_own: DrillOwn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it drains longer than half a second; one that does not had ended."""
    monkeypatch.setattr(drill_module, "FORCED_SECONDS", SECONDS)
    found = verdicts(drill_own(name, "second-signal"))

    assert found["second_signal_forces"].status in ("ok", "skipped")
    assert found["no_sessions_left"].status == "ok"
    assert found["no_processes_left"].status == "ok"
