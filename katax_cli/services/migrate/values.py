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


class ChangedAfterApply(MigrationError):
    """An applied file says something else now."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        return (
            f"migration {self.name} changed after it was applied; "
            f"undo the change, or see 'katax migrate repair --explain'"
        )


class Unfinished(MigrationError):
    """A migration was begun and did not end."""

    def __init__(self, name: str, *, done: int, why: str | None) -> None:
        self.name = name
        self.done = done
        super().__init__(name)
        self.why = why

    def __str__(self) -> str:
        # Earlier versions kept the whole sentence.
        why = (self.why or "").removeprefix(f"migration {self.name} failed at ").partition("; correct it")[0]
        why = f" at {why}" if why else ""
        return (
            f"migration {self.name} stopped after {self.done} finished statement{'s' * (self.done != 1)}{why}; "
            "go on with 'katax migrate resume', or give it up with 'katax migrate resume --abandon'"
        )


class UnfinishedLoad(MigrationError):
    """A schema file was begun to be loaded, and its end is not known."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        return (
            f"the load of {self.name} stopped in its middle; "
            "empty the database with 'katax db reset', then load it again"
        )


class StatementFailed(MigrationError):
    """A statement of a migration was refused; `kept` says what of its file lasts nevertheless."""

    def __init__(self, name: str, *, line: int, reason: str, kept: str) -> None:
        self.name = name
        self.line = line
        self.reason = reason
        self.kept = kept
        super().__init__(name)

    def __str__(self) -> str:
        return f"migration {self.name} failed at line {self.line}: {self.reason}; {self.kept}"


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


class Script(NamedTuple):
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


class Entry(NamedTuple):
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
        return int(self.version)


class Standing(NamedTuple):
    """One migration: what the folder has, what the ledger has, and what follows from both."""

    version: str
    name: str
    state: State
    file: MigrationFile | None = None
    entry: Entry | None = None
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
