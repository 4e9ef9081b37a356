"""Accounting while the state database is away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from katax_cli.errors import KataxError
from katax_cli.services.cron.ledger.accounting import StoredRunLedger
from katax_cli.services.cron.ledger.store import Runs
from katax_cli.services.cron.ledger.values import Run
from tests.services.cron.conftest import OpenTables

AT = 1_800_000_000_000


def as_it_is(run: Run, _others: Sequence[Run]) -> Run:
    return run


def skip(run: Run, others: Sequence[Run]) -> Run:
    return run.skipped("overlap") if others else run


@pytest.fixture
def broken(open_tables: OpenTables) -> Runs:
    """A store whose table is out of reach until `mend`."""
    tables = open_tables()
    tables.run("ALTER TABLE katax_cron_runs RENAME TO away")
    return Runs(tables)


@pytest.fixture
def whole(open_tables: OpenTables) -> Runs:
    return Runs(open_tables())


def mend(runs: Runs) -> None:
    runs._tables.run("ALTER TABLE away RENAME TO katax_cron_runs")


def test_without_a_claim_nothing_is_ours(broken: Runs) -> None:
    """Neither run nor written: others may have it. The claim is repeated when the database is back."""
    ledger = StoredRunLedger(broken)
    planned = [Run("a", AT), Run("a", AT + 1)]
    with pytest.raises(KataxError):
        ledger.claim(planned, skip, [])
    assert ledger.waiting == 0

    mend(broken)

    assert [run.state for run in ledger.claim(planned, skip, [])] == ["running", "skipped"]


def test_a_run_by_hand_needs_no_claim(broken: Runs) -> None:
    ledger = StoredRunLedger(broken)
    run = Run("a", AT, trigger="manual")
    ledger.record(run)
    ledger.update(replace(run, state="ran", exit_status=0))
    ledger.flush()
    assert ledger.waiting == 1
    mend(broken)
    ledger.flush()

    assert (ledger.waiting, [each.state for each in broken.history()]) == (0, ["ran"])


def test_an_end_that_cannot_be_written_is_written_later(whole: Runs) -> None:
    ledger = StoredRunLedger(whole)
    (run,) = ledger.claim([Run("a", AT)], as_it_is, [])
    whole._tables.run("ALTER TABLE katax_cron_runs RENAME TO away")

    ledger.update(replace(run, state="failed", exit_status=3))

    assert ledger.waiting == 1
    mend(whole)
    ledger.flush()
    assert [(each.state, each.exit_status) for each in whole.history()] == [("failed", 3)]
