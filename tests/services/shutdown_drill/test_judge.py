"""The same facts give the same verdicts: what each check takes for a failure, at its edges."""

from __future__ import annotations

from dataclasses import replace

import pytest

from katax_cli.engines.sessions import Orphan, ServerSession
from katax_cli.services.shutdown_drill.judge import judge
from katax_cli.services.shutdown_drill.values import (
    UNKNOWN,
    DrillPlan,
    DrillReport,
    Leftovers,
    Observations,
    OpenTransaction,
    Piece,
    Verdict,
)

PLAN = DrillPlan(("program",), grace=10.0, drain=1.0)
CLEAN = Observations(
    signalled=2.0,
    exited=3.0,
    status=0,
    pieces=(Piece(1.0, 1.5, "done"), Piece(1.9, 2.5, "done"), Piece(2.6, 2.6, "refused")),
    works=(OpenTransaction("main", "7", "committed"),),
    left={"main": Leftovers(dropped=0)},
    seen={"main": 2},
)
SESSION = ServerSession("9@now", "app", 4000, "UPDATE", busy=True)


def verdict(check: str, facts: Observations, plan: DrillPlan = PLAN) -> Verdict:
    return {each.check: each for each in judge(plan, facts)}[check]


def failures(facts: Observations, plan: DrillPlan = PLAN) -> list[str]:
    return [each.check for each in judge(plan, facts) if each.status == "failed"]


def test_a_clean_end_holds() -> None:
    assert failures(CLEAN) == []
    assert verdict("in_flight_finished", CLEAN) == (
        "in_flight_finished",
        "ok",
        "all 2 in flight at the signal finished",
        2500,
    )
    assert verdict("second_signal_forces", CLEAN).status == "skipped"


@pytest.mark.parametrize(
    ("piece", "dropped"),
    [
        (Piece(1.9, 2.5, "failed", "status 500"), True),
        (Piece(1.9, None), True),
        (Piece(1.9, 2.5, "refused"), False),
        (Piece(1.0, 1.9, "failed", "before the signal"), False),
        (Piece(2.1, 2.5, "failed", "after the signal"), False),
    ],
)
def test_only_work_that_was_in_flight_can_be_dropped(piece: Piece, dropped: bool) -> None:
    facts = replace(CLEAN, pieces=(*CLEAN.pieces, piece))

    assert failures(facts) == (["in_flight_finished"] if dropped else [])


@pytest.mark.parametrize("fate", ["aborted", "in progress"])
def test_a_transaction_that_was_not_committed_was_dropped(fate: str) -> None:
    found = verdict("in_flight_finished", replace(CLEAN, works=(OpenTransaction("main", "7", fate),)))

    assert (found.status, found.detail) == ("failed", f"transaction 7 on main is {fate}")


@pytest.mark.parametrize(("started", "status"), [(3.0, "ok"), (3.1, "failed")])
def test_work_is_taken_no_longer_than_the_drain(started: float, status: str) -> None:
    facts = replace(CLEAN, exited=4.0, pieces=(*CLEAN.pieces, Piece(started, 3.5, "done")))

    assert verdict("no_new_work", facts).status == status


@pytest.mark.parametrize(
    ("left", "check", "detail"),
    [
        (Leftovers((SESSION,)), "no_sessions_left", "session 9 running UPDATE on main"),
        (Leftovers((SESSION._replace(in_transaction=True),)), "no_transactions_left", "open in session 9 "),
        (
            Leftovers((SESSION._replace(locks=("advisory lock",)),)),
            "no_locks_left",
            "advisory lock held by session 9",
        ),
        (
            Leftovers(orphans=frozenset({Orphan("key", "lock:x")})),
            "no_temporary_keys_left",
            "key 'lock:x' on main",
        ),
        (
            Leftovers(orphans=frozenset({Orphan("transaction", "gid")})),
            "no_transactions_left",
            "prepared transaction 'gid' on main",
        ),
        (Leftovers(dropped=2), "pools_closed", "sessions that did not close properly: 2 on main"),
    ],
)
def test_what_is_left_is_named(left: Leftovers, check: str, detail: str) -> None:
    facts = replace(CLEAN, left={"main": left, "cache": Leftovers()}, seen={"main": 1, "cache": 0})

    assert check in failures(facts)
    assert verdict(check, facts).detail.startswith(detail)


