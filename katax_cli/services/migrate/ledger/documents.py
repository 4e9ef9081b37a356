"""Migrations on MongoDB: the ledger as a collection, and what `up(db)` is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self, TypeVar

from katax_cli.core.resilience.deadline import NEVER
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.locks.runner_identity import RunnerIdentity
from katax_cli.services.migrate.files.python import Steps
from katax_cli.services.migrate.ledger.ledger import Checkpoint
from katax_cli.services.migrate.ledger.packing import packed, unpacked
from katax_cli.services.migrate.values import Direction, LedgerEntry, MigrationFile, Recorded

T = TypeVar("T")
_ALL = 1_000_000
_FIELDS = LedgerEntry._fields


class MongoMigrationDb:
    """The argument of `up(db)` and `down(db)`: pymongo's Database, with `step` and `command(spec)`."""

    def __init__(self, session: MongoMigrationConnection, steps: Steps) -> None:
        self._session = session
        self._steps = steps
        self.client = session.connection
        self._database = self.client[session.database.settings.database]

    def step(self, name: str) -> bool:
        """`if db.step("backfill"): …` runs its block once, also when the migration is resumed."""
        return self._steps.begin(name)

    def command(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """Runs one database command."""
        return self._session.database.command(spec)

    def __getitem__(self, name: str) -> Any:
        return self._database[name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


class MongoMigrationConnection:
    """The client for the length of a run. MongoDB's migrations have no statements, so it runs none."""

    dialect = None
    in_transaction = False
    is_broken = False

    def __init__(self, database: MongoDatabase) -> None:
        self.database = database
        self.name = database.name
        self.deadline = database.callers_deadline()

    def __enter__(self) -> Self:
        self.connection = self.database.get_client()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.release(self.connection)

    def ask(self, ability: Callable[..., T], *args: Any) -> T:
        """The answer of an engine's ability."""
        self.deadline.check(self.name, "migration")
        with self.translating(Safety.READ):
            return ability(self.connection, *args)

    @contextmanager
    def translating(self, safety: Safety) -> Iterator[None]:
        """Gives the driver's errors their meaning."""
        with self.database.guard.translating(deadline=NEVER, safety=safety, doing="migration"):
            yield

    def handle(self, steps: Steps) -> MongoMigrationDb:
        return MongoMigrationDb(self, steps)

    def transaction(self) -> nullcontext[None]:
        """There is none: every record is written by itself."""
        return nullcontext()

    @contextmanager
    def overtime(self) -> Iterator[None]:
        """Time to leave things in order when the caller's is used up."""
        deadline, self.deadline = self.deadline, NEVER
        try:
            yield
        finally:
            self.deadline = deadline

    def undo(self) -> None:
        """Does nothing: no transaction is open."""


class DocumentLedger:
    """The ledger as a collection; every call is one command, so `on` is not needed."""

    def __init__(self, database: MongoDatabase, name: str) -> None:
        self._database = database
        self.name = name

    def entries(self, on: object) -> list[LedgerEntry]:
        """All documents without the texts."""
        documents = self._find({"state": {"$ne": "runner"}}, dict.fromkeys(_FIELDS, 1))
        return [LedgerEntry(**{name: document[name] for name in _FIELDS}) for document in documents]

    def settle(self, on: object) -> None:
        """A collection is always that of the connection's database."""

    def _find(self, query: Mapping[str, Any], projection: Mapping[str, int]) -> list[Mapping[str, Any]]:
        spec = {
            "find": self.name,
            "filter": query,
            "projection": {"_id": 0, **projection},
            "batchSize": _ALL,
            "singleBatch": True,
        }
        reply = self._database.command(spec, safety=Safety.READ)
        return list(reply["cursor"]["firstBatch"])

    def _set(self, version: str, **values: object) -> None:
        change = {"q": {"_id": version}, "u": {"$set": values}}
        self._database.command({"update": self.name, "updates": [change]})

    def _insert(self, entry: LedgerEntry, body: str) -> None:
        document = {"_id": entry.version, **entry._asdict(), "body": packed(body), "checkpoint": None}
        self._database.command({"insert": self.name, "documents": [document]})

    def runner(self, on: object) -> RunnerIdentity | None:
        documents = self._find({"_id": "runner"}, {"identity": 1})
        return RunnerIdentity(**documents[0]["identity"]) if documents else None

    def register(self, on: object, runner: RunnerIdentity) -> None:
        """Records the holder of the lease."""
        change = {"state": "runner", "identity": runner._asdict()}
        update = {"q": {"_id": "runner"}, "u": {"$set": change}, "upsert": True}
        self._database.command({"update": self.name, "updates": [update]})

    def unregister(self, on: object, runner: RunnerIdentity) -> None:
        mine = {"_id": "runner", "identity.id": runner.id}
        self._database.command({"delete": self.name, "deletes": [{"q": mine, "limit": 1}]})

    def create(self, on: object) -> None:
        """The first document makes the collection."""

    def body(self, on: object, version: str) -> str:
        documents = self._find({"_id": version}, {"body": 1})
        return unpacked(str(documents[0]["body"])) if documents else ""

    def record(
        self, on: object, file: MigrationFile, *, applied_at: str, duration_ms: int | None, runner: str
    ) -> None:
        self._insert(_entry(file, "applied", applied_at, duration_ms, runner), file.data.decode())

    def adopt(self, on: object, version: str, name: str, *, applied_at: str, runner: str) -> None:
        self._insert(LedgerEntry(version, name, "applied", "up", "", applied_at, None, runner=runner), "")

    def remove(self, on: object, version: str) -> None:
        self._database.command({"delete": self.name, "deletes": [{"q": {"_id": version}, "limit": 1}]})

    def begin(self, on: object, file: MigrationFile, direction: Direction, runner: str) -> None:
        if direction == "up":
            self._insert(_entry(file, "running", None, None, runner), file.data.decode())
        else:
            self._set(
                file.version,
                state="running",
                direction="down",
                done=0,
                runner=runner,
                error=None,
                checkpoint=None,
            )

    def reopen(self, on: object, file: MigrationFile, runner: str) -> None:
        self._set(
            file.version,
            state="running",
            runner=runner,
            error=None,
            checksum=file.checksum,
            body=packed(file.data.decode()),
        )

    def keep(self, on: object, version: str, done: int, checkpoint: Checkpoint) -> None:
        facts = {**checkpoint._asdict(), "before": dict(checkpoint.before), "steps": list(checkpoint.steps)}
        self._set(version, done=done, checkpoint=facts)

    def checkpoint(self, on: object, version: str) -> Checkpoint:
        documents = self._find({"_id": version}, {"checkpoint": 1})
        facts = (documents[0].get("checkpoint") if documents else None) or {}
        return Checkpoint(**{**facts, "steps": tuple(facts.get("steps", ()))})

    def fail(self, on: object, version: str, error: str) -> None:
        self._set(version, state="failed", error=error)

    def finish(self, on: object, file: MigrationFile, *, applied_at: str, duration_ms: int) -> None:
        self._set(
            file.version,
            state="applied",
            direction="up",
            applied_at=applied_at,
            duration_ms=duration_ms,
            done=0,
            error=None,
            checkpoint=None,
            checksum=file.checksum,
            body=packed(file.data.decode()),
        )

    def restore(self, on: object, version: str) -> None:
        self._set(version, state="applied", direction="up", done=0, error=None, checkpoint=None)

    def accept(self, on: object, file: MigrationFile) -> None:
        self._set(file.version, name=file.name, checksum=file.checksum, body=packed(file.data.decode()))


def _entry(
    file: MigrationFile, state: Recorded, applied_at: str | None, duration_ms: int | None, runner: str
) -> LedgerEntry:
    return LedgerEntry(
        file.version, file.name, state, "up", file.checksum, applied_at, duration_ms, runner=runner
    )
