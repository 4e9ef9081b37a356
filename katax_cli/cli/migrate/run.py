"""The common part of the commands of `katax migrate`: connections, confirmation, results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from katax_cli.cli.migrate.views import done_line
from katax_cli.cli.shell.exits import ExitCode, worst
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.output import PLAIN, Manner
from katax_cli.cli.shell.progress import Progress
from katax_cli.cli.shell.scope import Scope, Target, scope
from katax_cli.core.engine_names import TABLE_ENGINES
from katax_cli.core.roles import Tier
from katax_cli.core.settings import ConnectionSettings
from katax_cli.errors import ConfigError, MigrationsPending, Unavailable
from katax_cli.services.migrate.migrator import Migrator

if TYPE_CHECKING:
    from katax_cli.profiles.model.model import Profile
    from katax_cli.services.migrate.jobs import MigrationJob
    from katax_cli.services.migrate.values import Outcome, Standing

T = TypeVar("T")
_WAIT_SECONDS = 60.0
_WAIT_PAUSE = 0.25


class Proposal(NamedTuple):
    """A change to confirm: the migrations, how much data they can lose, and the question."""

    names: tuple[str, ...]
    tier: Tier
    what: str


class Migrators:
    """The migrators of the connections that a command is for; `codes` of those that failed."""

    def __init__(self, chosen: Scope) -> None:
        self.chosen = chosen
        self.codes: list[ExitCode] = []
        self.done: list[Outcome] = []
        """What was applied or reverted so far, of all connections."""
        self.listeners: list[Callable[[int], object]] = []
        """They hear how many that are."""
        self._made: dict[str, Migrator] = {}

    @property
    def call(self) -> Invocation:
        return self.chosen.call

    @property
    def profile(self) -> Profile:
        return self.chosen.profile

    @property
    def settings(self) -> tuple[ConnectionSettings, ...]:
        return self.chosen.settings

    @property
    def schema_file(self) -> str | None:
        """The path of the schema file; None when none is kept."""
        file = self.profile.migrate.schema_file
        return None if file is None else os.path.join(self.profile.folder, file)

    @property
    def one(self) -> Migrator:
        """The migrator of the one connection. Raises ConfigError when there are several."""
        return self.on(self.chosen.one)

    def on(self, settings: ConnectionSettings) -> Migrator:
        return self._migrator(self.chosen.runtime.open(settings))

    def each(self, work: Callable[[Migrator], T]) -> Iterator[tuple[str, T]]:
        """`work` on every connection, in parallel if there are several; failures are reported and counted."""
        if len(self.settings) == 1 and not self.call.is_glob:
            yield self.settings[0].name, work(self.one)
            return
        for settings, result in self.chosen.each(lambda one: work(self._migrator(one))):
            if isinstance(result, BaseException):
                self.codes.append(self.call.diagnostics.failure(result))
            else:
                yield settings.name, result

    def _migrator(self, database: Any) -> Migrator:
        """The same one every time: what was asked about is what is run."""
        if database.name not in self._made:
            self._made[database.name] = self._make(database)
        return self._made[database.name]

    def _make(self, database: Any) -> Migrator:
        rules, note = self.profile.migrate, self.call.diagnostics.note
        prefix = f"{database.name}: " if self.call.is_glob else ""
        return Migrator(
            database,
            os.path.join(self.profile.folder, rules.directory),
            table=rules.table,
            lock_timeout=rules.lock_timeout,
            on_note=lambda text: note(prefix + text),
            on_done=lambda outcome: self._heard(outcome, prefix),
        )

    def _heard(self, outcome: Outcome, prefix: str) -> None:
        self.call.diagnostics.note(prefix + done_line(outcome))
        self.done.append(outcome)
        for listener in self.listeners:
            listener(len(self.done))


@contextmanager
def migrators_of(call: Invocation) -> Iterator[Migrators]:
    """The connections of a command, without a deadline unless one is given.

    Raises Refused on a built-in profile unless it was named.
    """
    with scope(call, _target, seconds=None, named=True) as chosen:
        yield migrators_for(chosen)


def _target(profile: Profile) -> Target:
    return Target(types=TABLE_ENGINES, preferred=profile.migrate.connection, lacks="migrations")


def migrators_for(chosen: Scope) -> Migrators:
    """For a command that migrates among other things. Raises ConfigError behind a pooler without direct_url."""
    return Migrators(chosen._replace(settings=tuple(one.past_pooler() for one in chosen.settings)))


def change(
    call: Invocation,
    propose: Callable[[Migrator], Proposal | None],
    work: Callable[[Migrator], list[Outcome]],
) -> ExitCode:
    """Asks, does it, and says what was done: one object, or a row for each connection of a pattern."""
    with migrators_of(call) as migrators:
        proposals = {one.name: propose(migrators.on(one)) for one in migrators.settings}
        if call.shared.dry_run:
            return _answer(
                call, [(name, one.names if one else ()) for name, one in proposals.items()], "would_run"
            )
        for settings in migrators.settings:
            proposal = proposals[settings.name]
            if proposal is not None:
                _ask(migrators.chosen, settings, proposal)
        with _progress(migrators, [one for one in proposals.values() if one is not None]) as progress:
            migrators.listeners.append(progress)
            done = [(name, [outcome.name for outcome in outcomes]) for name, outcomes in migrators.each(work)]
        if call.out.format == "table" and not call.is_glob and not any(names for _, names in done):
            call.out.text(f"nothing to do: {migrators.one.applied} applied")
        else:
            migrators.codes.append(_answer(call, done, "done"))
        keep_schema(migrators)
        return worst(migrators.codes)


def _progress(migrators: Migrators, proposals: Sequence[Proposal]) -> Progress:
    """Counts migrations; one that is under way at an interrupt is rolled back, or stops where `resume` goes on."""
    count = sum(len(proposal.names) for proposal in proposals)
    further = "; 'katax migrate status' shows where the next one stands"
    return Progress(migrators.call.diagnostics, "done", "migrations", count, further=further)


def keep_schema(migrators: Migrators) -> None:
    """Writes `schema_file` after every change that one connection was asked for. Raises SchemaNotWritten."""
    path = migrators.schema_file
    if path is None:
        return
    if migrators.call.is_glob:
        migrators.call.diagnostics.note(f"{path} is left as it is: it has the schema of one connection")
        return
    from katax_cli.services.migrate.schema_file import write

    if write(migrators.one, path):
        migrators.call.diagnostics.note(f"wrote {path}")


def loaded(migrators: Migrators, file: str | None) -> dict[str, object]:
    """Builds an empty database from the schema file; on prod after a yes."""
    from katax_cli.services.migrate.schema_file import check, load, read

    path = file or migrators.schema_file
    if path is None:
        raise ConfigError("no schema file is named; give one, or set schema_file in [migrate]")
    migrator = migrators.one
    schema = read(path, migrator.db.settings.type)
    names = check(migrator, schema)
    if migrators.call.shared.dry_run:
        return {"would_load": path, "recorded": names}
    migrators.chosen.confirm(Tier.DISRUPTIVE, f"building the schema of {path}")
    return {"loaded": path, "recorded": load(migrator, schema)}


def _ask(chosen: Scope, settings: ConnectionSettings, proposal: Proposal) -> None:
    for name in proposal.names if chosen.call.streams.interactive else ():
        chosen.call.diagnostics.note(f"  {name}")
    chosen.confirm(proposal.tier, proposal.what, of=settings)


def _answer(call: Invocation, done: Sequence[tuple[str, Sequence[str]]], key: str) -> ExitCode:
    if call.is_glob:
        call.out.rows(("connection", key), [[(name, list(names)) for name, names in done]])
    elif call.out.wants_text:
        call.out.rows((key,), [[(name,) for _, names in done for name in names]])
    else:
        for _, names in done:
            call.out.action({key: list(names)})
    return ExitCode.DONE


def to_apply(jobs: Sequence[MigrationJob]) -> Proposal | None:
    """Asks for more when statements lose data that they do not name."""
    if not jobs:
        return None
    from katax_cli.services.tables.scripts import destructive_reasons

    statements = [statement for job in jobs for statement in job.statements]
    reasons = list(dict.fromkeys(destructive_reasons(statements)))
    names = tuple(job.name for job in jobs)
    if reasons:
        return Proposal(names, Tier.DESTRUCTIVE, f"{_count(names)} with {', '.join(reasons)}")
    return Proposal(names, Tier.DISRUPTIVE, _count(names))


def to_revert(jobs: Sequence[MigrationJob]) -> Proposal | None:
    """Reverting migrations, which loses data; None when there are none."""
    names = tuple(job.name for job in jobs)
    return Proposal(names, Tier.DESTRUCTIVE, f"reverting {_count(names)}") if names else None


def _count(names: Sequence[str]) -> str:
    return f"migration {names[0]}" if len(names) == 1 else f"{len(names)} migrations"


def to_resume(standings: Sequence[Standing]) -> Proposal | None:
    """Resuming failed migrations, which interrupts what their statements interrupt; None without any."""
    names = tuple(migration.name for migration in standings if migration.state == "failed")
    return Proposal(names, Tier.DISRUPTIVE, f"resuming {_count(names)}") if names else None


def show(
    migrators: Migrators,
    header: Sequence[str],
    rows_of: Mapping[str, Sequence[Sequence[object]]],
    manner: Manner = PLAIN,
) -> None:
    """Rows of one connection, or of several with their connection in front."""
    if not migrators.call.is_glob:
        migrators.call.out.rows(header, list(rows_of.values()) or [[]], manner)
        return
    rows = [(name, *row) for name, some in rows_of.items() for row in some]
    migrators.call.out.rows(("connection", *header), [rows], manner)


def adopt(migrators: Migrators, version: str | None) -> dict[str, list[str]]:
    """Records migrations that were applied by other hands, after a yes; says which."""
    migrator = migrators.one
    names = migrator.to_adopt() if version is None else [file.name for file in migrator.to_baseline(version)]
    if migrators.call.shared.dry_run:
        return {"would_record": names}
    proposal = Proposal(tuple(names), Tier.DESTRUCTIVE, "recording migrations as applied")
    _ask(migrators.chosen, migrators.settings[0], proposal)
    if version is None:
        return {"recorded": migrator.adopt_dbmate()}
    return {"recorded": [file.name for file in migrator.baseline(version)]}


def told_dbmate(migrators: Migrators) -> dict[str, list[str]]:
    """Writes dbmate's table after a yes; says which versions were new to it."""
    migrator = migrators.one
    versions = migrator.for_dbmate()
    if migrators.call.shared.dry_run:
        return {"would_record": versions}
    proposal = Proposal(tuple(versions), Tier.DESTRUCTIVE, "writing dbmate's table schema_migrations")
    _ask(migrators.chosen, migrators.settings[0], proposal)
    return {"recorded": migrator.tell_dbmate()}


