"""The schema of the state database: made by several at once, and brought up to date from every layout before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from katax_cli.engines.registry import sql_part
from katax_cli.errors import ConfigError, KataxError
from katax_cli.profiles.model.model import Profile
from katax_cli.services.cron.definition.definitions import Definitions
from katax_cli.services.cron.ledger.store import Runs
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.decisions import OperatorDecision
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.schema import Tables
from katax_cli.services.state.store import Report, StateStore
from katax_cli.services.state.versions import KEPT, LATEST, statements
from katax_cli.snapshot import Process
from tests.fake_clock import FakeClock
from tests.servers.fixtures import Target
from tests.services.profiles import profile

NOW = FakeClock.EPOCH
DECISION = OperatorDecision("1", "main", "trip", NOW, NOW + 60, "disk full", "ann@host")
PROCESS = Process("p1", "serve", "host", 7, NOW - 5, NOW)
# The SQL of the releases in which the jobs had a schema and a version of their own.
SEEN = (
    "happened_at DOUBLE PRECISION NOT NULL, profile VARCHAR(190) NOT NULL, "
    "process VARCHAR(32) NOT NULL, connection VARCHAR(190) NOT NULL"
)
KEY = "PRIMARY KEY (happened_at, process, connection)"
STATE_1 = (
    "CREATE TABLE katax_state (version INTEGER PRIMARY KEY)",
    "CREATE TABLE katax_decisions (id VARCHAR(32) NOT NULL PRIMARY KEY, connection VARCHAR(190) NOT NULL, "
    "action VARCHAR(16) NOT NULL, decided_at DOUBLE PRECISION NOT NULL, ends_at DOUBLE PRECISION, reason TEXT, "
    "decided_by VARCHAR(190), profile VARCHAR(190) NOT NULL)",
    "CREATE TABLE katax_processes (id VARCHAR(32) NOT NULL PRIMARY KEY, kind VARCHAR(64) NOT NULL, "
    "host VARCHAR(255) NOT NULL, pid INTEGER NOT NULL, started_at DOUBLE PRECISION NOT NULL, "
    "seen_at DOUBLE PRECISION NOT NULL, profile VARCHAR(190) NOT NULL)",
    "CREATE TABLE katax_breakers (process VARCHAR(32) NOT NULL, connection VARCHAR(190) NOT NULL, "
    "state VARCHAR(16) NOT NULL, failures INTEGER NOT NULL, last_failure_at DOUBLE PRECISION, "
    "next_probe_at DOUBLE PRECISION, reason TEXT, profile VARCHAR(190) NOT NULL, "
    "PRIMARY KEY (process, connection))",
    f"CREATE TABLE katax_transitions ({SEEN}, old_state VARCHAR(16) NOT NULL, "
    f"new_state VARCHAR(16) NOT NULL, {KEY})",
    f"CREATE TABLE katax_pool_samples ({SEEN}, pool_max INTEGER NOT NULL, total INTEGER NOT NULL, "
    f"active INTEGER NOT NULL, idle INTEGER NOT NULL, waiting INTEGER NOT NULL, {KEY})",
    f"CREATE TABLE katax_health ({SEEN}, status VARCHAR(16) NOT NULL, latency_ms DOUBLE PRECISION, "
    f"connect_ms DOUBLE PRECISION, message TEXT, {KEY})",
    "INSERT INTO katax_state VALUES (1)",
    f"INSERT INTO katax_decisions VALUES ('1', 'main', 'trip', {NOW}, {NOW + 60}, 'disk full', 'ann@host', 'test')",
)
STATE_2 = (
    "CREATE TABLE katax_reports (process VARCHAR(32) NOT NULL, part VARCHAR(32) NOT NULL, "
    "reported_at DOUBLE PRECISION NOT NULL, content TEXT NOT NULL, profile VARCHAR(190) NOT NULL, "
    "PRIMARY KEY (process, part))",
    "INSERT INTO katax_state VALUES (2)",
)
JOBS = (
    "CREATE TABLE katax_cron_runs (run_id VARCHAR(40) NOT NULL PRIMARY KEY, "
    "profile VARCHAR(128) NOT NULL, job VARCHAR(190) NOT NULL, claim VARCHAR(40) NOT NULL, "
    "trigger_kind VARCHAR(10) NOT NULL, scheduled_at BIGINT NOT NULL, until_at BIGINT, "
    "occurrences BIGINT NOT NULL, state VARCHAR(10) NOT NULL, reason VARCHAR(1000), started_at BIGINT, "
    "finished_at BIGINT, exit_status BIGINT, attempt BIGINT NOT NULL, host VARCHAR(255) NOT NULL, "
    "daemon VARCHAR(255) NOT NULL, lease_until BIGINT,{process} stop_reason VARCHAR(255), "
    "output_head TEXT, output_tail TEXT, UNIQUE (profile, job, claim))",
    "CREATE TABLE katax_cron_jobs (profile VARCHAR(128) NOT NULL, job VARCHAR(190) NOT NULL, definition TEXT, "
    "switched SMALLINT, schedule VARCHAR(500), canonical TEXT, accounted_until BIGINT, "
    "PRIMARY KEY (profile, job))",
    "CREATE TABLE katax_cron_meta (name VARCHAR(190) NOT NULL PRIMARY KEY, value BIGINT NOT NULL)",
    "INSERT INTO katax_cron_meta VALUES ('schema', {version})",
    "INSERT INTO katax_cron_meta VALUES ('jobs:test', 7)",
    "INSERT INTO katax_cron_jobs VALUES ('test', 'a', NULL, NULL, '@daily', NULL, 5)",
    "INSERT INTO katax_cron_runs (run_id, profile, job, claim, trigger_kind, scheduled_at, occurrences, state, "
    "attempt, host, daemon) VALUES ('r1', 'test', 'a', '5', 'schedule', 5, 1, 'ran', 1, 'host', 'd1')",
)


@pytest.fixture
def stored(sql_engine: Target, tmp_path: Path) -> Profile:
    """A profile whose state is in its own connection."""
    return profile(tmp_path, {"main": sql_engine.url}, extra='[state]\nurl = "main"\n')


@pytest.fixture
def database(stored: Profile) -> Iterator[SqlDatabase]:
    with Runtime(stored) as runtime:
        made = runtime.database("main")
        assert isinstance(made, SqlDatabase)
        yield made


def versions(database: SqlDatabase) -> list[Any]:
    return [row["version"] for row in database.query("SELECT version FROM katax_state ORDER BY 1")]


@pytest.mark.parametrize(("state", "jobs"), [(1, 0), (2, 0), (0, 1), (0, 2), (2, 1), (2, 2)])
def test_an_older_database_is_brought_up_to_date_and_its_rows_stay(
    stored: Profile, database: SqlDatabase, state: int, jobs: int
) -> None:
    process = " process VARCHAR(255)," if jobs == 2 else ""
    for statement in (
        *(STATE_1 if state else ()),
        *(STATE_2 if state == 2 else ()),
        *((sql.format(process=process, version=jobs) for sql in JOBS) if jobs else ()),
    ):
        database.execute(statement)

    # Each of both that share it may come first.
    tables = Tables(database, "test")
    if jobs % 2:
        tables.prepare()
    with StateStore(stored, clock=FakeClock()) as store:
        assert store.decisions() == ({"main": DECISION} if state else {})
        store.report(PROCESS, parts={"traffic": [{"a": 1}]})
        assert store.reports() == [Report("p1", "traffic", NOW, [{"a": 1}])]
    tables.prepare()
    assert [(run.job, run.state, run.process) for run in Runs(tables).history()] == (
        [("a", "ran", None)] if jobs else []
    )
    assert [(job.job, job.accounted_until) for job in Definitions(tables).jobs()] == (
        [("a", 5)] if jobs else []
    )
    before = 7 if jobs else 0
    assert Definitions(tables).version() == before
    Definitions(tables).define("b", {})
    assert Definitions(tables).version() == before + 1

    assert max(versions(database)) == LATEST
    assert database.query("SELECT * FROM katax_cron_meta WHERE name = 'schema'") == []


def test_every_table_that_grows_is_pruned(database: SqlDatabase) -> None:
    versions = statements(sql_part(database.engine, "state"))
    words = " ".join(sql for version in versions[:2] for sql in version).split()

    # Decisions are pruned unless they count, breakers and reports with their processes, runs by their history.
    assert {word for word in words if word.startswith("katax_")} - {name for name, _, _ in KEPT} == {
        "katax_decisions",
        "katax_breakers",
        "katax_reports",
    }


def test_several_processes_may_make_it_at_the_same_time(stored: Profile, database: SqlDatabase) -> None:
    errors: list[BaseException] = []

    def begin(number: int) -> None:
        try:
            if number % 2:
                with Runtime(stored) as runtime:
                    Tables(runtime.sql(stored.state.connection), "test").prepare()
            else:
                with StateStore(stored) as store:
                    store.decide(DECISION._replace(id=str(number), decided_at=NOW + number))
        except KataxError as error:
            errors.append(error)

    threads = [Thread(target=begin, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert versions(database) == list(range(1, LATEST + 1))
    with StateStore(stored) as store:
        assert store.decisions()["main"].id == "4"


def test_a_newer_schema_is_left_alone(stored: Profile, database: SqlDatabase) -> None:
    tables = Tables(database, "test")
    tables.prepare()
    database.execute("INSERT INTO katax_state VALUES (99)")

    with StateStore(stored) as store:
        for ask in (store.decisions, Tables(database, "test").prepare):
            with pytest.raises(ConfigError) as error:
                ask()
            assert str(error.value) == (
                f"the state database 'main' has schema version 99, this katax knows {LATEST}; "
                "upgrade katax or set state.url"
            )
