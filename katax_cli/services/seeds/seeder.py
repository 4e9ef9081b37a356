"""Seeds of one database: what the commands and other programs call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.engine_names import TABLE_ENGINES
from katax_cli.errors import WrongEngine
from katax_cli.services.databases.database import Database
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.seeds import files
from katax_cli.services.seeds.values import (
    SEEDS_TABLE,
    AppliedSeed,
    Counts,
    SeedFile,
    SeedOutcome,
    SeedStanding,
    SeedWork,
    State,
    Store,
)

if TYPE_CHECKING:
    from katax_cli.services.databases.mongodb import MongoDatabase


class Seeder:
    """Applies the seeds of `directory` to `db`; the table `katax_seeds` remembers each by its checksum.

    A seed that did not change is not run twice. Each file is one transaction with its line of the ledger, so it
    is applied as a whole or not at all (MongoDB: upserts that may be repeated). `default` is the seed that `run`
    takes without a name, if there is one called so. `on_done(outcome)` hears each seed after its commit.
    """

    def __init__(
        self,
        db: Database,
        directory: str = "seeds",
        *,
        default: str | None = None,
        on_done: Callable[[SeedOutcome], None] = lambda _: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.db = db
        self.directory = directory
        self._default = default
        self._on_done = on_done
        self._store = _store(db, clock)

    def run(
        self, name: str | None = None, *, dry_run: bool = False, again: bool = False
    ) -> list[SeedOutcome]:
        """Applies the seed of this name (with or without its ending), or all in the order of their names.

        All files are read before the first is run. `dry_run` counts what would change and changes nothing
        (`on_done` hears nothing); `again` also runs what did not change. Raises SeedError, ConfigError,
        Refused on a read-only connection, Unavailable, OutcomeUnknown.
        """
        self.db.settings.refuse_read_only()
        wanted = [(file, self._store.work(file)) for file in self._read(name)]
        known = self._store.entries()
        due = {file.name for file, _ in wanted if again or not _is_applied(file, known)}
        if dry_run:
            tried = self._store.rehearse([pair for pair in wanted if pair[0].name in due])
            found = {one.name: one for one in tried}
            return [found.get(file.name) or _unchanged(file) for file, _ in wanted]
        return [self._run(file, work, again=again, due=file.name in due) for file, work in wanted]

    def _run(self, file: SeedFile, work: SeedWork, *, again: bool, due: bool) -> SeedOutcome:
        outcome = self._store.apply(file, work, again=again) if due else _unchanged(file)
        self._on_done(outcome)
        return outcome

    def chosen(self, name: str | None = None) -> list[str]:
        """The names of the files that `run` would take."""
        return files.choose(files.listed(self.directory), name, default=self._default)

    def _read(self, name: str | None, ending: str = "") -> list[SeedFile]:
        return [files.read(self.directory, one) for one in self.chosen(name) if one.endswith(ending)]

    def check(self, name: str | None = None) -> None:
        """Reads what `run` would run. Raises what `run` would raise before it runs the first."""
        for file in self._read(name):
            self._store.work(file)

    def destructive(self, name: str | None = None, *, again: bool = False) -> list[str]:
        """The reasons why the pending `.sql` seeds lose data that they do not name, one each."""
        found = {file: self._store.work(file) for file in self._read(name, ".sql")}
        reasons = {file: why for file, work in found.items() if (why := self._store.destructive(work))}
        if not reasons:
            return []
        known = {} if again else self._store.entries()
        due = [why for file, whys in reasons.items() if not _is_applied(file, known) for why in whys]
        return list(dict.fromkeys(due))

    def status(self) -> list[SeedStanding]:
        """The state of every seed, by name. Changes nothing."""
        found = {file.name: file for file in files.scan(self.directory)}
        known = self._store.entries()
        return [_standing(name, found.get(name), known.get(name)) for name in sorted({*found, *known})]

    def create(self, name: str) -> str:
        """Writes a commented starter, `.sql` unless the name has another ending, and returns its path."""
        return files.create(self.directory, name)


def _store(db: Database, clock: Clock) -> Store:
    if isinstance(db, SqlDatabase):
        from katax_cli.services.seeds.sql import SqlSeeds

        return SqlSeeds(db, SEEDS_TABLE, clock)
    if db.settings.type == "mongodb":
        from katax_cli.services.seeds.mongodb import MongoSeeds

        return MongoSeeds(cast("MongoDatabase", db), SEEDS_TABLE, clock)
    raise WrongEngine(db.settings.type, "seeds", wanted_by="seed run", works_on=TABLE_ENGINES)


def _unchanged(file: SeedFile) -> SeedOutcome:
    return SeedOutcome(file.name, "unchanged", Counts(), 0.0)


def _is_applied(file: SeedFile, known: Mapping[str, AppliedSeed]) -> bool:
    return file.name in known and known[file.name].checksum == file.checksum


def _standing(name: str, file: SeedFile | None, entry: AppliedSeed | None) -> SeedStanding:
    if entry is None:
        return SeedStanding(name, "pending")
    return SeedStanding(name, _state(file, entry), entry.applied_at, entry.duration_ms)


def _state(file: SeedFile | None, entry: AppliedSeed) -> State:
    if file is None:
        return "missing"
    return "applied" if file.checksum == entry.checksum else "changed"