def explained(migrator: Migrator) -> list[tuple[object, ...]]:
    """The changed files of applied migrations: version, name, the kind of change, the differing lines."""
    return [
        (
            one.version,
            one.name,
            "statements" if one.state == "modified" else "comments, layout or DOWN",
            "\n".join(lines),
        )
        for one, lines in migrator.changed()
    ]


def repaired(migrators: Migrators) -> list[str]:
    """Accepts changed files after a yes; returns their names."""
    migrator = migrators.one
    names = [one.name for one, _ in migrator.changed()]
    if not names or migrators.call.shared.dry_run:
        return names if migrators.call.shared.dry_run else []
    what = f"accepting the present text of {', '.join(names)} as applied"
    migrators.chosen.confirm(Tier.DESTRUCTIVE, what)
    return [file.name for file in migrator.repair()]


def abandoned(migrators: Migrators, *, run_down: bool) -> dict[str, object]:
    """Gives up what stopped in its middle, after a yes; says what of it lasts."""
    migrator = migrators.one
    stopped = migrator.stopped()
    for one in stopped:
        for statement in one.lasting:
            migrators.call.diagnostics.note(f"{one.name}: {statement}")
    if stopped and not migrators.call.shared.dry_run:
        what = f"abandoning {_count([migration.name for migration in stopped])}"
        what += " and running its DOWN" if run_down else ", of which the statements above last"
        migrators.chosen.confirm(Tier.DESTRUCTIVE, what)
        stopped = migrator.abandon(run_down=run_down)
    return {
        "would_abandon" if migrators.call.shared.dry_run else "abandoned": [
            migration.name for migration in stopped
        ],
        "lasting": [str(statement) for migration in stopped for statement in migration.lasting],
        "reverted": any(migration.reverted for migration in stopped),
    }


