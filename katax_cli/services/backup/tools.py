"""The servers' own tools: found, checked against the server's version, run without a secret in their words."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import IO

from katax_cli.engines.dumps import Credentials
from katax_cli.errors import BackupError, BackupHindered, ConfigError
from katax_cli.services.backup.spool import private_folder, temporary_errors
from katax_cli.services.backup.streams import CHUNK
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.calls.watchdog import watchdog
from katax_cli.services.processes.supervised import Supervised

_SECRETS = "katax-secrets-"
_POLL_SECONDS = 0.05
_SAID_BYTES = 64 * 2**10
_SAID_LINES = 5
_SIGNALLED = 128
"""Above it a status is that of a program which a signal ended."""
_AFTER_ECHO = "\n--------------\n"
# Of `pg_dump (PostgreSQL) 16.4 (Ubuntu 16.4-0ubuntu0.24.04.1)`, `mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB`,
# `mariadb-dump from 11.4.2-MariaDB, client 10.19`, `mysqldump  Ver 8.0.36 for Linux`, `mongodump version: 100.9.4`.
_VERSIONS = tuple(
    re.compile(before + rb"(\d+(?:\.\d+)*)")
    for before in (rb"\(PostgreSQL\) ", rb" Distrib ", rb" from ", rb" Ver ", rb" version: ")
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A program of a server's maker: its name, path and version."""

    name: str
    path: str
    version: tuple[int, ...]
    is_mariadb: bool = False

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}"


def find_tool(names: Sequence[str], *, folder: str | None, package: str) -> Tool:
    """The first of `names` that is there, in `folder` or on PATH. Raises ConfigError with what to install."""
    for name in names:
        path = shutil.which(name, path=folder) if folder else shutil.which(name)
        if path is not None:
            return Tool(name, path, *_version(path))
    where = f"in {folder!r}, which [backup] tools names" if folder else "on PATH"
    raise ConfigError(
        f"there is no {' or '.join(names)} {where}; install {package}, or set [backup] tools to its folder"
    )


def refuse_older(tool: Tool, server_version: str, *, parts: int, package: str) -> None:
    """Raises ConfigError for a tool that is older than the server, as far as `parts` numbers of the versions tell."""
    server = tuple(int(number) for number in re.findall(r"\d+", server_version)[:parts])
    if tool.version[:parts] < server:
        wanted = ".".join(map(str, server))
        raise ConfigError(
            f"{tool} ({tool.path}) is older than the server, {server_version}; install {package} of version {wanted} "
            "or later, or set [backup] tools to its folder"
        )


def _version(path: str) -> tuple[tuple[int, ...], bool]:
    """The version of a program, and whether it is MariaDB's."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(
            f"cannot run {path!r}: {error}; set [backup] tools to the folder of another"
        ) from error
    version = next(filter(None, (pattern.search(done.stdout) for pattern in _VERSIONS)), None)
    if done.returncode or version is None:
        raise ConfigError(f"{path!r} does not say its version; set [backup] tools to the folder of another")
    return tuple(int(number) for number in version[1].split(b".")), b"MariaDB" in done.stdout


@contextmanager
def secret_files(credentials: Credentials) -> Iterator[Credentials]:
    """The credentials with their files written into a folder that only we may enter; it is gone afterwards.

    So are those of runs that were killed.
    """
    with private_folder(_SECRETS) as home:
        folder = str(home)
        with temporary_errors():
            for name, text in credentials.files.items():
                descriptor = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
        words = tuple(word.replace("{folder}", folder) for word in credentials.words)
        environment = {
            key: value.replace("{folder}", folder) for key, value in credentials.environment.items()
        }
        yield Credentials(words, {}, environment)


def run_tool(
    work: StoppableWork,
    words: Sequence[str],
    credentials: Credentials,
    *,
    read: Callable[[IO[bytes]], None] | None = None,
    feed: Iterable[bytes] | None = None,
    each_moment: Callable[[], object] = lambda: None,
) -> str:
    """Runs a tool to its end; returns what it said on stderr. `read` gets its output, it reads `feed` from stdin.

    Raises BackupError when it fails, BackupHindered when it was killed, DeadlineExceeded; whatever happens, nothing of
    it runs on.
    """
    with _temporary_file() as stderr:
        process = Supervised(
            words,
            environment=credentials.environment,
            inherited=_environment(),
            stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
            stdout=subprocess.PIPE if read else subprocess.DEVNULL,
            stderr=stderr,
        )
        with (
            process,
            nullcontext() if read is None else process.stdout as output,
            work.stopping(process.stop),
            watchdog.limit(work.deadline.remaining(), process.stop),
        ):
            try:
                if feed is not None:
                    _widen(process.stdin)
                    _write(process.stdin, feed)
                if read is not None and output is not None:
                    _widen(output)
                    read(output)
                has_ended = False
                while not has_ended:
                    has_ended = process.ends_within(_POLL_SECONDS)
                    work.check()
                    each_moment()
            except BaseException:
                # Asked to end, pg_dump asks the server to cancel, and waits for one that is frozen.
                process.stop()
                raise
            status = process.status()
        work.check()
        said = _said(stderr)
        if status:
            kind = BackupHindered if status > _SIGNALLED else BackupError
            raise kind(f"{os.path.basename(words[0])} failed: {said or f'status {status}'}")
        return said


@contextmanager
def _temporary_file() -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        with temporary_errors():
            file = stack.enter_context(tempfile.TemporaryFile())
        yield file


def _write(pipe: IO[bytes], feed: Iterable[bytes]) -> None:
    """A tool that ended before it read all says itself why."""
    try:
        for data in feed:
            try:
                pipe.write(data)
            except BrokenPipeError:
                break
    finally:
        with suppress(BrokenPipeError):
            pipe.close()


def _widen(pipe: IO[bytes]) -> None:
    """Lets a tool work on while we do, too: a pipe of Linux holds 64 kB by default."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        # More than this user may have: it stays as it is.
        with suppress(PermissionError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CHUNK)


def _environment() -> Mapping[str, str]:
    """Ours without what would lead libpq to another server, and with messages in English."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")} | {
        "LC_ALL": "C.UTF-8"
    }


def _said(stderr: IO[bytes]) -> str:
    """The last lines of what it said, without its own name.

    MariaDB's client repeats the statement between two lines of dashes, before the server's words: it may hold rows.
    """
    size = stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, size - _SAID_BYTES))
    lines = stderr.read().decode(errors="replace").rpartition(_AFTER_ECHO)[2].splitlines()
    kept = [re.sub(r"^\S+: (error: |Error: )?", "", line).strip() for line in lines if line.strip()]
    # MongoDB's tools say much before the reason.
    begin = next((at for at, line in enumerate(kept) if re.search(r"(?:^|\s)Failed: ", line)), 0)
    return "; ".join(kept[begin : begin + _SAID_LINES])
