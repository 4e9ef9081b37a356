"""The common part of the commands of `katax seed`, and the part of `db reset` that runs seeds."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.output import Manner
from katax_cli.cli.shell.progress import Progress
from katax_cli.cli.shell.scope import Scope, Target, scope
from katax_cli.core.engine_names import TABLE_ENGINES
from katax_cli.core.roles import Tier
from katax_cli.core.settings import ConnectionSettings
from katax_cli.errors import Refused, Unavailable
from katax_cli.services.seeds.seeder import Seeder

if TYPE_CHECKING:
    from katax_cli.profiles.model.model import Profile
    from katax_cli.services.seeds.values import SeedOutcome, SeedStanding

SEEDS = Target(types=TABLE_ENGINES, preferred="main", lacks="seeds")
RUN_HEADER = ("name", "state", "inserted", "updated", "rows_affected", "duration_ms")
STATUS_HEADER = ("name", "state", "applied_at", "duration_ms")


def seeds_folder(profile: Profile) -> str:
    """The folder of the profile's seeds."""
    return os.path.join(profile.folder, profile.seed.directory)


def seeder(chosen: Scope, database: Any, on_done: Callable[[SeedOutcome], object] = lambda _: None) -> Seeder:
    """The seeder of a database; it notes each applied seed on stderr."""
    call, profile = chosen.call, chosen.profile
    prefix = f"{database.name}: " if call.is_glob else ""

    def tell(one: SeedOutcome) -> None:
        if one.state == "applied":
            call.diagnostics.note(prefix + done_line(one))
        on_done(one)

    return Seeder(database, seeds_folder(profile), default=profile.name, on_done=tell)


def run_seeds(call: Invocation, name: str | None, *, again: bool) -> ExitCode:
    """Asks where statements lose data, runs, and prints a row for each seed."""
    with scope(call, SEEDS, seconds=None, named=True) as chosen:
        for settings in chosen.settings:
            refuse_protected(chosen.profile, settings)
            if not call.shared.dry_run:
                _confirm(chosen, settings, name, again=again)

        ended: list[SeedOutcome] = []
        further = "; 'katax seed status' shows where the next one stands"
        count = len(seeder(chosen, chosen.runtime.open(chosen.settings[0])).chosen(name)) * len(
            chosen.settings
        )
        unit = "seed" if count == 1 else "seeds"
        progress = Progress(call.diagnostics, "done", unit, count, further=further)

        def done(one: SeedOutcome) -> None:
            ended.append(one)
            progress(len(ended))

        def work(database: Any) -> list[tuple[object, ...]]:
            seeds = seeder(chosen, database, done)
            return [run_row(one) for one in seeds.run(name, dry_run=call.shared.dry_run, again=again)]

        def header() -> tuple[str, ...]:
            progress.hide()
            return RUN_HEADER

        with progress:
            return chosen.answer_each(header, work)


def show_status(call: Invocation) -> ExitCode:
    """A row for each seed, of every connection that is meant."""
    with scope(call, SEEDS, seconds=None, named=True) as chosen:

        def work(database: Any) -> list[tuple[object, ...]]:
            return [status_row(seed) for seed in seeder(chosen, database).status()]

        return chosen.answer_each(STATUS_HEADER, work, manner=Manner(ages=("applied_at",)))


def refuse_protected(profile: Profile, settings: ConnectionSettings) -> None:
    """Raises Refused where made-up data must never go."""
    settings.refuse_read_only()
    if profile.role not in ("dev", "stage"):
        raise Refused(
            f"{settings.name!r} is a {profile.role} connection; seeds are for dev and stage, use a migration"
        )


def _confirm(chosen: Scope, settings: ConnectionSettings, name: str | None, *, again: bool) -> None:
    made = seeder(chosen, chosen.runtime.open(settings))
    try:
        reasons = made.destructive(name, again=again)
    except Unavailable:
        # It fails later in its own row, or it is back by then: asked about as if nothing were applied.
        reasons = made.destructive(name, again=True)
    if reasons:
        chosen.confirm(Tier.DESTRUCTIVE, f"seeds with {', '.join(reasons)}", of=settings)


def run_row(one: SeedOutcome) -> tuple[object, ...]:
    counts = one.counts
    return (one.name, one.state, counts.inserted, counts.updated, counts.affected, one.duration_ms)


def status_row(one: SeedStanding) -> tuple[object, ...]:
    return (one.name, one.state, one.applied_at, one.duration_ms)


def done_line(one: SeedOutcome) -> str:
    """`applied users.json: 2 inserted, 1 updated (3 ms)`."""
    counts = one.counts
    said = "" if counts.affected is None else f": {counts.affected} rows"
    if counts.inserted is not None:
        said = f": {counts.inserted} inserted, {counts.updated} updated"
    return f"applied {one.name}{said} ({one.duration_ms:.0f} ms)"
