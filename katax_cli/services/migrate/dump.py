"""The schema as text: by the server's own tool where it is there, else by what katax reads itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from tempfile import NamedTemporaryFile

from katax_cli.core.settings import ConnectionSettings
from katax_cli.services.migrate.migrator import Migrator


@dataclass(frozen=True, slots=True)
class Dump:
    """The schema, and what wrote it."""

    text: str
    by: str


def dump(migrator: Migrator) -> Dump:
    """The schema of the database without its data. Secrets reach the tool by environment or file, never argv."""
    # The tools would wait for a server that says nothing for as long as they like; we have a deadline.
    migrator.db.ping()
    native = {"postgresql": _pg_dump, "mysql": _mysqldump}.get(migrator.db.settings.type)
    found = native(migrator.db.settings) if native is not None else None
    return found or _own(migrator)


def _own(migrator: Migrator) -> Dump:
    with migrator.session() as session:
        found: dict[str, str] = session.ask(migrator.engine.definitions, None)
    return Dump("\n\n".join(f"-- {key}\n{text}" for key, text in sorted(found.items())), "katax itself")


def _pg_dump(settings: ConnectionSettings) -> Dump | None:
    words = ["pg_dump", "--schema-only", "--no-owner", "--no-privileges", "-d", settings.database or ""]
    words += _where(settings, user="-U")
    password = settings.password.reveal() if settings.password else ""
    return _run(words, {**os.environ, "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "10"})


def _mysqldump(settings: ConnectionSettings) -> Dump | None:
    program = "mariadb-dump" if shutil.which("mariadb-dump") else "mysqldump"
    with NamedTemporaryFile("w", prefix="katax-", suffix=".cnf") as file:
        os.chmod(file.name, 0o600)
        password = settings.password.reveal() if settings.password else ""
        escaped = password.replace("\\", "\\\\").replace('"', '\\"')
        file.write(f'[client]\npassword="{escaped}"\n')
        file.flush()
        words = [program, f"--defaults-extra-file={file.name}", "--no-data", "--skip-comments", "--routines"]
        return _run([*words, *_where(settings, user="-u"), settings.database or ""], dict(os.environ))


def _where(settings: ConnectionSettings, *, user: str) -> list[str]:
    port = "-p" if user == "-U" else "-P"
    flags = {user: settings.user, "-h": settings.socket or settings.host, port: settings.port}
    return [str(word) for flag, value in flags.items() if value for word in (flag, value)]


def _run(words: list[str], environment: dict[str, str]) -> Dump | None:
    """The tool's output; None when it is missing or did not succeed (too old for the server, no right)."""
    if shutil.which(words[0]) is None:
        return None
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    return Dump(done.stdout.rstrip(), words[0]) if done.returncode == 0 else None
