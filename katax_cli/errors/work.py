"""Errors of what is done on servers and hosts: locks, refusals, limits, migrations, seeds, records, programs."""

from __future__ import annotations

from collections.abc import Sequence

from katax_cli.errors.base import KataxError


class LockHeld(KataxError):
    """Another holder has the lock."""

    def __init__(self, name: str, *, holder: str) -> None:
        self.name = name
        self.holder = holder
        super().__init__(name)

    def __str__(self) -> str:
        return f"lock {self.name!r} is held by {self.holder}"


class LockLost(KataxError):
    """The lock was lost while work under it ran."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(name)

    def __str__(self) -> str:
        return f"lock {self.name!r} was lost: {self.reason}"


class Refused(KataxError):
    """katax will not do this: the profile is protected or a confirmation is missing."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"refused: {self.reason}"


class UntrustedFile(Refused):
    """A file that others could have written is not used."""


class RateLimitExceeded(KataxError):
    """The rate limit of a key is reached."""

    def __init__(self, key: str, *, limit: int, window: float, reset_at: float, retry_after: float) -> None:
        self.key = key
        self.limit = limit
        self.window = window
        self.reset_at = reset_at
        self.retry_after = retry_after
        super().__init__(key)

    def __str__(self) -> str:
        return (
            f"limit reached for {self.key!r}: {self.limit} per {self.window:g} s, "
            f"retry after {self.retry_after:.1f} s"
        )


class MigrationError(KataxError):
    """A migration cannot be planned or did not succeed."""


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


class SchemaNotWritten(MigrationError):
    """The database was changed as requested, but the schema file was not written."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(path)

    def __str__(self) -> str:
        return f"what is applied stays applied, but {self.path} was not written: {self.reason}"


class MigrationsPending(MigrationError):
    """Migrations of a connection are not applied yet; `first` is the file name of the first."""

    def __init__(self, connection: str, *, count: int, first: str) -> None:
        self.connection = connection
        self.count = count
        self.first = first
        super().__init__(connection)

    def __str__(self) -> str:
        return f"{self.connection!r} has {self.count} migrations that are not applied, first {self.first}"


class SeedError(KataxError):
    """A seed cannot be read or did not succeed."""


class BackupError(KataxError):
    """A backup cannot be made, or a restore did not succeed."""


class BackupHindered(BackupError):
    """A machine or a server did not serve the work, which says nothing of the backup itself."""


class BackupDamaged(BackupError):
    """A folder is no whole backup; `reasons` say why, each in one sentence."""

    def __init__(self, path: str, reasons: Sequence[str]) -> None:
        self.path = path
        self.reasons = tuple(reasons)
        super().__init__(path)

    def __str__(self) -> str:
        return f"{self.path!r} is no whole backup: {'; '.join(self.reasons)}"


class RecordError(KataxError):
    """Base of the record store's errors."""


class UnknownRecord(RecordError):
    """No record has this key."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)

    def __str__(self) -> str:
        return f"no record at {self.key!r}"


class RecordChanged(RecordError):
    """No record has this key and the version that was read: another changed or deleted it."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)

    def __str__(self) -> str:
        return f"the record at {self.key!r} was changed or deleted since it was read; read it again"


class RecordExists(RecordError):
    """A record of this key exists already."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)

    def __str__(self) -> str:
        return f"a record at {self.key!r} exists; use save to replace it"


class MisshapedRecord(RecordError):
    """The value is not a record: a JSON object with an `id`."""


class UnsupportedArgument(RecordError):
    """The record store has no such option."""


class SessionNotEnded(KataxError):
    """A session or statement of a server that was to be ended was not: it is not there, or it goes on."""

    def __init__(self, connection: str, pid: str, reason: str) -> None:
        self.connection = connection
        self.pid = pid
        self.reason = reason
        super().__init__(pid)

    def __str__(self) -> str:
        return f"session {self.pid} of {self.connection!r} was not ended: {self.reason}"


class ProgramFailed(KataxError):
    """A program ended with another status than 0; `status` is as a shell gives it."""

    def __init__(self, command: Sequence[str], status: int) -> None:
        self.command = tuple(command)
        self.status = status
        super().__init__(command[0])

    def __str__(self) -> str:
        return f"{self.command[0]!r} ended with status {self.status}"
