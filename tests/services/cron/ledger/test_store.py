"""Claims, leases and definitions, on each SQL engine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from katax_cli.errors import Refused
from katax_cli.services.cron.definition.definitions import Definitions, Stored
from katax_cli.services.cron.ledger.store import Runs
from katax_cli.services.cron.ledger.values import Run
from katax_cli.services.state import schema as tables_module
from katax_cli.services.state.schema import Tables, refuse_network_file
from tests.services.cron.conftest import OpenTables

AT = 1_800_000_000_000


def as_it_is(run: Run, _others: Sequence[Run]) -> Run:
    return run


def planned(job: str, *instants: int, daemon: str = "d1") -> list[Run]:
    return [Run(job, AT + at, daemon=daemon, host="here") for at in instants]


def test_a_claim_is_won_once(runs: Runs, open_tables: OpenTables) -> None:
    first = runs.claim(planned("a", 0, 1000), as_it_is)

    assert [run.scheduled_at - AT for run in first] == [0, 1000]
    assert Runs(open_tables()).claim(planned("a", 0, 1000, daemon="d2"), as_it_is) == []
    assert {run.daemon for run in runs.history()} == {"d1"}


def test_ten_daemons_at_the_same_moment(open_tables: OpenTables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty occurrences of three jobs, claimed by ten daemons at once: each is won by one of them."""
    monkeypatch.setattr(tables_module, "_RETRY", replace(tables_module._RETRY, attempts=1000, total=60.0))
    stores = [Runs(open_tables()) for _ in range(10)]
    Definitions(open_tables()).note_schedules((job, "@daily", "x", AT - 1) for job in "abc")

    def claim_all(number: int) -> int:
        won = 0
        for at in range(20):
            claims = [run for job in "abc" for run in planned(job, at, daemon=f"d{number}")]
            won += len(stores[number].claim(claims, as_it_is))
        return won

    with ThreadPoolExecutor(10) as pool:
        won = list(pool.map(claim_all, range(10)))

    assert sum(won) == 60
    assert len(stores[0].history()) == 60


def test_what_is_accounted_for_is_not_claimed_again(runs: Runs, definitions: Definitions) -> None:
    """Also inside a range of missed occurrences, which is one row."""
    definitions.note_schedules([("a", "@every 1s", "@every 1s", AT - 1)])
    missed = Run("a", AT, state="missed", count=5, until_at=AT + 4000)

    assert [run.run_id for run in runs.claim([missed], as_it_is)] == [missed.run_id]
    assert runs.claim(planned("a", 3000), as_it_is) == []
    assert len(runs.claim(planned("a", 5000), as_it_is)) == 1
    assert definitions.jobs()[0].accounted_until == AT + 5000


def test_a_row_that_comes_late_moves_nothing_back(runs: Runs, definitions: Definitions) -> None:
    """What was written after an outage is older than what was claimed since."""
    definitions.note_schedules([("a", "@every 1s", "@every 1s", AT - 1)])
    runs.claim(planned("a", 5000), as_it_is)

    runs.record([Run("a", AT, state="skipped")])

    assert definitions.jobs()[0].accounted_until == AT + 5000


def test_runs_by_hand_do_not_compete(runs: Runs) -> None:
    by_hand = [Run("a", AT, trigger="manual"), Run("a", AT, trigger="manual"), Run("a", AT, trigger="init")]

    assert len(runs.claim(by_hand, as_it_is)) == 3
    assert len(runs.claim(planned("a", 0), as_it_is)) == 1


def test_what_runs_elsewhere_decides(runs: Runs, open_tables: OpenTables) -> None:
    """Overlap is judged over all daemons, and within one tick."""

    def skip(run: Run, others: Sequence[Run]) -> Run:
        return run.skipped(f"{others[0].daemon} runs it") if others else run

    runs.claim(planned("a", 0), skip)
    found = Runs(open_tables()).claim([*planned("a", 1, daemon="d2"), *planned("b", 1, 2, daemon="d2")], skip)

    assert [(run.job, run.state, run.reason) for run in found] == [
        ("a", "skipped", "d1 runs it"),
        ("b", "running", None),
        ("b", "skipped", "d2 runs it"),
    ]


def test_a_row_says_what_became_of_a_run(runs: Runs) -> None:
    (run,) = runs.claim(planned("a", 0), as_it_is)
    ended = replace(
        run,
        state="failed",
        reason="exit status 3",
        started_at=AT + 5,
        finished_at=AT + 30,
        exit_status=3,
        attempt=2,
        output_head="é 🎉 'quoted' %s ?",
        output_tail=None,
    )

    runs.update(ended)

    assert runs.history(run_id=run.run_id[:10]) == [ended]
    assert ended.duration_ms == 25


def test_a_closed_row_stays_closed(runs: Runs) -> None:
    (run,) = runs.claim(planned("a", 0), as_it_is)
    runs.update(replace(run, state="killed"))

    runs.update(replace(run, state="ran"))

    assert runs.history()[0].state == "killed"


