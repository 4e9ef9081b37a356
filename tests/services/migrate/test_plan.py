"""Decisions about what to run, as functions of values."""

from __future__ import annotations

import pytest

from katax_cli.errors import ConfigError, MigrationError, Unfinished
from katax_cli.services.migrate import plan
from katax_cli.services.migrate.ledger.intent import StatementFate, changes, judge
from katax_cli.services.migrate.values import LedgerEntry, MigrationFile, Recorded


def file(version: str, checksum: str = "x") -> MigrationFile:
    return MigrationFile(version, f"{version}_f.sql", f"/m/{version}_f.sql", b"", checksum)


def entry(version: str, state: Recorded = "applied", checksum: str = "x") -> LedgerEntry:
    return LedgerEntry(version, f"{version}_f.sql", state, "up", checksum, "2026-01-01T00:00:00+00:00", 5)


def never(_file: MigrationFile, _entry: LedgerEntry) -> bool:
    raise AssertionError("asked although the bytes are the same")


def test_states() -> None:
    found = plan.standings(
        [file("1"), file("2", "new"), file("4"), file("5", "new")],
        [entry("1"), entry("2"), entry("3"), entry("5")],
        lambda one, _: one.version == "5",
    )

    assert [(one.version, one.state, one.bytes_differ) for one in found] == [
        ("1", "applied", False),
        ("2", "modified", True),
        ("3", "missing", False),
        ("4", "pending", False),
        ("5", "applied", True),
    ]


def test_meaning_is_asked_for_only_when_bytes_differ() -> None:
    assert [one.state for one in plan.standings([file("1")], [entry("1")], never)] == ["applied"]
    assert [one.state for one in plan.standings([file("1")], [entry("1", checksum="")], never)] == ["applied"]


@pytest.mark.parametrize("version", ["abc", "", "²", "-2", " 2"])
def test_a_version_that_somebody_wrote_into_the_ledger(version: str) -> None:
    with pytest.raises(MigrationError, match=f"an entry of version '{version}', which is no number"):
        plan.standings([file("1")], [entry(version)], never)


def test_what_to_apply_is_never_a_silent_skip() -> None:
    found = plan.standings([file("1"), file("2"), file("3")], [entry("2")], never)

    assert [one.version for one in plan.to_apply(found)] == ["1", "3"]
    assert [one.version for one in plan.to_apply(found, to="2")] == ["1"]
    assert [one.version for one in plan.to_apply(found, steps=1)] == ["1"]
    assert [one.version for one in plan.out_of_order(found)] == ["1"]


def test_what_to_revert_is_newest_first() -> None:
    found = plan.standings([file("1"), file("2"), file("10")], [entry("1"), entry("2"), entry("10")], never)

    assert [one.version for one in plan.to_revert(found)] == ["10"]
    assert [one.version for one in plan.to_revert(found, to="1")] == ["10", "2"]
    assert [one.version for one in plan.to_revert(found, to="0")] == ["10", "2", "1"]
    assert [one.version for one in plan.to_revert(found, steps=2)] == ["10", "2"]
    with pytest.raises(ConfigError):
        plan.to_revert(found, to="7")


def test_only_who_has_the_lock_calls_a_running_migration_unfinished() -> None:
    found = plan.standings([file("1")], [entry("1", "running")], never)

    plan.refuse_unsound(found, locked=False)
    with pytest.raises(Unfinished):
        plan.refuse_unsound(found)


def test_strict_refuses_a_missing_file() -> None:
    found = plan.standings([], [entry("1")], never)

    plan.refuse_unsound(found)
    with pytest.raises(MigrationError) as error:
        plan.refuse_unsound(found, strict=True)
    assert str(error.value) == "migration 1_f.sql is applied but its file is missing; bring it back"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE TABLE IF NOT EXISTS app.Users (id int)", [("create", "table", "users")]),
        ("create unique index concurrently if not exists i on t (a)", [("create", "index", "i")]),
        ("DROP TABLE a, b", [("drop", "table", "a"), ("drop", "table", "b")]),
        ("DROP INDEX CONCURRENTLY IF EXISTS public.i", [("drop", "index", "i")]),
        ('ALTER TABLE ONLY "App"."T" ADD c int', [("alter", "table", "t")]),
        ("CREATE OR REPLACE VIEW v AS SELECT 1", [("create", "view", "v")]),
        ("RENAME TABLE a TO b, s.c TO d", [("rename", "table", "a"), ("rename", "table", "c")]),
        ("CREATE INDEX ON t (a)", [("create", "index", "")]),
        ("CREATE ROLE r", []),
        ("GRANT SELECT ON t TO r", []),
        ("CALL p()", []),
    ],
)
def test_what_a_statement_changes(sql: str, expected: list[tuple[str, str, str]]) -> None:
    assert [(one.effect, one.kind, one.name) for one in changes(sql, "postgresql")] == expected


T = {"table public.t": "column id integer"}


@pytest.mark.parametrize(
    ("sql", "before", "now", "verdict"),
    [
        ("CREATE TABLE t (id integer)", {}, {}, StatementFate.UNDONE),
        ("CREATE TABLE t (id integer)", {}, T, StatementFate.DONE),
        ("DROP TABLE t", T, {}, StatementFate.DONE),
        ("DROP TABLE t, u", {**T, "table public.u": ""}, {"table public.u": ""}, StatementFate.UNCLEAR),
        (
            "ALTER TABLE t ADD COLUMN c text",
            T,
            {"table public.t": "column id integer\ncolumn c text"},
            StatementFate.DONE,
        ),
        (
            "ALTER TABLE t ADD COLUMN c text",
            T,
            {"table public.t": "column id integer\ncolumn d text"},
            StatementFate.UNCLEAR,
        ),
        (
            "ALTER TABLE t ADD COLUMN c text",
            T,
            {"table public.t": "column id bigint\ncolumn c text"},
            StatementFate.UNCLEAR,
        ),
        ("CREATE INDEX i ON t (id)", {}, {"index public.i": "CREATE INDEX i"}, StatementFate.DONE),
        ("CREATE INDEX i ON t (id)", {}, {"index public.i": "CREATE INDEX i INVALID"}, StatementFate.UNCLEAR),
        ("GRANT SELECT ON t TO r", {}, {}, StatementFate.UNDONE),
        ("CALL p()", {}, {}, StatementFate.UNCLEAR),
    ],
)
def test_whether_a_statement_ran(
    sql: str, before: dict[str, str], now: dict[str, str], verdict: StatementFate
) -> None:
    assert judge(sql, "postgresql", before, now) is verdict


def test_the_sentence_that_an_earlier_version_kept_is_not_said_twice() -> None:
    kept = (
        "migration 3_c.sql failed at line 5: no such table; 2 of its 4 statements last; correct it and go on"
    )

    said = str(Unfinished("3_c.sql", done=2, why=kept))

    assert "2 finished statements at line 5: no such table; 2 of its 4 statements last; go on with" in said
