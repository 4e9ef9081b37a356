"""Files that no transaction protects: what is known after a failure, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from katax_cli.errors import MigrationError, OutcomeUnknown, StatementFailed, Unfinished
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.migrator import Migrator
from tests.services.migrate.conftest import Write
from tests.services.migrate.test_migrator import states, table_names

NO = "-- katax: no-transaction\n"


def half(write: Write, last: str = "SELECT nope FROM a") -> None:
    write("001_a.sql", f"{NO}CREATE TABLE a (id integer);\nINSERT INTO a VALUES (1);\n{last}")


def test_what_lasts_of_a_failed_file_is_said_and_up_waits_for_resume(
    migrator: Migrator, write: Write
) -> None:
    half(write)

    with pytest.raises(StatementFailed) as error:
        migrator.up()
    assert "2 of its 3 statements last; correct it and go on with 'katax migrate resume'" in str(error.value)
    assert states(migrator) == [("001_a.sql", "failed")]
    with pytest.raises(Unfinished) as refused:
        migrator.up()
    message = str(refused.value)
    assert message.startswith("migration 001_a.sql stopped after 2 finished statements at line 5: ")
    assert message.count("katax migrate resume") == 2
    assert message.endswith("'katax migrate resume', or give it up with 'katax migrate resume --abandon'")


def test_resume_runs_the_corrected_rest_only(migrator: Migrator, database: SqlDatabase, write: Write) -> None:
    half(write)
    with pytest.raises(StatementFailed):
        migrator.up()
    half(write, "INSERT INTO a VALUES (2)")

    assert [one.name for one in migrator.resume()] == ["001_a.sql"]
    assert database.query("SELECT id FROM a ORDER BY id") == [{"id": 1}, {"id": 2}]
    assert states(migrator) == [("001_a.sql", "applied")]
    assert migrator.resume() == []


def test_resume_refuses_when_what_ran_was_changed(migrator: Migrator, write: Write) -> None:
    half(write)
    with pytest.raises(StatementFailed):
        migrator.up()
    write("001_a.sql", f"{NO}CREATE TABLE a (id bigint);\nINSERT INTO a VALUES (1);\nSELECT 1")

    with pytest.raises(MigrationError) as error:
        migrator.resume()

    assert "the 2 finished statements of 001_a.sql were changed" in str(error.value)


def test_a_file_whose_first_statement_fails_leaves_no_trace(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    write("001_a.sql", f"{NO}CREATE TABLE a (id nosuchtype(), b);\nCREATE TABLE b (id integer)")

    with pytest.raises(StatementFailed):
        migrator.up()

    assert table_names(database) == set()
    assert states(migrator) == [("001_a.sql", "pending")]


def test_a_state_that_nobody_planned_is_exit_6_with_both_states(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    with migrator.locked() as runner:
        write("001_a.sql", f"{NO}CREATE TABLE a (id integer);\nALTER TABLE a ADD COLUMN b integer")
        job = migrator.pending_job("001")
        steps = runner._stepwise(job)
        migrator.ledger.begin(runner.session, job.file, "up", "somebody")
        runner.session.run(job.statements[0].text)
        steps._done = 1
        steps._keep_intent(job.statements[1])
        runner.session.run("ALTER TABLE a ADD COLUMN surprise integer")

    with pytest.raises(OutcomeUnknown) as error:
        migrator.resume()

    assert "line 4 of 001_a.sql was under way; before (-) and now (+)" in str(error.value)
    assert "surprise" in str(error.value)
    assert "--assume done" in str(error.value)
    assert [one.name for one in migrator.resume(assume="undone")] == ["001_a.sql"]
    described = database.describe("a")
    assert described is not None
    assert [column.name for column in described.columns] == ["id", "surprise", "b"]


STEPS = """# katax: no-transaction
import os
def up(db):
    if db.step("table"):
        db.execute("CREATE TABLE a (id integer)")
    if db.step("rows"):
        db.execute("INSERT INTO a VALUES (1)")
    if db.step("last"):
        if os.path.exists({gate!r}):
            raise RuntimeError("not yet")
        db.execute("INSERT INTO a VALUES (2)")
