"""The schema of the state database: all tables of katax, one version, and what leads from each to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from katax_cli.engines.registry import sql_part
from katax_cli.engines.sql import StateSql
from katax_cli.errors import ConfigError, QueryError, RolledBack, UniqueViolation
from katax_cli.services.databases.sql import SqlDatabase

_DAY = 86400.0
_KEY = "VARCHAR(190) NOT NULL"
_TIME = "DOUBLE PRECISION"
_PROCESS = "VARCHAR(32) NOT NULL"
_SEEN = f"happened_at {_TIME} NOT NULL, profile {_KEY}, process {_PROCESS}, connection {_KEY}"
_SEEN_KEY = "PRIMARY KEY (happened_at, process, connection)"
_COLUMN_OF_2 = "ALTER TABLE katax_cron_runs ADD COLUMN process VARCHAR(255)"
"""What tables of jobs lack that were made before the state database had one version; each made since has it."""

LATEST = 3

KEPT: tuple[tuple[str, str, float], ...] = (
    ("katax_pool_samples", "happened_at", 2 * _DAY),
    ("katax_health", "happened_at", 7 * _DAY),
    ("katax_transitions", "happened_at", 30 * _DAY),
    ("katax_processes", "seen_at", _DAY),
)
"""Table, the time of its rows, and how many seconds they are kept; jobs have a history of their own."""


def bring_up_to_date(database: SqlDatabase, *, seconds: float) -> None:
    """Makes the tables, or what they lack; each statement takes `seconds` at the most.

    Raises ConfigError when a newer katax made them, and what a database raises.
    """
    version = _version(database, seconds)
    if version > LATEST:
        raise ConfigError(
            f"the state database {database.name!r} has schema version {version}, this katax knows "
            f"{LATEST}; upgrade katax or set state.url"
        )
    for number in range(version, LATEST):
        _upgrade(database, number, seconds)


def statements(sql: StateSql) -> tuple[tuple[str, ...], ...]:
    """The steps from each version to the next; they may be run again."""
    return _STATE, _REPORTS, tuple(_jobs(sql))


def _version(database: SqlDatabase, seconds: float) -> int:
    """0 for a database without a schema of ours, or with the jobs of a time when they had a version of their own."""
    try:
        rows = database.run("SELECT max(version) FROM katax_state", timeout=seconds).rows
    except RolledBack:
        raise
    except QueryError:
        return 0
    return int(rows[0][0] or 0)


def _upgrade(database: SqlDatabase, number: int, seconds: float) -> None:
    """Several processes may do so at once: the statements may be run again, and one of them writes the version."""
    for statement in (
        "CREATE TABLE IF NOT EXISTS katax_state (version INTEGER PRIMARY KEY)",
        *statements(sql_part(database.engine, "state"))[number],
    ):
        try:
            database.execute(statement, timeout=seconds)
        except QueryError:
            # PostgreSQL: IF NOT EXISTS fails when another session makes the same table at the same moment.
            database.execute(statement, timeout=seconds)
    if number == LATEST - 1 and not _has_process(database, seconds):
        try:
            database.execute(_COLUMN_OF_2, timeout=seconds)
        except QueryError:
            if not _has_process(database, seconds):
                raise
    with suppress(UniqueViolation):
        database.execute("INSERT INTO katax_state VALUES (?)", (number + 1,), timeout=seconds)


def _has_process(database: SqlDatabase, seconds: float) -> bool:
    try:
        database.run("SELECT process FROM katax_cron_runs WHERE 1 = 0", timeout=seconds)
    except RolledBack:
        raise
    except QueryError:
        return False
    return True


_STATE = (
    f"CREATE TABLE IF NOT EXISTS katax_decisions (id {_PROCESS} PRIMARY KEY, connection {_KEY}, "
    f"action VARCHAR(16) NOT NULL, decided_at {_TIME} NOT NULL, ends_at {_TIME}, reason TEXT, "
    f"decided_by VARCHAR(190), profile {_KEY})",
    f"CREATE TABLE IF NOT EXISTS katax_processes (id {_PROCESS} PRIMARY KEY, kind VARCHAR(64) NOT NULL, "
    f"host VARCHAR(255) NOT NULL, pid INTEGER NOT NULL, started_at {_TIME} NOT NULL, "
    f"seen_at {_TIME} NOT NULL, profile {_KEY})",
    f"CREATE TABLE IF NOT EXISTS katax_breakers (process {_PROCESS}, connection {_KEY}, "
    f"state VARCHAR(16) NOT NULL, failures INTEGER NOT NULL, last_failure_at {_TIME}, "
    f"next_probe_at {_TIME}, reason TEXT, profile {_KEY}, PRIMARY KEY (process, connection))",
    f"CREATE TABLE IF NOT EXISTS katax_transitions ({_SEEN}, old_state VARCHAR(16) NOT NULL, "
    f"new_state VARCHAR(16) NOT NULL, {_SEEN_KEY})",
    f"CREATE TABLE IF NOT EXISTS katax_pool_samples ({_SEEN}, pool_max INTEGER NOT NULL, "
    f"total INTEGER NOT NULL, active INTEGER NOT NULL, idle INTEGER NOT NULL, waiting INTEGER NOT NULL, "
    f"{_SEEN_KEY})",
    f"CREATE TABLE IF NOT EXISTS katax_health ({_SEEN}, status VARCHAR(16) NOT NULL, latency_ms {_TIME}, "
    f"connect_ms {_TIME}, message TEXT, {_SEEN_KEY})",
)
_REPORTS = (
    f"CREATE TABLE IF NOT EXISTS katax_reports (process {_PROCESS}, part VARCHAR(32) NOT NULL, "
    f"reported_at {_TIME} NOT NULL, content TEXT NOT NULL, profile {_KEY}, PRIMARY KEY (process, part))",
)


def _jobs(sql: StateSql) -> Iterator[str]:
    long, inline = sql.long_text, sql.index_in_table
    indexes = {"katax_cron_live": "(state, daemon)", "katax_cron_time": "(profile, scheduled_at)"}
    within = "".join(f", INDEX {name} {columns}" for name, columns in indexes.items()) if inline else ""
    yield (
        "CREATE TABLE IF NOT EXISTS katax_cron_runs (run_id VARCHAR(40) NOT NULL PRIMARY KEY, "
        "profile VARCHAR(128) NOT NULL, job VARCHAR(190) NOT NULL, claim VARCHAR(40) NOT NULL, "
        "trigger_kind VARCHAR(10) NOT NULL, scheduled_at BIGINT NOT NULL, until_at BIGINT, "
        "occurrences BIGINT NOT NULL, state VARCHAR(10) NOT NULL, reason VARCHAR(1000), started_at BIGINT, "
        "finished_at BIGINT, exit_status BIGINT, attempt BIGINT NOT NULL, host VARCHAR(255) NOT NULL, "
        "daemon VARCHAR(255) NOT NULL, lease_until BIGINT, process VARCHAR(255), stop_reason VARCHAR(255), "
        f"output_head {long}, output_tail {long}, UNIQUE (profile, job, claim){within})"
    )
    yield (
        "CREATE TABLE IF NOT EXISTS katax_cron_jobs (profile VARCHAR(128) NOT NULL, "
        f"job VARCHAR(190) NOT NULL, definition {long}, switched SMALLINT, schedule VARCHAR(500), "
        f"canonical {long}, accounted_until BIGINT, PRIMARY KEY (profile, job))"
    )
    yield (
        "CREATE TABLE IF NOT EXISTS katax_cron_meta (name VARCHAR(190) NOT NULL PRIMARY KEY, value BIGINT NOT NULL)"
    )
    if not inline:
        for name, columns in indexes.items():
            yield f"CREATE INDEX IF NOT EXISTS {name} ON katax_cron_runs {columns}"
    yield "DELETE FROM katax_cron_meta WHERE name = 'schema'"
