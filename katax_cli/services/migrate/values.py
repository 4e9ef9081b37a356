"""Migrations as frozen values: files and their sections, ledger entries, and where each migration stands."""

from __future__ import annotations

from typing import Literal, NamedTuple

from katax_cli.errors import MigrationError

Direction = Literal["up", "down"]
State = Literal["applied", "pending", "failed", "missing", "modified"]
Recorded = Literal["applied", "running", "failed"]
LOADING = "load"
"""The runner of an entry that stands for a schema file."""
BOM = b"\xef\xbb\xbf"


class Directives(NamedTuple):
    """The directives of a section; times are seconds."""

    transaction: bool = True
    lock_timeout: float | None = None
    statement_timeout: float | None = None


class Section(NamedTuple):
    """The text between two markers; `line` is the number of its first line in the file."""

    text: str
    line: int
    directives: Directives


class MigrationScript(NamedTuple):
    """A parsed `.sql` migration."""

    up: Section
    down: Section | None
    verify: Section | None


class MigrationFile(NamedTuple):
    """A migration as it lies in the folder: its version (digits), file name, bytes and their SHA-256."""

    version: str
    name: str
    path: str
    data: bytes
    checksum: str
    sections: tuple[int, ...] = ()
    """The bytes at which golang-migrate's files begin, which have one section each; none: it is one of ours."""

    @property
    def number(self) -> int:
        return int(self.version)

    @property
    def is_python(self) -> bool:
        return self.name.endswith(".py")

    @property
    def text(self) -> str:
        """Its text without a byte order mark. Raises MigrationError when it is not UTF-8."""
        try:
            return self.data.removeprefix(BOM).decode()
        except UnicodeDecodeError as error:
            raise MigrationError(
                f"migration {self.name} is not UTF-8 at byte {error.start}; save it as UTF-8"
            ) from error


class LedgerEntry(NamedTuple):
    """A row of the ledger, without the text. `done` counts finished statements of an unfinished run."""

    version: str
    name: str
    state: Recorded
    direction: Direction
    checksum: str
    applied_at: str | None
    duration_ms: int | None
    done: int = 0
    runner: str = ""
    error: str | None = None

    @property
    def number(self) -> int:
        """Raises MigrationError when somebody wrote a version that is none."""
        if not self.version.isdecimal():
            raise MigrationError(
                f"the ledger has an entry of version {self.version!r}, which is no number; correct it or remove its row"
            )
        return int(self.version)


class Standing(NamedTuple):
    """One migration: what the folder has, what the ledger has, and what follows from both."""

    version: str
    name: str
    state: State
    file: MigrationFile | None = None
    entry: LedgerEntry | None = None
    bytes_differ: bool = False

    @property
    def number(self) -> int:
        return int(self.version)

    @property
    def applied_at(self) -> str | None:
        """The time of its application, RFC 3339; None when it is not applied."""
        return self.entry.applied_at if self.entry is not None else None

    @property
    def duration_ms(self) -> int | None:
        return self.entry.duration_ms if self.entry is not None else None


class Outcome(NamedTuple):
    """One migration that was applied or reverted, after its commit."""

    version: str
    name: str
    direction: Direction
    applied_at: str
    duration_ms: int