def test_a_lease_runs_out(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the database's clock; what is renewed stays."""
    from katax_cli.services.cron.ledger import store

    monkeypatch.setattr(store, "LEASE_SECONDS", -1.0)
    (dead,) = runs.claim(planned("a", 0), as_it_is)
    monkeypatch.undo()
    (alive,) = runs.claim(planned("b", 0), as_it_is)

    (left,) = runs.abandoned()

    assert left.run_id == dead.run_id
    assert runs.close(left, "its daemon is gone")
    assert not runs.close(left, "a second time")
    assert runs.mine("d1") == {alive.run_id: None}
    row = runs.history(job="a")[0]
    assert (row.state, row.reason) == ("failed", "its daemon is gone")
    assert row.finished_at is not None


def test_a_renewed_lease_holds(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    from katax_cli.services.cron.ledger import store

    monkeypatch.setattr(store, "LEASE_SECONDS", -1.0)
    runs.claim(planned("a", 0), as_it_is)
    monkeypatch.undo()
    (left,) = runs.abandoned()
    runs.renew("d1")

    assert runs.abandoned() == []
    assert not runs.close(left, "gone")
    assert not runs.take_over(left, "d2")


def test_a_known_dead_daemon_is_closed_at_once(runs: Runs) -> None:
    runs.claim([*planned("a", 0), *planned("b", 0, daemon="d2")], as_it_is)

    (left,) = runs.abandoned(["d2"])

    assert left.job == "b"
    assert runs.close(left, "gone", ["d2"])


def test_a_run_is_taken_over_once_and_taken_back(runs: Runs) -> None:
    (run,) = runs.claim(planned("a", 0, daemon="host:1:1:1:1"), as_it_is)
    runs.note_processes([replace(run, process="host:1:1:2:2")])
    dead = ["host:1:1:1:1"]

    (left,) = runs.abandoned(dead)
    assert left.process == "host:1:1:2:2"
    assert [runs.take_over(left, other, dead) for other in ("host:1:1:3:3", "host:1:1:4:4")] == [True, False]
    assert runs.mine("host:1:1:3:3") == {run.run_id: None}

    assert runs.take_back([run.run_id], "host:1:1:1:1", "elsewhere:1:1") == []
    assert runs.take_back([run.run_id], "host:1:1:1:1", "host:1:1") == [run.run_id]
    assert runs.mine("host:1:1:3:3") == {}


def test_a_claim_whose_outcome_was_not_known_is_found_again(runs: Runs) -> None:
    """The same ids once more: as they were written, and started at most once by whoever asks."""
    first, second = planned("a", 0, 1000)
    runs.claim([first], as_it_is)
    runs.update(replace(first, state="failed", reason="its daemon is gone"))

    again = runs.claim([first, second], as_it_is)

    assert [(run.run_id, run.state) for run in again] == [
        (first.run_id, "failed"),
        (second.run_id, "running"),
    ]
    assert runs.claim([replace(first, run_id="other")], as_it_is) == []


def test_word_to_stop(runs: Runs) -> None:
    (run,) = runs.claim(planned("a", 0), as_it_is)
    runs.ask_to_stop([run.run_id], "replaced")

    assert runs.mine("d1") == {run.run_id: "replaced"}


def test_history(runs: Runs) -> None:
    runs.claim([*planned("a", 0, 2), *planned("b", 1)], as_it_is)

    assert [run.scheduled_at - AT for run in runs.history()] == [2, 1, 0]
    assert [run.scheduled_at - AT for run in runs.history(job="a", limit=1)] == [2]


def test_old_rows_go(runs: Runs) -> None:
    """By the database's clock; what runs stays, however old."""
    old = Run("a", 1000, state="ran")
    runs.record([old, Run("b", 1000), Run("c", AT * 2, state="ran")])

    assert runs.prune(86400.0) == 1
    assert {run.job for run in runs.history()} == {"b", "c"}


def test_definitions(definitions: Definitions) -> None:
    before = definitions.version()
    definitions.define("a", {"schedule": "@daily", "command": ["echo", "é"]})
    definitions.switch("a", on=False)
    definitions.note_schedules([("a", "@daily", "0 0 0 1-31 1-12 0-6", AT)])

    assert definitions.jobs() == [
        Stored(
            job="a",
            definition={"schedule": "@daily", "command": ["echo", "é"]},
            switched=False,
            schedule="@daily",
            canonical="0 0 0 1-31 1-12 0-6",
            accounted_until=AT,
        )
    ]
    assert definitions.version() == before + 2
    definitions.switch("a", on=None)
    assert definitions.jobs()[0].switched is None
    definitions.forget("a")
    assert definitions.jobs() == []
    assert definitions.version() == before + 4


def test_profiles_do_not_see_each_other(tables: Tables) -> None:
    other = Tables(tables.database, "other")
    other.prepare()
    Runs(other).claim(planned("a", 0), as_it_is)
    Definitions(other).define("a", {})

    assert Runs(tables).history() == []
    assert Definitions(tables).jobs() == []
    assert Definitions(tables).version() == 0
    assert len(Runs(tables).claim(planned("a", 0), as_it_is)) == 1


def test_a_file_on_a_network(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """There SQLite's locks do not hold; a database server's address is of no interest."""
    monkeypatch.setattr(tables_module, "_file_system", lambda _path: "nfs4")
    settings = tables.database.settings
    if settings.type != "sqlite":
        refuse_network_file(settings)
        return
    with pytest.raises(Refused) as error:
        refuse_network_file(settings)

    assert "is on nfs4, where SQLite's locks do not hold" in str(error.value)
