"""The schema as text: by the server's own tool where it is there, else by what katax reads itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from tempfile import NamedTemporaryFile

from katax_cli.core.settings import ConnectionSettings
from katax_cli.errors import DeadlineExceeded, MigrationError
from katax_cli.services.migrate.migrator import Migrator

_SQLITE = """SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
AND tbl_name <> ? AND name NOT IN (SELECT name FROM pragma_table_list WHERE type = 'shadow') ORDER BY rowid"""
_RESTRICT = re.compile(r"^\\restrict (\w+)$", re.MULTILINE)
_VERSIONS = re.compile(r"^-- Dumped (from|by) .*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Dump:
    """The schema, and what wrote it."""

    text: str
    by: str
    is_runnable: bool = True


def dump(migrator: Migrator) -> Dump:
    """The schema without data and without the ledger; of a server whose tool is of no use as katax describes it."""
    try:
        return runnable(migrator)
    except MigrationError as error:
        with migrator.session() as session:
            texts: dict[str, str] = session.ask(migrator.engine.definitions, None)
        text = "\n\n".join(f"-- {key}\n{text}" for key, text in sorted(texts.items()))
        return Dump(text, f"katax itself, for people only: {error}", is_runnable=False)


def runnable(migrator: Migrator) -> Dump:
    """The schema as SQL that builds it. Raises MigrationError when the server's tool is missing or fails.

    Secrets reach the tool by environment or file, never argv.
    """
    # The tools would wait for a server that says nothing for as long as they like; we have a deadline.
    migrator.db.ping()
    settings = migrator.db.settings
    if settings.type == "mongodb":
        raise MigrationError("mongodb has no schema in SQL")
    with migrator.session() as session:
        migrator.ledger.settle(session)
    if settings.type == "sqlite":
        rows = migrator.sql.run(_SQLITE, [migrator.table]).rows
        return Dump("\n\n".join(_ended(str(sql)) for (sql,) in rows), "katax itself")
    return _pg_dump(migrator) if settings.type == "postgresql" else _mysqldump(migrator)


def _ended(statement: str) -> str:
    """A comment in the last line would hide the semicolon."""
    return f"{statement}\n;" if "--" in statement.rpartition("\n")[2] else f"{statement};"


def _pg_dump(migrator: Migrator) -> Dump:
    settings = migrator.db.settings
    words = ["pg_dump", "--schema-only", "--no-owner", "--no-privileges", "--encoding=UTF8"]
    words += ["-T", migrator.ledger.table, "-d", settings.database or "", *_where(settings, user="-U")]
    # What others set for libpq would lead to another server, or to another session.
    given = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    password = settings.password.reveal() if settings.password else ""
    given |= {"PGPASSWORD": password, "PGCONNECT_TIMEOUT": "10"}
    if tls := settings.tls:
        facts = {"SSLMODE": tls.mode, "SSLROOTCERT": tls.ca, "SSLCERT": tls.cert, "SSLKEY": tls.key}
        given |= {f"PG{key}": value for key, value in facts.items() if value}
    return Dump(_without_noise(_run(migrator, words, given)), "pg_dump")


def _without_noise(text: str) -> str:
    """Without what differs between two dumps of one schema: versions in the head, and the key for psql."""
    text = _VERSIONS.sub("", text, count=2)
    if key := _RESTRICT.search(text):
        ours = (f"\\restrict {key[1]}", f"\\unrestrict {key[1]}")
        text = "\n".join(line for line in text.split("\n") if line not in ours)
    return text.strip("\n")


def _mysqldump(migrator: Migrator) -> Dump:
    from katax_cli.engines.mysql.backup.dump import client_options

    settings = migrator.db.settings
    program = "mariadb-dump" if shutil.which("mariadb-dump") else "mysqldump"
    with NamedTemporaryFile("w", prefix="katax-", suffix=".cnf") as file:
        os.chmod(file.name, 0o600)
        file.write(client_options(settings))
        file.flush()
        words = [program, f"--defaults-extra-file={file.name}", "--no-data", "--skip-comments", "--routines"]
        words += ["--events", "--default-character-set=utf8mb4"]
        home, _, name = migrator.table.rpartition(".")
        words += [f"--ignore-table={home or settings.database}.{name}", *_where(settings, user="-u")]
        return Dump(_run(migrator, [*words, settings.database or ""], dict(os.environ)).strip("\n"), program)


def _where(settings: ConnectionSettings, *, user: str) -> list[str]:
    port = "-p" if user == "-U" else "-P"
    flags = {user: settings.user, "-h": settings.socket or settings.host, port: settings.port}
    return [str(word) for flag, value in flags.items() if value for word in (flag, value)]


def _run(migrator: Migrator, words: list[str], environment: dict[str, str]) -> str:
    """The tool's output. Raises MigrationError when it is missing or fails; DeadlineExceeded."""
    deadline = migrator.db.callers_deadline()
    try:
        done = subprocess.run(
            words, env=environment, capture_output=True, check=False, timeout=deadline.within(None)
        )
    except FileNotFoundError as error:
        raise MigrationError(f"{words[0]} is not installed") from error
    except OSError as error:
        raise MigrationError(f"cannot run {words[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(migrator.db.name, doing=words[0], seconds=deadline.seconds or 0.0) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise MigrationError(f"{words[0]} failed: {said[0] if said else f'status {done.returncode}'}")
    return done.stdout.decode(errors="surrogateescape")
