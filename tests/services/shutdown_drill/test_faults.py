"""Faults that a good program survives and a bad one does not; each twin shows that the fault was really there."""

from __future__ import annotations

import sys

import pytest

from katax_cli.services.shutdown_drill import drill
from tests.services.shutdown_drill.drilling import Ground, failed, verdicts
from tests.waiting import SECONDS


@pytest.mark.parametrize("fault", ["hung-query", "dead-db", "full-pool"])
def test_a_program_that_gives_its_statements_up_passes(fault: str, postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("gives-up", faults=(fault,))

    assert report.passed, report
    assert verdicts(report)[f"fault_{fault.replace('-', '_')}"].detail == "applied"
    assert verdicts(report)["in_flight_finished"].detail == f"work cannot finish under {fault}"
    assert f"fault {fault} on main" in [each.event for each in report.timeline]


def test_one_that_waits_for_a_hung_statement_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("deaf-in-queries", faults=("hung-query",), grace=1.0)

    assert {"within_deadline", "second_signal_forces"} <= failed(report)
    assert verdicts(report)["within_deadline"].detail == "still ran 1 s after the signal"


def test_one_that_breaks_when_its_server_dies_fails(mysql_ground: Ground) -> None:
    report = mysql_ground.drill("breaks", faults=("dead-db",))

    assert failed(report) == {"exit_code"}


def test_a_program_that_goes_past_the_proxy_is_told(redis_ground: Ground) -> None:
    """Its server is named in no word and no variable."""
    report = redis_ground.run(
        (sys.executable, "-c", "import time; time.sleep(30)"), faults=("dead-db",), ready_within=0.5
    )

    assert verdicts(report)["fault_dead_db"].status == "failed"
    assert verdicts(report)["fault_dead_db"].detail.startswith(
        "not applied: the program did not connect through a proxy;"
    )


def test_a_second_signal_forces(postgresql_ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill, "FORCED_SECONDS", SECONDS)
    report = postgresql_ground.drill("slow", faults=("second-signal",))

    assert failed(report) == {"pools_closed"}
    assert verdicts(report)["second_signal_forces"].status == "ok"
    assert verdicts(report)["exit_code"].detail == "143; any is accepted after a second signal"


def test_a_second_signal_that_is_ignored_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("ignores", faults=("second-signal",))

    assert "second_signal_forces" in failed(report)
    assert verdicts(report)["second_signal_forces"].detail == "still ran 2 s after the second signal"


def test_the_signal_comes_during_startup(postgresql_ground: Ground) -> None:
    """Before it could set its handlers; it may end by the signal itself."""
    report = postgresql_ground.drill("slow-to-start", faults=("during-startup",), after=0.0)

    assert report.passed, report
    assert verdicts(report)["exit_code"].detail == "143, expected 0 or 143"
    assert "ready" not in [each.event for each in report.timeline]


def test_the_signal_comes_during_a_migration(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill_at_work("migrates", faults=("during-migration",))

    assert report.passed, report
    assert verdicts(report)["in_flight_finished"].detail == "all 1 in flight at the signal finished"


def test_a_migration_that_never_comes_is_told(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("rude", faults=("during-migration",), grace=2.0)

    detail = verdicts(report)["fault_during_migration"].detail
    assert detail == "not applied: no lock and no DDL of the program was seen"
