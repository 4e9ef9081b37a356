"""Seeds as frozen values: files, ledger entries, where each seed stands, what a run did."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from katax_cli.core.clock import Clock
from katax_cli.errors import SeedError

State = Literal["applied", "pending", "changed", "missing"]
Done = Literal["applied", "unchanged", "would_apply"]
UNDONE = "nothing of it was applied"
SEEDS_TABLE = "katax_seeds"
_PIECE = 2**16
_ORDER = re.compile(r"\d+[_-]+")


@dataclass(frozen=True, slots=True)
class SeedFile:
    """A file as it was read; `checksum` is the SHA-256 of its bytes."""

    name: str
    path: str
    data: bytes
    checksum: str

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def kind(self) -> str:
        """`sql`, `py`, `json` or `csv`."""
        return self.name.rpartition(".")[2]

    @property
    def table(self) -> str:
        """The table that a `.json` or `.csv` is for: its name, without a number that only gives the order."""
        return _ORDER.sub("", self.stem, count=1) or self.stem

    @property
    def text(self) -> str:
        """Raises SeedError when it is not UTF-8."""
        try:
            return self.data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SeedError(
                f"seed {self.name} is not UTF-8 at byte {error.start}; save it as UTF-8"
            ) from error


@dataclass(frozen=True, slots=True)
class AppliedSeed:
    """The ledger's entry of a seed; `applied_at` is RFC 3339."""

    name: str
    checksum: str
    applied_at: str
    duration_ms: float


@dataclass(frozen=True, slots=True)
class SeedStanding:
    """The state of a seed; `missing`: it was applied and its file is gone."""

    name: str
    state: State
    applied_at: str | None = None
    duration_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows that were new, rows that said something else before, and all that changed; None: not known."""

    inserted: int | None = None
    updated: int | None = None
    affected: int | None = None


@dataclass(frozen=True, slots=True)
class SeedOutcome:
    """The outcome of one seed; `would_apply` is the answer of a dry run."""

    name: str
    state: Done
    counts: Counts
    duration_ms: float


def finished(file: SeedFile, state: Done, counts: Counts, began: float, clock: Clock) -> SeedOutcome:
    """`began` is a reading of the clock's `monotonic()`."""
    return SeedOutcome(file.name, state, counts, round((clock.monotonic() - began) * 1000, 3))


@dataclass(frozen=True, slots=True)
class PlainCsv:
    """The lines below the header of a `.csv` that PostgreSQL and Python's reader understand alike."""

    columns: tuple[str, ...]
    lines: memoryview = field(repr=False)
    rows: int
    has_quotes: bool

    @property
    def pieces(self) -> Iterator[bytes]:
        """The bytes of the lines, for COPY."""
        return (bytes(self.lines[start : start + _PIECE]) for start in range(0, len(self.lines), _PIECE))


@dataclass(frozen=True, slots=True)
class SeedRows:
    """The rows of a data file. Without a `key` the primary key of the table is the natural one."""

    table: str
    key: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]
    lines: Sequence[int] = ()
    """Where each row of a `.csv` ends in its file."""
    csv: PlainCsv | None = None
    """The rows of a `.csv` that COPY reads as it stands."""
    columns: Sequence[str] = ()
    """Those that the first line of a `.csv` names."""

    def place(self, number: int) -> str:
        """The place of a row, by its number from 1 on."""
        return f"line {self.lines[number - 1]}" if self.lines else f"row {number}"


class SeedWork(Protocol):
    """A seed that was read, ready to be run on whatever its store hands it."""

    def __call__(self, on: Any) -> Counts: ...


class Store(Protocol):
    """The target of seeds: applies them and records that it did. Raises KataxError."""

    def entries(self) -> Mapping[str, AppliedSeed]:
        """The ledger by name; empty when there is none yet. Changes nothing."""
        ...

    def work(self, file: SeedFile) -> SeedWork:
        """Reads a seed. Raises SeedError for one that cannot be run here; runs nothing of it but a module."""
        ...

    def destructive(self, work: SeedWork) -> list[str]:
        """The reasons why it would lose data that it does not name, one each."""
        ...

    def apply(self, file: SeedFile, work: SeedWork, *, again: bool) -> SeedOutcome:
        """Runs it and writes the ledger; `unchanged` when another runner did so meanwhile, unless `again`."""
        ...

    def rehearse(self, wanted: Sequence[tuple[SeedFile, SeedWork]]) -> list[SeedOutcome]:
        """Says what `apply` of them in this order would do, and changes nothing."""
        ...
