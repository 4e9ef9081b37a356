"""The common part of imports of rows and of documents: their plan, how far they came, and what they refuse."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Generic, Protocol, TypeVar

from katax_cli.errors import KataxError, Refused
from katax_cli.services.databases.database import Database
from katax_cli.services.transfer.checkpoint import ImportCheckpoint
from katax_cli.services.transfer.formats.readers import Reject
from katax_cli.services.transfer.formats.sources import RowFile
from katax_cli.services.transfer.rejects import Rejects

D = TypeVar("D", bound=Database)


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """The task of an import. `key`: rows that are there are changed; `create`: the table is made; `replace`: its rows
    are deleted first; `again`: also a file that was imported before; `max_errors`: rows that may be refused."""

    table: str
    key: tuple[str, ...] = ()
    create: bool = False
    replace: bool = False
    again: bool = False
    max_errors: int = 0
    rejects: str | None = None


@dataclass(frozen=True, slots=True)
class LoadedRows:
    """Rows that are in, rows that were refused, and how many of both an earlier run had dealt with; `finished_at`: it
    had dealt with all, and nothing was done."""

    table: str
    imported: int
    rejected: int
    earlier: int = 0
    finished_at: str | None = None
    written: int = 0
    """Rows that this run wrote."""


class KnowsOtherFiles(Protocol):
    """The checkpoints of an import, as far as they tell of other files."""

    def unfinished(self) -> ImportCheckpoint | None:
        """How far another file came that went into the target in part; None when there is none."""
        ...


@dataclass(slots=True)
class ImportRun(ABC, Generic[D]):
    """One import. `progress` hears how many rows were dealt with; `note` what is made for it."""

    database: D
    source: RowFile
    plan: ImportPlan
    progress: Callable[[int], object] = lambda _: None
    note: Callable[[str], object] = lambda _: None
    now: ImportCheckpoint = field(default_factory=ImportCheckpoint)

    imported_things: ClassVar[str] = "rows"
    refused_things: ClassVar[str] = "rows"

    def done_before(self, found: ImportCheckpoint | None) -> LoadedRows | None:
        """The outcome of the run that dealt with all of the file, unless it is to be imported again."""
        if found is None or found.state != "done" or self.plan.again or self.plan.replace:
            return None
        return LoadedRows(self.plan.table, found.imported, found.rejected, finished_at=found.updated_at)

    def goes_on(self, found: ImportCheckpoint | None, checkpoints: KnowsOtherFiles, options: str) -> bool:
        """True when it takes up the run that stopped at `found`. Raises Refused when that had other options, and for a
        target into which another file went in part."""
        plan = self.plan
        if found is not None and found.state == "running" and not plan.again:
            if found.options == options:
                if found.position <= 0:
                    self.refuse_another(checkpoints)
                self.now = found
                return True
            if found.position > 0 and not plan.replace:
                raise Refused(
                    f"the import of this file into {plan.table!r} was begun with other options "
                    f"({found.options}); repeat those, or start anew with --replace"
                )
        self.refuse_another(checkpoints)
        return False

    def refuse_another(self, checkpoints: KnowsOtherFiles) -> None:
        """Raises Refused for a target into which another file went in part, unless that may stay or goes."""
        if self.plan.again or self.plan.replace:
            return
        other = checkpoints.unfinished()
        if other is not None:
            things = self.imported_things
            raise Refused(
                f"another file went into {self.plan.table!r} up to its line {other.line - 1}, "
                f"{other.imported} {things}; finish it, or leave its {things} there with --again"
            )

    def outcome(self, began: ImportCheckpoint) -> LoadedRows:
        """The outcome of a run that took the import up where it `began`."""
        now = self.now
        earlier, written = began.imported + began.rejected, now.imported - began.imported
        return LoadedRows(self.plan.table, now.imported, now.rejected, earlier, written=written)

    def after(self, end: int, next_line: int, written: int, rejects: Rejects) -> ImportCheckpoint:
        """The checkpoint behind a batch that ends there, of which so many were written."""
        return replace(
            self.now,
            position=end,
            line=next_line,
            imported=self.now.imported + written,
            rejected=rejects.count,
            reject_bytes=rejects.kept(),
        )

    def refusing(self, rejects: Rejects) -> Reject:
        """Keeps what is refused. Raises KataxError when that is more than the plan allows."""

        def refuse(line: int, reason: str, text: str) -> None:
            rejects.add(line, reason, text)
            most = self.plan.max_errors
            if rejects.count <= most:
                return
            where = f"{self.source.name}, line {line}: {reason}"
            if most:
                refused = f"{rejects.count} {self.refused_things} were refused"
                where = f"{refused}, more than --max-errors {most}; the last: {where}"
            raise KataxError(f"{where}; {self.what_is_in(rejects.count)}")

        return refuse

    @abstractmethod
    def what_is_in(self, refused: int) -> str:
        """A sentence about what is in when `refused` ended the import, and how to go on."""
