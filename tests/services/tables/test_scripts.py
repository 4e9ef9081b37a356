"""Scripts, below the command line: what the caller is told, and what is refused before anything runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from katax_cli.core.sql import Statement, split
from katax_cli.errors import ConfigError, QueryError, Refused
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.tables.scripts import ScriptResult, destructive_reasons, run_script
from tests.services.profiles import profile


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqlDatabase]:
    with Runtime(profile(tmp_path, {"main": "sqlite:///x.db"})) as runtime:
        yield cast(SqlDatabase, runtime.database("main"))


def statements(script: str) -> list[Statement]:
    return list(split(script, "sqlite"))


def test_what_was_done(db: SqlDatabase) -> None:
    script = "create table t (n); insert into t values (1), (2); update t set n = 3 where n = 1"

    assert run_script(db, statements(script)) == ScriptResult(statements=3, affected=3)
    assert run_script(db, []) == ScriptResult(0, 0)


def test_the_caller_hears_how_far_it_came(db: SqlDatabase) -> None:
    heard: list[tuple[int | None, int, int]] = []

    with pytest.raises(QueryError):
        run_script(
            db,
            statements("create table t (n);\n\nnonsense;\ndrop table t"),
            on_failure=lambda failed, done, kept, _left: heard.append(
                (failed.line if failed else None, done, kept)
            ),
        )

    assert heard == [(3, 1, 1)]


def test_the_caller_hears_what_lasts_of_a_script_with_its_own_transaction(db: SqlDatabase) -> None:
    heard: list[tuple[int | None, int, int]] = []

    with pytest.raises(QueryError):
        run_script(
            db,
            statements("create table t (n);\nbegin;\ninsert into t values (1);\nnonsense"),
            on_failure=lambda failed, done, kept, _left: heard.append(
                (failed.line if failed else None, done, kept)
            ),
        )

    assert heard == [(4, 3, 1)]
    assert db.query("select n from t") == []


def test_copy_data_is_refused_before_anything_runs(db: SqlDatabase) -> None:
    script = [
        Statement("create table t (n)", "sqlite"),
        Statement("copy t from stdin", "sqlite", 2, 20, copy_data="1\n"),
    ]

    with pytest.raises(ConfigError) as error:
        run_script(db, script)

    assert str(error.value) == "line 2 copies from the script itself; run it with psql"
    assert db.tables() == []


def test_too_many_rows(db: SqlDatabase) -> None:
    db.execute("create table t (n)")

    with pytest.raises(Refused) as error:
        run_script(db, statements("insert into t values (1), (2)"), max_rows=1)

    assert str(error.value) == "refused: line 1 changes 2 rows, more than --max-rows-affected 1; undone"
    assert db.query("select n from t") == []


@pytest.mark.parametrize(
    ("script", "reasons"),
    [
        ("select 1; insert into t values (1)", []),
        ("delete from t where n = 1", []),
        ("delete from t", ["DELETE without WHERE"]),
        ("drop table t; delete from t", ["DROP TABLE", "DELETE without WHERE"]),
        ("-- drop table t\nselect 'drop table t'", []),
    ],
)
def test_why_it_is_asked_about(script: str, reasons: list[str]) -> None:
    assert destructive_reasons(statements(script)) == reasons
