"""The order that the way of an engine gets, and its answer: the common part of all backups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from katax_cli.engines.dumps import Inventory
from katax_cli.errors import BackupError
from katax_cli.services.backup.manifest import DumpFile, Omission
from katax_cli.services.backup.silence import ServerSilence
from katax_cli.services.backup.streams import CompressedFile, pieces
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.calls.guard import Safety

T = TypeVar("T")
_NAMED = 10


@dataclass(frozen=True, slots=True)
class Order:
    """One backup to be made: of which database, into which folder, and how.

    `tools` is the folder of the server's tools (None: PATH), `told` is called with the number of bytes written.
    """

    database: Any
    folder: Path
    work: StoppableWork
    jobs: int
    allow_missing: bool
    tools: str | None = None
    told: Callable[[int], object] = lambda _: None
    silence: ServerSilence = field(init=False)

    def __post_init__(self) -> None:
        silence = ServerSilence(self.name, self.work, after="nothing is left of the backup")
        object.__setattr__(self, "silence", silence)
        object.__setattr__(self, "told", silence.telling(self.told))

    @property
    def name(self) -> str:
        return str(self.database.name)

    def ask(self, question: Callable[[Any], T]) -> T:
        """The answer of the server, by a connection of the database's own."""
        answer: T = self.database.ask(
            lambda connection, _: question(connection), safety=Safety.READ, doing="the backup"
        )
        return answer

    def keep(
        self, output: IO[bytes], file: CompressedFile, count: Callable[[bytes], object] = lambda _: None
    ) -> None:
        """Compresses a stream into a file; `count` gets each piece of it, too."""
        for data in pieces(output):
            self.work.check()
            count(data)
            file.write(data)
            self.told(file.size_bytes)

    def omissions(self, inventory: Inventory) -> tuple[Omission, ...]:
        """The parts that are left out. Raises BackupError unless that is allowed and possible."""
        unreadable, required = {**inventory.unreadable, **inventory.hidden}, inventory.required
        if required or (unreadable and not self.allow_missing):
            named = [f"{what}: {why}" for what, why in {**required, **unreadable}.items()]
            more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
            way_out = "" if required else "; or leave it out with --allow-missing"
            raise BackupError(
                f"{self.name!r} cannot be backed up whole: {'; '.join(named[:_NAMED])}{more}{way_out}"
            )
        return tuple(Omission(what, why) for what, why in unreadable.items())


@dataclass(frozen=True, slots=True)
class ProvenDump:
    """A dump proven by its end marks, and what the server said of itself."""

    inventory: Inventory
    tool: str
    files: tuple[DumpFile, ...]
    rows: Mapping[str, int]
    objects: Mapping[str, int] = field(default_factory=dict)
    schema_hash: str | None = None
    left_out: tuple[Omission, ...] = ()