def unlocked(migrators: Migrators, *, force: bool) -> dict[str, object]:
    """Ends the session of a holder that is gone, after a yes; with `force` of any, after its connection's name.

    Raises LockHeld while the holder may live.
    """
    migrator = migrators.one
    holder = migrator.holder()
    if holder is None:
        return {"unlocked": False, "holder": None}
    if not migrators.call.shared.dry_run:
        if force or holder.is_gone:
            what = f"ending the run of {holder}"
            migrators.chosen.confirm(Tier.DESTRUCTIVE, what, typed=not holder.is_gone)
        migrator.unlock(force=holder if force else None)
    return {"unlocked": not migrators.call.shared.dry_run, "holder": str(holder)}


def wait_until(call: Invocation, *, applied: bool) -> float:
    """Seconds until the database answered (and had everything applied). Raises the last error in the end."""
    from katax_cli.core.clock import SYSTEM
    from katax_cli.core.resilience.deadline import Deadline

    started = SYSTEM.monotonic()
    deadline = Deadline(_WAIT_SECONDS if call.shared.timeout is None else call.shared.timeout)
    while True:
        try:
            with migrators_of(call) as migrators:
                _once(migrators, applied=applied)
            return round(SYSTEM.monotonic() - started, 3)
        except (Unavailable, MigrationsPending) as error:
            if deadline.remaining() < _WAIT_PAUSE:
                raise
            call.diagnostics.note(f"waiting: {error}") if call.shared.verbose else None
        SYSTEM.sleep(_WAIT_PAUSE)


def _once(migrators: Migrators, *, applied: bool) -> None:
    for settings in migrators.settings:
        migrator = migrators.on(settings)
        migrator.db.ping()
        left = (
            [migration.name for migration in migrator.status() if migration.state != "applied"]
            if applied
            else []
        )
        if left:
            raise MigrationsPending(settings.name, count=len(left), first=left[0])
