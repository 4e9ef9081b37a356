"""Accounting while the state database is away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from katax_cli.services.cron.books import UNAVAILABLE, Books
from katax_cli.services.cron.store import Runs
from katax_cli.services.cron.values import Run
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


def test_alone_it_runs_and_writes_later(broken: Runs) -> None:
    books = Books(broken, shared=False)
    first, second = books.claim([Run("a", AT), Run("a", AT + 1)], skip, [])

    assert (first.state, second.state) == ("running", "skipped")
    assert not books.available
    books.update(replace(first, state="ran", exit_status=0))
    books.flush()
    assert books.waiting == 2
    mend(broken)
    books.flush()

    assert (books.waiting, books.available) == (0, True)
    assert {(run.scheduled_at - AT, run.state) for run in broken.history()} == {(0, "ran"), (1, "skipped")}


def test_with_others_it_skips_and_says_so(broken: Runs) -> None:
    books = Books(broken, shared=True)
    (skipped,) = books.claim([Run("a", AT)], as_it_is, [])

    assert (skipped.state, skipped.reason) == ("skipped", UNAVAILABLE)
    mend(broken)
    books.flush()
    assert [run.reason for run in broken.history()] == [UNAVAILABLE]


def test_what_others_did_meanwhile_counts(broken: Runs) -> None:
    """The row of the daemon that could reach the database stays; ours is not added."""
    books = Books(broken, shared=True)
    books.claim([Run("a", AT)], as_it_is, [])
    mend(broken)
    broken.claim([Run("a", AT, daemon="other")], as_it_is)

    books.flush()

    assert [(run.daemon, run.state) for run in broken.history()] == [("other", "running")]


def test_nothing_is_written_before_it_is_known_up_to_where_jobs_are_accounted_for(whole: Runs) -> None:
    """A row would say that all before it is accounted for."""
    books = Books(whole, shared=False, known=False)
    (run,) = books.claim([Run("a", AT)], as_it_is, [])
    books.update(replace(run, state="ran"))
    books.flush()
    assert (books.waiting, whole.history()) == (1, [])

    books.open()
    books.flush()
    assert [each.state for each in whole.history()] == ["ran"]


def test_an_end_that_cannot_be_written_is_written_later(whole: Runs) -> None:
    books = Books(whole, shared=True)
    (run,) = books.claim([Run("a", AT)], as_it_is, [])
    whole._tables.run("ALTER TABLE katax_cron_runs RENAME TO away")

    books.update(replace(run, state="failed", exit_status=3))

    assert books.waiting == 1
    mend(whole)
    books.flush()
    assert [(each.state, each.exit_status) for each in whole.history()] == [("failed", 3)]
