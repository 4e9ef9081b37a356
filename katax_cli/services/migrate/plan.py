"""Plans from the folder and the ledger. Pure: reads nothing, changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from katax_cli.errors import (
    ChangedAfterApply,
    ConfigError,
    MigrationError,
    Unfinished,
    UnfinishedLoad,
    unknown_name,
)
from katax_cli.services.migrate.values import LOADING, LedgerEntry, MigrationFile, Standing, State

SameMeaning = Callable[[MigrationFile, LedgerEntry], bool]


def standings(
    files: Sequence[MigrationFile], entries: Sequence[LedgerEntry], same_meaning: SameMeaning
) -> list[Standing]:
    """Every migration that the folder or the ledger knows, by version.

    `same_meaning` is asked only for applied files whose bytes changed.
    """
    recorded = {entry.number: entry for entry in entries}
    standing_list = [_standing_of(file, recorded.pop(file.number, None), same_meaning) for file in files]
    standing_list += [_without_file(entry) for entry in recorded.values()]
    return sorted(standing_list, key=lambda one: one.number)


def _standing_of(file: MigrationFile, entry: LedgerEntry | None, same_meaning: SameMeaning) -> Standing:
    if entry is None:
        return Standing(file.version, file.name, "pending", file)
    differ = bool(entry.checksum) and entry.checksum != file.checksum
    state: State = "applied"
    if entry.state != "applied":
        state = "failed"
    elif differ and not same_meaning(file, entry):
        state = "modified"
    return Standing(file.version, file.name, state, file, entry, differ)


def _without_file(entry: LedgerEntry) -> Standing:
    return Standing(
        entry.version, entry.name, "missing" if entry.state == "applied" else "failed", None, entry
    )


def known_number(standings: Sequence[Standing], version: str) -> int:
    """The number of a given version. Raises ConfigError when no migration has it."""
    if version.isdigit() and any(migration.number == int(version) for migration in standings):
        return int(version)
    raise ConfigError(
        unknown_name("version", version, [migration.version for migration in standings], "versions")
    )


def to_apply(
    standings: Sequence[Standing], *, to: str | None = None, steps: int | None = None
) -> list[MigrationFile]:
    """The migrations that `up` applies, in order: all pending ones, up to a version or a number of them."""
    last = None if to is None else known_number(standings, to)
    pending = [
        migration.file
        for migration in standings
        if migration.state == "pending"
        and migration.file is not None
        and (last is None or migration.number <= last)
    ]
    return pending if steps is None else pending[:steps]


def to_revert(
    standings: Sequence[Standing], *, to: str | None = None, steps: int | None = None
) -> list[Standing]:
    """The migrations that `down` reverts, newest version first: those above a version, or the last `steps` (one)."""
    applied = [one for one in reversed(standings) if one.entry is not None and one.entry.state == "applied"]
    if to is not None:
        last = 0 if to.isdigit() and int(to) == 0 else known_number(standings, to)
        applied = [migration for migration in applied if migration.number > last]
        return applied if steps is None else applied[:steps]
    return applied[: 1 if steps is None else steps]


def out_of_order(standings: Sequence[Standing]) -> list[MigrationFile]:
    """Pending files below the highest version that is applied: merged later than they were numbered."""
    highest = max((migration.number for migration in standings if migration.entry is not None), default=-1)
    return [file for file in to_apply(standings) if file.number < highest]


def refuse_unsound(standings: Sequence[Standing], *, strict: bool = False, locked: bool = True) -> None:
    """Raises MigrationError for the first reason why nothing may be applied.

    Unfinished and modified migrations always; with `strict` also missing files and pending ones out of order.
    Only the lock's holder can distinguish a killed migration from one that another runner is at.
    """
    for one in standings:
        if one.entry is not None and (one.entry.state == "failed" or (locked and one.state == "failed")):
            if one.entry.runner == LOADING:
                raise UnfinishedLoad(one.name)
            raise Unfinished(one.name, done=one.entry.done, why=one.entry.error)
        if one.state == "modified":
            raise ChangedAfterApply(one.name)
    if not strict:
        return
    for one in standings:
        if one.state == "missing":
            raise MigrationError(f"migration {one.name} is applied but its file is missing; bring it back")
    late = out_of_order(standings)
    if late:
        names = ", ".join(file.name for file in late)
        raise MigrationError(f"out of order: {names}; give them later versions, or go on without --strict")


def remarks(standings: Sequence[Standing]) -> list[str]:
    """Remarks for a person before going on, one line each."""
    lines = [f"out of order: {file.name} is older than what is applied" for file in out_of_order(standings)]
    for migration in standings:
        if migration.state == "missing":
            lines.append(f"the file of applied migration {migration.name} is missing")
        elif migration.bytes_differ and migration.state == "applied":
            lines.append(
                f"migration {migration.name} changed after it was applied, "
                "but only in comments, layout or its DOWN section"
            )
    return lines
