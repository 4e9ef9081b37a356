"""The COMMIT of one file and the statements of the next share a round trip, and keep what each of them promises."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from katax_cli.errors import OutcomeUnknown, StatementFailed, Unavailable
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.migrate.values import Outcome
from tests.servers.fixtures import MakeProxy
from tests.services.migrate.conftest import Write
from tests.waiting import SECONDS, until

OpenUrl = Callable[..., SqlDatabase]
_DEFERRED = """CREATE TABLE a (id int PRIMARY KEY, next int REFERENCES a DEFERRABLE INITIALLY DEFERRED);
CREATE SEQUENCE s"""


def states(database: SqlDatabase, folder: Path) -> list[str]:
    return [one.state for one in Migrator(database, str(folder)).status()]


def ids(database: SqlDatabase) -> list[int]:
    return [row["id"] for row in database.query("SELECT id FROM a ORDER BY id")]


def test_a_refused_commit_stops_the_file_behind_it_before_it_begins(
    postgresql_url: str, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    database = open_url(postgresql_url)
    write("001_a.sql", _DEFERRED)
    write("002_b.sql", "INSERT INTO a VALUES (2)")
    write("003_c.sql", "INSERT INTO a VALUES (3, 99)")
    write("004_d.sql", "SELECT nextval('s')")
    heard: list[str] = []

    with pytest.raises(StatementFailed, match=r"003_c\.sql failed at line 2: .*nothing of it was applied"):
        Migrator(database, str(folder), on_done=lambda done: heard.append(done.name)).up()

    assert heard == ["001_a.sql", "002_b.sql"]
    assert states(database, folder) == ["applied", "applied", "pending", "pending"]
    assert ids(database) == [2]
    assert database.query("SELECT is_called FROM s") == [{"is_called": False}]


def test_a_refused_statement_leaves_the_file_before_it_applied_and_down_shares_round_trips_too(
    postgresql_url: str, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    database = open_url(postgresql_url)
    write("001_a.sql", _DEFERRED, "DROP TABLE a; DROP SEQUENCE s")
    for number in range(2, 6):
        write(f"00{number}_b.sql", f"INSERT INTO a VALUES ({number})", f"DELETE FROM a WHERE id = {number}")
    write("006_c.sql", "INSERT INTO a VALUES (6);\nINSERT INTO a VALUES (5)")

    with pytest.raises(StatementFailed, match=r"006_c\.sql failed at line 3"):
        Migrator(database, str(folder)).up()

    assert ids(database) == [2, 3, 4, 5]
    assert states(database, folder) == ["applied"] * 5 + ["pending"]
    assert [one.version for one in Migrator(database, str(folder)).down(steps=3)] == ["005", "004", "003"]
    assert ids(database) == [2]
    assert len(Migrator(database, str(folder)).down(to="0")) == 2
    assert states(database, folder) == ["pending"] * 6


def test_a_file_is_told_as_applied_while_the_next_one_waits_and_the_wait_that_ends_is_known(
    postgresql_url: str, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    database, other = open_url(postgresql_url), open_url(postgresql_url)
    database.execute("CREATE TABLE locked (id int)")
    write("001_a.sql", _DEFERRED)
    write("002_b.sql", "INSERT INTO a VALUES (2)")
    write("003_c.sql", "ALTER TABLE locked ADD name text")
    heard: list[str] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            Migrator(database, str(folder), on_done=lambda done: heard.append(done.name)).up()
        except Unavailable as error:
            failures.append(error)

    with other.transaction(timeout=10 * SECONDS) as holder:
        holder.execute("LOCK TABLE locked")
        runner = threading.Thread(target=run)
        runner.start()
        until(lambda: "002_b.sql" in heard)
        waiting = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND relation = 'locked'::regclass"
        until(lambda: holder.query(waiting))
        runner.join(60)

    # What was waiting was no COMMIT: it is known that nothing of it was applied.
    assert [type(error) for error in failures] == [Unavailable]
    assert states(database, folder) == ["applied", "applied", "pending"]


def test_what_hears_of_a_file_may_fail_and_the_next_one_is_undone(
    postgresql_url: str, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    database = open_url(postgresql_url)
    write("001_a.sql", _DEFERRED)
    write("002_b.sql", "INSERT INTO a VALUES (2)")
    write("003_c.sql", "INSERT INTO a VALUES (3);\nSELECT pg_sleep(600)")

    def fail(done: Outcome) -> None:
        if done.name == "002_b.sql":
            raise BrokenPipeError(done.name)

    with pytest.raises(BrokenPipeError, match=r"002_b\.sql"):
        Migrator(database, str(folder), on_done=fail).up()

    assert states(database, folder) == ["applied", "applied", "pending"]
    sleeping = (
        "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid() "
        "AND datname = current_database()"
    )
    until(lambda: not database.query(sleeping))
    assert ids(database) == [2]


def test_a_wire_that_is_cut_behind_a_commit_leaves_its_outcome_unknown_and_the_next_file_undone(
    postgresql_url: str, open_url: OpenUrl, folder: Path, write: Write, proxy: MakeProxy
) -> None:
    gate = proxy(postgresql_url)
    database, direct = open_url(gate.url), open_url(postgresql_url)
    write("001_a.sql", _DEFERRED)
    write("002_b.sql", "INSERT INTO a VALUES (2)")
    write("003_c.sql", "INSERT INTO a VALUES (3) /* the end of the wire */")
    heard: list[str] = []
    gate.cut_after(b"the end of the wire", forward=True)

    with pytest.raises(OutcomeUnknown):
        Migrator(database, str(folder), on_done=lambda done: heard.append(done.name)).up()

    assert heard == ["001_a.sql"]
    # The server takes in what was sent before it hears of the end.
    until(lambda: states(direct, folder)[1] == "applied")
    assert states(direct, folder) == ["applied", "applied", "pending"]
    assert ids(direct) == [2]
