"""The schema as a file: written after migrations, and an empty database is built from it.

Below the schema stands what was applied, a line for each migration, and a last line that proves that the file is whole.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from json import dumps, loads

from katax_cli.errors import (
    ConfigError,
    KataxError,
    MigrationError,
    QueryError,
    RolledBack,
    SchemaNotWritten,
    StatementFailed,
)
from katax_cli.services.migrate.dump import Dump, runnable
from katax_cli.services.migrate.files import files
from katax_cli.services.migrate.files.checksum import meaning_digest
from katax_cli.services.migrate.jobs import MigrationJob, script_job
from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.migrate.runner import Runner
from katax_cli.services.migrate.stepwise import failed_line, run_statement
from katax_cli.services.migrate.values import LOADING, MigrationFile, Standing
from katax_cli.services.tables import reset

_HEAD = "-- katax: schema of "
_APPLIED = "-- katax: applied "
_END = "-- katax: end"
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class SchemaFile:
    """A file as it was read: its statements, and the migrations that it is the result of."""

    path: str
    text: str
    applied: tuple[dict[str, str], ...]


def with_applied(migrator: Migrator, dump: Dump) -> str:
    """The text of the file."""
    lines = [_APPLIED + dumps(migration, ensure_ascii=False) for migration in _applied(migrator)]
    return "\n".join([_HEAD + migrator.db.settings.type, "", dump.text, "", *lines, _END, ""])


def write(migrator: Migrator, path: str) -> bool:
    """Writes the file; False when it says all that already. Raises SchemaNotWritten."""
    try:
        text = _settled(migrator)
        data = text.encode(errors="surrogateescape")
        with suppress(FileNotFoundError), open(path, "rb") as file:
            if file.read() == data:
                return False
        _replace(os.path.realpath(path), data)
    except OSError as error:
        raise SchemaNotWritten(path, str(error.strerror)) from error
    except KataxError as error:
        raise SchemaNotWritten(path, str(error)) from error
    return True


def _settled(migrator: Migrator) -> str:
    """Read while nothing was applied: the schema and the list belong together."""
    for _ in range(_ATTEMPTS):
        standings = migrator.status()
        unfinished = next((migration for migration in standings if migration.state == "failed"), None)
        if unfinished is not None:
            raise MigrationError(f"migration {unfinished.name} is under way or stopped in its middle")
        text = with_applied(migrator, runnable(migrator))
        if migrator.status() == standings:
            return text
    raise MigrationError("others applied migrations while the schema was read; run it again")


def _applied(migrator: Migrator) -> list[dict[str, str]]:
    return [
        {
            "version": migration.version,
            "name": migration.name,
            "checksum": migration.entry.checksum,
            "meaning": _meaning(migrator, migration),
        }
        for migration in migrator.status()
        if migration.entry is not None and migration.entry.state == "applied"
    ]


def _meaning(migrator: Migrator, standing: Standing) -> str:
    if standing.file is not None and not standing.bytes_differ:
        text = standing.file.text
    else:
        text = migrator.ledger.body(migrator.sql, standing.version)
    return meaning_digest(standing.name, text, migrator.dialect)


def _replace(path: str, data: bytes) -> None:
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.remove(part)
        raise


def read(path: str, engine: str) -> SchemaFile:
    """Raises ConfigError when it cannot be read, or is not a whole schema of this engine."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = file.read().rstrip().split("\n")
    except OSError as error:
        raise ConfigError(f"cannot read {path!r}: {error.strerror}; name another file") from error
    if not lines[0].startswith(_HEAD) or lines[-1] != _END:
        raise ConfigError(
            f"{path!r} is no whole schema file; 'katax migrate up' or 'migrate dump' writes one"
        )
    written_for = lines[0].removeprefix(_HEAD).strip()
    if written_for != engine:
        raise ConfigError(f"{path!r} is a schema of {written_for}, and this is {engine}")
    last = len(lines) - 1
    first = next(i for i in range(last, -1, -1) if i == 0 or not lines[i - 1].startswith(_APPLIED))
    try:
        applied = tuple(_entry(line) for line in lines[first:last])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path!r} has a line of what was applied that is no JSON: {error}") from error
    return SchemaFile(path, "\n".join(lines[1:first]), applied)


