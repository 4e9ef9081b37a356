"""Migrations of one database: what the commands and other programs call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from katax_cli.core.clock import SYSTEM, Clock, utc_text
from katax_cli.errors import ConfigError, MigrationError, UnfinishedLoad
from katax_cli.services.migrate import plan
from katax_cli.services.migrate.access import LedgerAccess, Note
from katax_cli.services.migrate.files import files, other_tools
from katax_cli.services.migrate.values import (
    LOADING,
    Direction,
    LedgerEntry,
    MigrationFile,
    Outcome,
    Standing,
)

if TYPE_CHECKING:
    from katax_cli.services.databases.mongodb import MongoDatabase
    from katax_cli.services.databases.sql import SqlDatabase
    from katax_cli.services.migrate.abandon import Abandoned
    from katax_cli.services.migrate.connection import MigrationConnection
    from katax_cli.services.migrate.jobs import MigrationJob


class _AskedFolder(NamedTuple):
    """The folder as `pending` read it, and whether there was something to apply."""

    files: list[MigrationFile]
    has_work: bool


def _refuse_load(standing: Standing) -> None:
    """A schema file has no statement to go on from, and no DOWN."""
    if standing.entry is not None and standing.entry.runner == LOADING:
        raise UnfinishedLoad(standing.name)


class Migrator(LedgerAccess):
    """Applies the migrations of `directory` to `db` and keeps `table` as its ledger.

    One runner at a time: others wait up to `lock_timeout` seconds, then raise LockHeld. `on_note(text)` hears
    what a person would want to know; `on_done(outcome)` each migration after its commit.
    """

    def __init__(
        self,
        db: SqlDatabase | MongoDatabase,
        directory: str = "migrations",
        *,
        table: str = "katax_migrations",
        lock_timeout: float = 15.0,
        on_note: Note = lambda _: None,
        on_done: Callable[[Outcome], None] = lambda _: None,
        clock: Clock = SYSTEM,
    ) -> None:
        super().__init__(db, table, lock_timeout=lock_timeout, on_note=on_note, clock=clock)
        self.directory = directory
        self._on_done = on_done
        self._jobs: dict[tuple[str, str, Direction], MigrationJob] = {}
        self._asked: _AskedFolder | None = None
        self._last_read: list[Standing] = []

    @property
    def applied(self) -> int:
        """The number of applied migrations when the ledger was last read."""
        return sum(migration.state == "applied" for migration in self._last_read)

    def status(self) -> list[Standing]:
        """The state of every migration, by version. Changes nothing, takes no lock."""
        return self._standings(files.scan(self.directory))

    def create(self, name: str, *, python: bool = False) -> str:
        """Writes an empty migration in the folder's style and returns its path."""
        return files.create(self.directory, name, python=python, now=self._clock.now())

    def pending(
        self, *, to: str | None = None, steps: int | None = None, strict: bool = False
    ) -> list[MigrationJob]:
        """The jobs of `up`, read and checked. Raises what `up` would raise before it runs anything.

        The next `up` runs these files as they were read here: what was asked about is what is run.
        """
        scanned = files.scan(self.directory)
        standings = self._standings(scanned)
        plan.refuse_unsound(standings, strict=strict, locked=False)
        pending = plan.to_apply(standings, to=to, steps=steps)
        self._asked = _AskedFolder(scanned, has_work=bool(pending))
        return [self.job(file, "up") for file in pending]

    def up(self, *, to: str | None = None, steps: int | None = None, strict: bool = False) -> list[Outcome]:
        """Applies what is pending, in order, up to version `to` or at most `steps` of them.

        Raises MigrationError (a changed or unfinished migration, a statement that failed; with `strict` also
        one out of order or without its file), LockHeld, LockLost, Unavailable, OutcomeUnknown.
        """
        asked, self._asked = self._asked or _AskedFolder(files.scan(self.directory), has_work=False), None
        scanned = asked.files
        if not asked.has_work:
            standings = self._standings(scanned)
            plan.refuse_unsound(standings, strict=strict, locked=False)
            if not plan.to_apply(standings, to=to, steps=steps) and all(
                migration.state != "failed" for migration in standings
            ):
                self._remark(standings)
                return []
        with self.locked() as runner:
            standings = self._standings(scanned)
            plan.refuse_unsound(standings, strict=strict)
            self._remark(standings)
            pending = plan.to_apply(standings, to=to, steps=steps)
            # All are read before the first is run: a file that cannot be run stops the whole beforehand.
            jobs = [self.job(file, "up") for file in pending]
            return runner.run_all(jobs, self._on_done)

    def to_revert(self, *, steps: int | None = None, to: str | None = None) -> list[MigrationJob]:
        """The jobs of `down`, newest first."""
        standings = self.status()
        unfinished = next((migration for migration in standings if migration.state == "failed"), None)
        if unfinished is not None:
            plan.refuse_unsound([unfinished])
        return [self.job(self._file_of(one), "down") for one in plan.to_revert(standings, to=to, steps=steps)]

    def down(self, *, steps: int | None = None, to: str | None = None) -> list[Outcome]:
        """Reverts the last applied migration, the last `steps`, or all above version `to` (0: all)."""
        with self.locked() as runner:
            return runner.run_all(self.to_revert(steps=steps, to=to), self._on_done)

    def redo(self) -> list[Outcome]:
        """Reverts the last applied migration and applies its file again."""
        with self.locked() as runner:
            jobs = self.to_revert(steps=1)
            if not jobs:
                raise MigrationError("nothing is applied, so there is nothing to redo")
            again = self.job(files.find(files.scan(self.directory), jobs[0].version), "up")
            return runner.run_all([jobs[0], again], self._on_done)

    def pending_job(self, name: str) -> MigrationJob:
        """One pending migration, by file name or version. Raises MigrationError if it is not pending."""
        scanned = files.scan(self.directory)
        file = files.find(scanned, name)
        standing = next(
            migration for migration in self._standings(scanned) if migration.number == file.number
        )
        if standing.state != "pending":
            raise MigrationError(f"migration {file.name} is {standing.state}, not pending; nothing was run")
        return self.job(file, "up")

    def run(self, name: str) -> list[Outcome]:
        """Applies one pending migration, by file name or version, whatever its place."""
        with self.locked() as runner:
            return runner.run_all([self.pending_job(name)], self._on_done)

    def resume(self, *, assume: str | None = None, drop_invalid: bool = False) -> list[Outcome]:
        """Goes on with the migration that stopped in its middle; nothing when there is none.

        Raises OutcomeUnknown, with both states, when it cannot be known what its last statement did, unless
        `assume` says "done" or "undone".
        """
        with self.locked() as runner:
            stopped = [migration for migration in self.status() if migration.state == "failed"]
            outcomes = []
            for one in stopped:
                assert one.entry is not None
                job = self.job(self._file_of(one), one.entry.direction)
                outcomes.append(runner.resume(job, assume=assume, drop_invalid=drop_invalid))
                self._on_done(outcomes[-1])
            return outcomes

    def stopped(self) -> list[Abandoned]:
        """The migrations that `abandon` would give up, and their lasting changes. Changes nothing, takes no lock."""
        with self.session() as session:
            return [
                self._stopped(session, migration)
                for migration in self.status()
                if migration.state == "failed"
            ]

    def _stopped(self, session: MigrationConnection, standing: Standing) -> Abandoned:
        from katax_cli.services.migrate.abandon import Abandoned, lasting

        _refuse_load(standing)
        return Abandoned(standing.name, lasting(self, session, standing), reverted=False)

    def abandon(self, *, run_down: bool = False) -> list[Abandoned]:
        """Makes a migration that stopped in its middle pending again; with `run_down` its DOWN runs before.

        Raises StatementFailed when that DOWN is refused: the migration is then one that stopped in its DOWN.
        """
        with self.locked() as runner:
            given_up = []
            for standing in self.status():
                if standing.state == "failed":
                    given_up.append(self._stopped(runner.session, standing)._replace(reverted=run_down))
                    if run_down:
                        runner.revert_rest(self.job(self._file_of(standing), "down"))
                    else:
                        self.ledger.remove(runner.session, standing.version)
            return given_up

    def to_baseline(self, version: str) -> list[MigrationFile]:
        """The migrations that `baseline` would record; takes no lock. Raises MigrationError if any is applied."""
        standings = self._standings(files.scan(self.directory), adopting=True)
        if any(migration.entry is not None for migration in standings):
            raise MigrationError(
                f"{self.table} has entries already; a baseline is for a database without any"
            )
        return plan.to_apply(standings, to=version)

    def baseline(self, version: str) -> list[MigrationFile]:
        """Says that all migrations up to `version` are applied already; runs none. Raises MigrationError if any is."""
        with self.locked(adopting=True) as runner:
            chosen = self.to_baseline(version)
            with runner.session.transaction():
                for file in chosen:
                    self.record_applied(runner.session, file.version, file.name, file)
            return chosen

    def to_adopt(self) -> list[str]:
        """The versions applied by dbmate and not in the ledger. Raises ConfigError without dbmate's table."""
        self._refuse_dbmate_on_mongodb()
        versions = other_tools.dbmate_versions(self.sql, self.sql)
        known = {entry.number for entry in self.ledger.entries(self.sql) or ()}
        return [version for version in versions if int(version) not in known]

    def adopt_dbmate(self) -> list[str]:
        """Takes over what dbmate has applied; runs nothing. Returns the versions that were new to the ledger."""
        with self.locked(adopting=True) as runner:
            by_number = {file.number: file for file in files.scan(self.directory)}
            new = self.to_adopt()
            with runner.session.transaction():
                for version in new:
                    self.record_applied(runner.session, version, version, by_number.get(int(version)))
            return new

    def for_dbmate(self) -> list[str]:
        """The versions that are applied here, which `tell_dbmate` would write."""
        self._refuse_dbmate_on_mongodb()
        return [
            migration.version
            for migration in self.status()
            if migration.entry is not None and migration.state != "failed"
        ]

    def tell_dbmate(self) -> list[str]:
        """Writes dbmate's own table; runs nothing. Returns the versions that were new to it."""
        with self.locked() as runner:
            versions = self.for_dbmate()
            return other_tools.write_dbmate(self.sql, runner.session, versions)

    def _refuse_dbmate_on_mongodb(self) -> None:
        if self.dialect is None:
            raise ConfigError(f"{self.db.name!r} is mongodb, which dbmate does not migrate")

    def record_applied(
        self, session: MigrationConnection, version: str, name: str, file: MigrationFile | None
    ) -> None:
        """Record a migration as applied that was not run here; without its file only by its name."""
        by, at = self._me(), utc_text(self._clock)
        if file is None:
            self.ledger.adopt(session, version, name, applied_at=at, runner=by)
        else:
            self.ledger.record(session, file, applied_at=at, duration_ms=None, runner=by)

    def changed(self) -> list[tuple[Standing, list[str]]]:
        """Applied migrations whose files differ in a byte, each with the lines of a diff."""
        from katax_cli.services.migrate.files.checksum import difference

        return [
            (migration, difference(migration.file, self.ledger.body(self.sql, migration.version)))
            for migration in self.status()
            if migration.bytes_differ and migration.file is not None
        ]

    def repair(self) -> list[MigrationFile]:
        """Takes the present text of every changed file for what was applied. Runs nothing."""
        with self.locked() as runner:
            changed = [
                migration.file
                for migration in self.status()
                if migration.bytes_differ and migration.file is not None
            ]
            with runner.session.transaction():
                for file in changed:
                    self.ledger.accept(runner.session, file)
            return changed

    def job(self, file: MigrationFile, direction: Direction) -> MigrationJob:
        """A migration ready to be run. Raises MigrationError when it cannot be."""
        from katax_cli.services.migrate.jobs import make_job

        key = (file.name, file.checksum, direction)
        if key not in self._jobs:
            self._jobs[key] = make_job(file, direction, self.dialect)
        return self._jobs[key]

    def _remark(self, standings: Sequence[Standing]) -> None:
        for line in plan.remarks(standings):
            self._on_note(line)

    def _standings(self, scanned: Sequence[MigrationFile], *, adopting: bool = False) -> list[Standing]:
        entries = self.ledger.entries(self.sql)
        if entries is None and not adopting:
            self._refuse_foreign()
        self._last_read = plan.standings(scanned, entries or [], self._same_meaning)
        return self._last_read

    def _same_meaning(self, file: MigrationFile, entry: LedgerEntry) -> bool:
        from katax_cli.services.migrate.files.checksum import same_meaning

        return same_meaning(file.name, self.ledger.body(self.sql, entry.version), file.text, self.dialect)

    def _file_of(self, standing: Standing) -> MigrationFile:
        """The file, or the text that was kept when there is none any more."""
        if standing.file is not None:
            return standing.file
        _refuse_load(standing)
        body = self.ledger.body(self.sql, standing.version)
        if not body:
            raise MigrationError(f"the file of migration {standing.name} is missing; bring it back")
        assert standing.entry is not None
        return MigrationFile(
            standing.version, standing.name, standing.name, body.encode(), standing.entry.checksum
        )

    def _me(self) -> str:
        from katax_cli.services.locks.migration_lock import note

        return note("", self._clock.now())