"""


def test_steps_of_a_python_migration_run_once(
    migrator: Migrator, database: SqlDatabase, folder: Path
) -> None:
    gate = folder / "gate"
    gate.touch()
    (folder / "001_a.py").write_text(STEPS.format(gate=str(gate)))

    with pytest.raises(StatementFailed):
        migrator.up()
    gate.unlink()
    migrator.resume()

    assert database.query("SELECT id FROM a ORDER BY id") == [{"id": 1}, {"id": 2}]
    assert states(migrator) == [("001_a.py", "applied")]


@pytest.mark.parametrize(("assume", "rows"), [("done", [1]), ("undone", [1, 2])])
def test_a_step_that_was_under_way_when_the_runner_died_cannot_be_known(
    migrator: Migrator, database: SqlDatabase, folder: Path, assume: str, rows: list[int]
) -> None:
    gate = folder / "gate"
    gate.touch()
    (folder / "001_a.py").write_text(STEPS.format(gate=str(gate)))
    with pytest.raises(StatementFailed):
        migrator.up()
    gate.unlink()
    database.execute("UPDATE katax_migrations SET state = 'running'")

    with pytest.raises(OutcomeUnknown) as error:
        migrator.resume()
    assert "step 'last' of 001_a.py was under way" in str(error.value)
    migrator.resume(assume=assume)

    assert [row["id"] for row in database.query("SELECT id FROM a ORDER BY id")] == rows


def test_a_down_that_fails_in_its_middle_is_resumed(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    up = f"{NO}CREATE TABLE a (id integer);\nCREATE TABLE b (id integer)"
    write("001_a.sql", up, f"{NO}DROP TABLE b;\nDROP TABLE missing")
    migrator.up()
    with pytest.raises(StatementFailed):
        migrator.down()
    assert table_names(database) == {"a"}
    write("001_a.sql", up, f"{NO}DROP TABLE b;\nDROP TABLE a")

    assert [one.direction for one in migrator.resume()] == ["down"]
    assert table_names(database) == set()
    assert states(migrator) == [("001_a.sql", "pending")]


def test_what_stopped_is_given_up_with_the_names_of_what_lasts(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    half(write)
    with pytest.raises(StatementFailed):
        migrator.up()
    # What lasts is said of the text that ran, whatever the file has become.
    write("001_a.sql", f"{NO}CREATE TABLE a (id bigint)").unlink()

    (given_up,) = migrator.abandon()

    assert [str(one) for one in given_up.lasting] == [
        "line 3: CREATE TABLE a (id integer)",
        "line 4: INSERT INTO a VALUES (1)",
    ]
    assert states(migrator) == []
    assert migrator.abandon() == []
    assert table_names(database) == {"a"}
    write("001_a.sql", f"{NO}CREATE TABLE b (id integer)", "DROP TABLE b")
    migrator.up()
    migrator.down()
    assert states(migrator) == [("001_a.sql", "pending")]


def test_giving_up_runs_down_when_asked_and_stays_unfinished_while_that_fails(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    up = f"{NO}CREATE TABLE a (id integer);\nINSERT INTO a VALUES (1);\nSELECT nope FROM a"
    write("001_a.sql", up, f"{NO}DROP TABLE b;\nDROP TABLE a")
    with pytest.raises(StatementFailed):
        migrator.up()

    with pytest.raises(StatementFailed, match="failed at line"):
        migrator.abandon(run_down=True)
    assert states(migrator) == [("001_a.sql", "failed")]
    write("001_a.sql", up, f"{NO}DROP TABLE a")
    (given_up,) = migrator.abandon(run_down=True)

    assert given_up.reverted
    assert table_names(database) == set()
    assert states(migrator) == [("001_a.sql", "pending")]


def test_an_answer_counts_for_a_statement_that_was_never_begun(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    half(write)
    with pytest.raises(StatementFailed):
        migrator.up()

    migrator.resume(assume="done")

    assert database.query("SELECT id FROM a") == [{"id": 1}]
    assert states(migrator) == [("001_a.sql", "applied")]
