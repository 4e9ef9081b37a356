"""The journal of writes: one line of JSON for each write of a command, whatever became of it.

Lines of concurrent writers do not mix: each is one `write` to a file that is open for appending. What cannot be written
is told once and fails nothing. A journal of `MOST_BYTES` becomes `FILE.1`, which replaces the one before it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from threading import Lock
from typing import Any, BinaryIO, Literal

from katax_cli.core.settings import revealed_secrets
from katax_cli.core.text.redact import Redactor
from katax_cli.errors import ConfigError, KataxError
from katax_cli.profiles.sources.home import ensure_home

WriteOutcome = Literal["done", "refused", "rolled back", "failed", "unknown"]

MOST_BYTES = 8 * 1024 * 1024
_LONGEST_LINE = 64 * 1024
_NUMBERS = ("rows", "duration_ms")
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One write: who asked for it, where, and its outcome. `started_at` is RFC 3339, `rows` None when not known."""

    started_at: str
    user: str
    host: str
    profile: str
    role: str
    connection: str
    command: str
    statement: str
    rows: int | None
    duration_ms: float
    outcome: WriteOutcome


class Journal:
    """The file at `path` and the one that it replaced. Use from any thread and any number of processes."""

    def __init__(self, path: str, *, home: str = "", most_bytes: int = MOST_BYTES) -> None:
        self.path = path
        self._home = home
        self._most_bytes = most_bytes
        self._lock = Lock()
        self._told = False

    def add(self, entry: JournalEntry) -> str | None:
        """Appends a line; makes `.katax/` where it goes there. Returns, the first time only, why it could not."""
        mask = Redactor(revealed_secrets).text
        table = {
            name: mask(value) if isinstance(value, str) else value for name, value in asdict(entry).items()
        }
        try:
            if os.path.dirname(self.path) == self._home:
                ensure_home(self._home)
            self._append(json.dumps(table, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        except (OSError, KataxError) as error:
            with self._lock:
                told, self._told = self._told, True
            why = error.strerror if isinstance(error, OSError) else error
            return (
                None
                if told
                else f"the journal {self.path} cannot be written: {why}; this write is not recorded"
            )
        return None

    def entries(
        self,
        *,
        limit: int | None = None,
        since: datetime | None = None,
        connections: Collection[str] | None = None,
    ) -> tuple[list[JournalEntry], int]:
        """The latest entries, the newest first, and the number of lines that are no entries.

        `connections`: only entries of these. Raises ConfigError when the file cannot be read.
        """
        kept: deque[JournalEntry] = deque(maxlen=limit)
        unreadable = 0
        for line in self._lines():
            entry = _entry(line)
            if entry is None:
                unreadable += 1
            elif (since is None or datetime.fromisoformat(entry.started_at) >= since) and (
                connections is None or entry.connection in connections
            ):
                kept.append(entry)
        return list(reversed(kept)), unreadable

    def _append(self, line: bytes) -> None:
        while True:
            file = os.open(self.path, _FLAGS, 0o600)
            try:
                if self._is_full(file):
                    continue
                data = line if _ends_whole(file) else b"\n" + line
                if os.write(file, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                # One that was removed or replaced since it was opened takes its lines with it: they are written again.
                if os.fstat(file).st_nlink:
                    return
            finally:
                os.close(file)

    def _is_full(self, file: int) -> bool:
        """Renames a journal that has grown too large; True when there is another one to write to now."""
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        if status.st_size < self._most_bytes:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # another process renames it now; a line more does no harm
        with suppress(FileNotFoundError):
            if os.path.samestat(status, os.stat(self.path)):
                os.replace(self.path, f"{self.path}.1")
        return True

    def _lines(self) -> Iterator[bytes]:
        files: list[BinaryIO] = []
        path = self.path
        try:
            with ExitStack() as stack:
                # The newer one first: else one that is renamed in between would be missed. It is met twice.
                for path in (self.path, f"{self.path}.1"):
                    with suppress(FileNotFoundError):
                        file = stack.enter_context(open(path, "rb"))
                        if not any(os.path.sameopenfile(file.fileno(), other.fileno()) for other in files):
                            files.append(file)
                for each in reversed(files):
                    path = each.name
                    yield from _read(each)
        except OSError as error:
            raise ConfigError(f"the journal {path} cannot be read: {error.strerror}") from error


def _read(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; one that is too long to be an entry comes as its beginning."""
    while line := file.readline(_LONGEST_LINE):
        whole = line
        while whole and not whole.endswith(b"\n"):
            whole = file.readline(_LONGEST_LINE)
        if line.strip():
            yield line


def _ends_whole(file: int) -> bool:
    """False when the last line was cut off, as a full disk does."""
    size = os.fstat(file).st_size
    return size == 0 or os.pread(file, 1, size - 1) == b"\n"


def _entry(line: bytes) -> JournalEntry | None:
    """The entry of a line, None for what is none. Keys that it does not know are left out."""
    try:
        table: Any = json.loads(line)
        entry = JournalEntry(**{field.name: table[field.name] for field in fields(JournalEntry)})
        known = datetime.fromisoformat(entry.started_at).tzinfo is not None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    words = (table[field.name] for field in fields(JournalEntry) if field.name not in _NUMBERS)
    return entry if known and all(isinstance(word, str) for word in words) else None