def test_a_server_that_could_not_be_asked_is_named() -> None:
    """Nothing is claimed of it: the check is unknown, and does not hold."""
    silent = {"cache": Leftovers(unknown="it is down")}
    one = verdict("no_sessions_left", replace(CLEAN, left={**CLEAN.left, **silent}))
    none = verdict("no_sessions_left", replace(CLEAN, left=silent, seen={"cache": 0}))

    assert one[1:3] == none[1:3] == ("unknown", "cache was not asked: it is down")
    assert not DrillReport((one,), ()).passed


def test_transactions_that_were_not_listed_at_the_signal_are_unknown() -> None:
    works = (
        OpenTransaction("main", "7@3", "committed"),
        OpenTransaction("cache", "", "unknown", "it was down"),
    )
    found = verdict("in_flight_finished", replace(CLEAN, works=works))

    assert found[1:3] == ("unknown", "cache: it was down")
    lost = replace(CLEAN, works=(OpenTransaction("main", "7@3", "unknown", "who knows"),))
    assert verdict("in_flight_finished", lost).detail == "transaction 7 on main: who knows"


def test_what_a_server_does_not_tell_is_unknown() -> None:
    left = {"main": Leftovers(untold=frozenset({"no_transactions_left"}))}

    found = verdict("no_transactions_left", replace(CLEAN, left=left))

    assert found[1:3] == ("unknown", "main does not show it to this user")
    assert verdict("no_sessions_left", replace(CLEAN, left=left)).status == "ok"


def test_a_transaction_whose_end_nobody_knows_is_not_finished() -> None:
    lost, forgotten = (
        OpenTransaction("main", "8", "aborted"),
        OpenTransaction("main", "9", UNKNOWN, "the server has forgotten it"),
    )

    unknown = verdict("in_flight_finished", replace(CLEAN, works=(*CLEAN.works, forgotten)))
    assert unknown[1:3] == ("unknown", "transaction 9 on main: the server has forgotten it")
    assert verdict("in_flight_finished", replace(CLEAN, works=(lost, forgotten))).status == "failed"


def test_a_long_list_is_cut() -> None:
    left = Leftovers(tuple(SESSION._replace(id=f"{number}@x") for number in range(8)))

    assert verdict("no_sessions_left", replace(CLEAN, left={"main": left})).detail.endswith(", and 3 more")


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"exited": 12.0}, []),
        ({"exited": 12.1}, ["within_deadline"]),
        ({"exited": 2.0}, ["within_deadline"]),
        ({"second": 12.0, "exited": 12.5, "status": 143}, ["within_deadline"]),
        ({"second": 12.0, "killed": 14.0}, ["exit_code", "within_deadline", "second_signal_forces"]),
        ({"status": 143}, ["exit_code"]),
        ({"children": (77,)}, ["no_processes_left"]),
        ({"faults": {"dead-db": "why"}}, ["fault_dead_db"]),
        ({"faults": {"dead-db": None}}, []),
    ],
)
def test_how_it_ended(changes: dict[str, object], failed: list[str]) -> None:
    assert failures(replace(CLEAN, **changes)) == failed  # type: ignore[arg-type]


def test_a_signal_during_startup_may_end_it() -> None:
    plan = replace(PLAN, faults=("during-startup",))

    assert failures(replace(CLEAN, status=143), plan) == []
    assert failures(replace(CLEAN, status=1), plan) == ["exit_code"]


@pytest.mark.parametrize(
    ("period", "status"),
    [(10.0, "ok"), (9.9, "failed"), (30.0, "ok")],
)
def test_a_pod_has_time_for_all_of_it(period: float, status: str) -> None:
    assert verdict("kubernetes_budget", CLEAN, replace(PLAN, period=period)).status == status