def _entry(line: str) -> dict[str, str]:
    values = loads(line.removeprefix(_APPLIED))
    int(values["version"])
    return {key: str(values[key]) for key in ("version", "name", "checksum", "meaning")}


def check(migrator: Migrator, schema: SchemaFile) -> list[str]:
    """The migrations that `load` would record. Raises MigrationError unless the database is empty and the folder
    has the texts that the schema came from."""
    _refuse_data(migrator)
    return [name for name, _ in _with_files(migrator, schema)]


def load(migrator: Migrator, schema: SchemaFile) -> list[str]:
    """Builds the database and records the migrations as applied: all or nothing where DDL can be undone.

    Elsewhere an entry says that the schema was begun, and stays when it stopped.
    """
    assert migrator.dialect is not None
    data = schema.text.encode(errors="surrogateescape")
    file = MigrationFile("0", os.path.basename(schema.path), schema.path, data, sha256(data).hexdigest())
    job = script_job(file, migrator.dialect)
    recorded = _with_files(migrator, schema)
    _refuse_data(migrator)
    with migrator.locked() as runner:
        _refuse_data(migrator)
        with runner.taking_back(job):
            if runner.in_transaction(job):
                with runner.session.transaction():
                    _build(runner, job, "nothing of it was applied")
                    _record(migrator, runner, recorded, schema)
            else:
                migrator.ledger.begin(runner.session, file, "up", LOADING)
                _build(runner, job, "what stands before it lasts; empty the database with 'katax db reset'")
                with runner.session.transaction():
                    migrator.ledger.remove(runner.session, file.version)
                    _record(migrator, runner, recorded, schema)
    return [name for name, _ in recorded]


def _refuse_data(migrator: Migrator) -> None:
    ledger = migrator.table.rpartition(".")[2]
    names = {f"table {ledger}", f"table {migrator.ledger.table}", f"table public.{ledger}"}
    there = [str(entity) for entity in reset.objects(migrator.db) if str(entity) not in names]
    there += [entry.name for entry in migrator.ledger.entries(migrator.sql) or ()]
    if there:
        raise MigrationError(
            f"{migrator.db.name!r} is not empty: it has {there[0]}"
            f"{f' and {len(there) - 1} more' if len(there) > 1 else ''}; a schema is loaded into an empty database"
        )


def _with_files(migrator: Migrator, schema: SchemaFile) -> list[tuple[str, MigrationFile | None]]:
    by_number = {file.number: file for file in files.scan(migrator.directory)}
    found = []
    for entry in schema.applied:
        file = by_number.get(int(entry["version"]))
        if (
            file is not None
            and entry["checksum"] != file.checksum
            and entry["meaning"] != meaning_digest(file.name, file.text, migrator.dialect)
        ):
            raise MigrationError(
                f"{schema.path} was written with another text of migration {file.name}; bring that back, or "
                "write the schema anew with 'katax migrate up' on a database that has it"
            )
        found.append((entry["name"], file))
    return found


def _build(runner: Runner, job: MigrationJob, kept: str) -> None:
    for statement in job.statements:
        try:
            run_statement(runner.session, job, statement)
        except RolledBack:
            raise
        except QueryError as error:
            line = failed_line(runner.session, statement, error) + 1
            raise StatementFailed(job.name, line=line, reason=str(error), kept=kept) from error


def _record(
    migrator: Migrator,
    runner: Runner,
    recorded: list[tuple[str, MigrationFile | None]],
    schema: SchemaFile,
) -> None:
    for entry, (_, file) in zip(schema.applied, recorded, strict=True):
        migrator.record_applied(runner.session, entry["version"], entry["name"], file)
