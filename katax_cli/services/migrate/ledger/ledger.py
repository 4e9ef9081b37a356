"""The table that says what was applied: one row for each migration, with the text that was applied."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps, loads
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from katax_cli.core.sql import quote_identifier
from katax_cli.engines.migrations import MigrationFacts
from katax_cli.errors import ConfigError, QueryError, RolledBack
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.statements import Queries
from katax_cli.services.migrate.ledger.packing import WHOLE, packed, parts, unpacked
from katax_cli.services.migrate.values import Direction, LedgerEntry, MigrationFile, Recorded

if TYPE_CHECKING:
    from katax_cli.services.locks.runner_identity import RunnerIdentity

_ENTRY = "version, name, state, direction, checksum, applied_at, duration_ms, done, runner, error"
_PARTS = "katax:parts "
"""Begins the text of a migration that is kept in rows of its own, in state `text`: how many, and their version."""
Recording = tuple[str, list[object]]


class Checkpoint(NamedTuple):
    """The progress of a migration without a transaction.

    `digest` covers the finished units. An open intent has the unit under way (`sql`, or a step's name) with
    its line, and the definitions of what it touches as they were before it.
    """

    digest: str = ""
    unit: str | None = None
    line: int = 0
    before: Mapping[str, str] = MappingProxyType({})
    steps: tuple[str, ...] = ()


class SqlLedger:
    """Reads and writes the ledger through whatever runs queries: the database, or the runner's session."""

    def __init__(self, database: SqlDatabase, table: str, facts: MigrationFacts) -> None:
        self._database = database
        self.name = table
        self._facts = facts
        self._dialect = database.engine.dialect
        self.table = self._quoted(*table.split("."))
        self.home: str | None = None

    def _quoted(self, *parts: str) -> str:
        return ".".join(quote_identifier(part, self._dialect) for part in parts)

    def settle(self, on: Queries) -> None:
        """Speaks from now on of the table in its schema: a file may set another search path or database.

        Raises ConfigError where a table has no schema to be in.
        """
        if not self._facts.home or self.home is not None:
            return
        name = self.name.rpartition(".")[2]
        home = on.run(self._facts.home, [name]).rows[0][0]
        if home is None and "." not in self.name:
            raise ConfigError(
                f"{self._database.name!r} has no schema on its search path; "
                f'set [migrate] table = "SCHEMA.{name}" or the search path of the connection'
            )
        if home is not None:
            self._move(str(home))

    def _move(self, home: str) -> None:
        self.home = home
        if "." not in self.name:
            self.table = self._quoted(home, self.name)

    def _found_elsewhere(self, on: Queries) -> bool:
        """True when a migration gave its database a search path without the ledger's schema."""
        if not self._facts.elsewhere or "." in self.name or self.home is not None:
            return False
        homes = on.run(self._facts.elsewhere, [self.name]).rows
        if len(homes) == 1:
            self._move(str(homes[0][0]))
        return len(homes) == 1

    def entries(self, on: Queries) -> list[LedgerEntry] | None:
        """All rows; None when there is no such table.

        Raises ConfigError when there is none but dbmate's, so that nothing of it is run again.
        """
        try:
            return self._entries(on)
        except RolledBack:
            raise
        except QueryError:
            if not self._found_elsewhere(on) and self._database.describe(self.name) is None:
                return None
        # Another runner committed it between the two; any other error is the same again.
        return self._entries(on)

    def _entries(self, on: Queries) -> list[LedgerEntry]:
        sql = f"SELECT {_ENTRY} FROM {self.table} WHERE state NOT IN ('runner', 'text')"
        return [LedgerEntry(*row) for row in on.run(sql).rows]

    def runner(self, on: Queries) -> RunnerIdentity | None:
        """The present holder of the lock, or the one that died with it; None without either."""
        from katax_cli.services.locks.runner_identity import RunnerIdentity

        rows = on.run(f"SELECT error FROM {self.table} WHERE state = 'runner'").rows
        return RunnerIdentity(**loads(rows[0][0])) if rows else None

    def register(self, on: Queries, runner: RunnerIdentity) -> None:
        """Records the holder of the lock."""
        on.run(f"DELETE FROM {self.table} WHERE state = 'runner'")
        on.run(
            f"INSERT INTO {self.table} ({_ENTRY}, body) "
            "VALUES ('runner', ?, 'runner', '', '', NULL, NULL, 0, ?, ?, '')",
            [runner.id, runner.host[:255], dumps(runner._asdict())],
        )

    def unregister(self, on: Queries, runner: RunnerIdentity) -> None:
        on.run(f"DELETE FROM {self.table} WHERE state = 'runner' AND name = ?", [runner.id])

    def body(self, on: Queries, version: str) -> str:
        """The text of a migration as it was applied; empty when it was adopted without its file."""
        rows = on.run(f"SELECT body FROM {self.table} WHERE version = ?", [version]).rows
        body = str(rows[0][0]) if rows else ""
        if not body.startswith(_PARTS):
            return body
        count, prefix = body.removeprefix(_PARTS).split(" ")
        select = f"SELECT body FROM {self.table} WHERE version = ?"
        pieces = [on.run(select, [f"{prefix}{number}"]).rows for number in range(int(count))]
        return unpacked("".join(str(row[0]) for rows in pieces for row in rows))

    def create(self, on: Queries) -> None:
        """Makes the table unless it is there."""
        text = self._facts.long_text
        on.run(
            f"CREATE TABLE IF NOT EXISTS {self.table} ("
            "version VARCHAR(128) NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL, state VARCHAR(16) NOT NULL, "
            "direction VARCHAR(8) NOT NULL, checksum VARCHAR(64) NOT NULL, applied_at VARCHAR(40), "
            "duration_ms BIGINT, done BIGINT NOT NULL, runner VARCHAR(255) NOT NULL, "
            f"error {text}, body {text} NOT NULL, checkpoint {text})"
        )

    def record(
        self, on: Queries, file: MigrationFile, *, applied_at: str, duration_ms: int | None, runner: str
    ) -> None:
        """Says that a migration is applied; in the transaction of its statements where there is one."""
        for sql, values in self.recording(
            file, applied_at=applied_at, duration_ms=duration_ms, runner=runner
        ):
            on.run(sql, values)

    def recording(
        self, file: MigrationFile, *, applied_at: str, duration_ms: int | None, runner: str
    ) -> list[Recording]:
        """The statements that say so, and their values."""
        return self._inserting(file, "applied", applied_at, duration_ms, runner)

    def removing(self, version: str) -> Recording:
        """The statement that forgets a migration with its text, and its values."""
        return f"DELETE FROM {self.table} WHERE version = ? OR version LIKE ?", [version, f"{version}.%"]

    def _body(self, file: MigrationFile) -> tuple[str, list[Recording]]:
        """The text in the row of a migration, and the statements that keep a long one in rows of its own."""
        text = file.data.decode()
        if len(text) <= WHOLE:
            return text, []
        pieces, prefix = parts(text), f"{file.version}.{file.checksum[:16]}."
        insert = f"INSERT INTO {self.table} ({_ENTRY}, body) VALUES (?, ?, 'text', '', '', NULL, NULL, 0, '', NULL, ?)"
        statements: list[Recording] = [(f"DELETE FROM {self.table} WHERE version LIKE ?", [f"{prefix}%"])]
        statements += [
            (insert, [f"{prefix}{number}", file.name, piece]) for number, piece in enumerate(pieces)
        ]
        return f"{_PARTS}{len(pieces)} {prefix}", statements

    def _kept(self, on: Queries, file: MigrationFile) -> str:
        body, statements = self._body(file)
        for sql, values in statements:
            on.run(sql, values)
        return body

    def _inserting(
        self,
        file: MigrationFile,
        state: Recorded,
        applied_at: str | None,
        duration_ms: int | None,
        runner: str,
    ) -> list[Recording]:
        body, statements = self._body(file)
        known = [
            file.version,
            file.name,
            state,
            "up",
            file.checksum,
            applied_at,
            duration_ms,
            0,
            runner,
            None,
        ]
        insert = f"INSERT INTO {self.table} ({_ENTRY}, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        return [*statements, (insert, [*known, body])]

    def adopt(self, on: Queries, version: str, name: str, *, applied_at: str, runner: str) -> None:
        """Records a migration as applied whose file is missing."""
        on.run(
            f"INSERT INTO {self.table} ({_ENTRY}, body) VALUES (?, ?, 'applied', 'up', '', ?, NULL, 0, ?, NULL, '')",
            [version, name, applied_at, runner],
        )

    def remove(self, on: Queries, version: str) -> None:
        on.run(*self.removing(version))

    def begin(self, on: Queries, file: MigrationFile, direction: Direction, runner: str) -> None:
        """Says that a migration runs that no transaction protects."""
        if direction == "up":
            for sql, values in self._inserting(file, "running", None, None, runner):
                on.run(sql, values)
        else:
            on.run(
                f"UPDATE {self.table} SET state = 'running', direction = 'down', done = 0, runner = ?, "
                "error = NULL, checkpoint = NULL WHERE version = ?",
                [runner, file.version],
            )

    def reopen(self, on: Queries, file: MigrationFile, runner: str) -> None:
        """The same, for one that is resumed with the text that it has now."""
        body = self._kept(on, file)
        on.run(
            f"UPDATE {self.table} SET state = 'running', runner = ?, error = NULL, checksum = ?, body = ? "
            "WHERE version = ?",
            [runner, file.checksum, body, file.version],
        )

    def keep(self, on: Queries, version: str, done: int, checkpoint: Checkpoint) -> None:
        """Writes down how far a migration came, before or with its next unit."""
        on.run(
            f"UPDATE {self.table} SET done = ?, checkpoint = ? WHERE version = ?",
            [done, packed(dumps(checkpoint._asdict() | {"before": dict(checkpoint.before)})), version],
        )

    def checkpoint(self, on: Queries, version: str) -> Checkpoint:
        rows = on.run(f"SELECT checkpoint FROM {self.table} WHERE version = ?", [version]).rows
        facts = loads(unpacked(rows[0][0])) if rows and rows[0][0] else {}
        return Checkpoint(**{**facts, "steps": tuple(facts.get("steps", ()))})

    def fail(self, on: Queries, version: str, error: str) -> None:
        on.run(
            f"UPDATE {self.table} SET state = 'failed', error = ? WHERE version = ?",
            [error, version],
        )

    def finish(self, on: Queries, file: MigrationFile, *, applied_at: str, duration_ms: int) -> None:
        """Says that a migration that ran without a transaction is applied, with the text that it began with."""
        on.run(
            f"UPDATE {self.table} SET state = 'applied', direction = 'up', applied_at = ?, duration_ms = ?, "
            "done = 0, error = NULL, checkpoint = NULL WHERE version = ?",
            [applied_at, duration_ms, file.version],
        )

    def restore(self, on: Queries, version: str) -> None:
        """Takes back the beginning of a `down` that changed nothing."""
        on.run(
            f"UPDATE {self.table} SET state = 'applied', direction = 'up', done = 0, error = NULL, "
            "checkpoint = NULL WHERE version = ?",
            [version],
        )

    def accept(self, on: Queries, file: MigrationFile) -> None:
        """Takes a file's present text for the one that was applied."""
        body = self._kept(on, file)
        on.run(
            f"UPDATE {self.table} SET name = ?, checksum = ?, body = ? WHERE version = ?",
            [file.name, file.checksum, body, file.version],
        )
