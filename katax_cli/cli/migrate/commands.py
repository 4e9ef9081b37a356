"""`katax migrate`: apply migrations exactly once, see where they stand, undo them."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from katax_cli.cli.migrate.views import (
    CHECK_HEADER,
    PLAN_HEADER,
    STATUS_HEADER,
    check_row,
    is_settled,
    plan_row,
    rehearsal_facts,
    status_row,
)
from katax_cli.cli.shell.exits import ExitCode, worst
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.output import Manner

group = Group()

To = Annotated[str | None, typer.Option("--to", metavar="VERSION", help="Stop at this version.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Maximum number of migrations.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse migrations out of order and applied ones without a file.")
]


@group.command("up")
def up(call: Invocation, to: To = None, steps: Steps = None, strict: Strict = False) -> ExitCode:
    """Apply pending migrations in order, one runner at a time."""
    from katax_cli.cli.migrate.run import change, to_apply

    return change(
        call,
        lambda migrator: to_apply(migrator.pending(to=to, steps=steps, strict=strict)),
        lambda migrator: migrator.up(to=to, steps=steps, strict=strict),
    )


@group.command("down")
def down(
    call: Invocation,
    to: Annotated[
        str | None, typer.Option("--to", metavar="VERSION", help="Keep this version; 0 keeps none.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Number of migrations (1).")] = None,
) -> ExitCode:
    """Revert the last migration, or several."""
    from katax_cli.cli.migrate.run import change, to_revert

    return change(
        call,
        lambda migrator: to_revert(migrator.to_revert(to=to, steps=steps)),
        lambda migrator: migrator.down(to=to, steps=steps),
    )


@group.command("redo")
def redo(call: Invocation) -> ExitCode:
    """Revert the last migration and apply it again."""
    from katax_cli.cli.migrate.run import change, to_revert

    return change(
        call,
        lambda migrator: to_revert(migrator.to_revert(steps=1)),
        lambda migrator: migrator.redo(),
    )


@group.command("run")
def run(call: Invocation, file: Annotated[str, typer.Argument(help="File name or version.")]) -> ExitCode:
    """Apply one pending migration, regardless of order."""
    from katax_cli.cli.migrate.run import change, to_apply

    return change(
        call,
        lambda migrator: to_apply([migrator.pending_job(file)]),
        lambda migrator: migrator.run(file),
    )


@group.command("resume")
def resume(
    call: Invocation,
    assume: Annotated[
        str | None,
        typer.Option("--assume", metavar="done|undone", help="Outcome of the statement under way."),
    ] = None,
    drop_invalid: Annotated[
        bool,
        typer.Option("--drop-invalid", help="Drop an index that was built only in part, and rebuild it."),
    ] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="List its lasting changes, and make its file pending again.")
    ] = False,
    run_down: Annotated[
        bool, typer.Option("--run-down", help="With --abandon: run its DOWN section first.")
    ] = False,
) -> ExitCode:
    """Resume a migration that stopped in its middle; exit 6 when its state cannot be known."""
    from katax_cli.cli.migrate.run import abandoned, change, migrators_of, to_resume
    from katax_cli.cli.shell.options import one_of

    if run_down and not abandon:
        raise typer.BadParameter("--run-down needs --abandon")
    if abandon:
        if assume is not None or drop_invalid:
            raise typer.BadParameter("--abandon excludes --assume and --drop-invalid")
        with migrators_of(call) as migrators:
            call.out.action(abandoned(migrators, run_down=run_down))
        return ExitCode.DONE
    if assume is not None:
        one_of("answer", ("done", "undone"))(assume)
    return change(
        call,
        lambda migrator: to_resume(migrator.status()),
        lambda migrator: migrator.resume(assume=assume, drop_invalid=drop_invalid),
    )


@group.command("status")
def status(
    call: Invocation,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit 1 unless every migration is applied as its file says.")
    ] = False,
) -> ExitCode:
    """List migrations and their states."""
    from katax_cli.cli.migrate.run import migrators_of, show

    with migrators_of(call) as migrators:
        standings = dict(migrators.each(lambda migrator: migrator.status()))
        show(
            migrators,
            STATUS_HEADER,
            {name: [status_row(row) for row in rows] for name, rows in standings.items()},
            Manner(ages=("applied_at",)),
        )
        settled = all(map(is_settled, standings.values()))
        return worst([ExitCode.NO if exit_code and not settled else ExitCode.DONE, *migrators.codes])


@group.command("check")
def check(call: Invocation) -> ExitCode:
    """Check that all migrations are applied on each connection; else exit 1. For deploys: -c 'shard*'."""
    from katax_cli.cli.migrate.run import migrators_of

    with migrators_of(call) as migrators:
        standings = list(migrators.each(lambda migrator: migrator.status()))
        call.out.rows(CHECK_HEADER, [[check_row(name, rows) for name, rows in standings]])
        settled = all(is_settled(rows) for _, rows in standings)
        return worst([ExitCode.DONE if settled else ExitCode.NO, *migrators.codes])


@group.command("create")
def create(
    call: Invocation,
    name: Annotated[str, typer.Argument(help="Its purpose, for the file's name.")],
    python: Annotated[bool, typer.Option("--python", help="A .py file with up(db) and down(db).")] = False,
) -> None:
    """Create an empty migration in the style of the folder."""
    import os

    from katax_cli.core.clock import SYSTEM
    from katax_cli.services.migrate.files import files

    profile = call.profile()
    directory = os.path.join(profile.folder, profile.migrate.directory)
    now = SYSTEM.now()
    if not call.only_planned(path=files.new_path(directory, name, python=python, now=now)):
        call.out.action({"path": files.create(directory, name, python=python, now=now)})


@group.command("baseline")
def baseline(
    call: Invocation,
    version: Annotated[str | None, typer.Argument(help="The last version to record as applied.")] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="dbmate", help="Adopt what dbmate has applied.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--to", metavar="dbmate", help="Write the applied versions to dbmate's table."),
    ] = None,
) -> None:
    """Record migrations as applied, without running them."""
    from katax_cli.cli.migrate.run import adopt, migrators_of, told_dbmate

    if [version, source, target].count(None) != 2:
        raise typer.BadParameter("give a version, --from dbmate or --to dbmate, one of the three")
    if (other := source or target or "dbmate") != "dbmate":
        raise typer.BadParameter(f"no tool named {other!r} is known here; known: dbmate")
    with migrators_of(call) as migrators:
        call.out.action(told_dbmate(migrators) if target else adopt(migrators, version))


@group.command("repair")
def repair(
    call: Invocation,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the changes of applied files, change nothing.")
    ] = False,
) -> None:
    """Accept the present text of changed files as applied. Runs no statement."""
    from katax_cli.cli.migrate.run import explained, migrators_of, repaired

    with migrators_of(call) as migrators:
        if explain:
            call.out.rows(("version", "name", "change", "diff"), [explained(migrators.one)])
        else:
            call.out.action({"repaired": repaired(migrators)})


@group.command("unlock")
def unlock(
    call: Invocation,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also of one that may live; asks for PROFILE/CONNECTION in any role."),
    ] = False,
) -> None:
    """End the session of a runner that is gone; exit 5 while it may live."""
    from katax_cli.cli.migrate.run import migrators_of, unlocked

    with migrators_of(call) as migrators:
        call.out.action(unlocked(migrators, force=force))


@group.command("wait")
def wait(
    call: Invocation,
    applied: Annotated[
        bool, typer.Option("--applied", help="Wait until every migration is applied, too.")
    ] = False,
) -> None:
    """Wait until the database answers, at most for --timeout (60s)."""
    from katax_cli.cli.migrate.run import wait_until

    call.out.action({"waited_seconds": wait_until(call, applied=applied)})


@group.command("plan")
def plan(call: Invocation) -> None:
    """Show for each pending statement its locks, table rewrites, blocking sessions, and gentler ways."""
    from katax_cli.cli.migrate.run import migrators_of
    from katax_cli.services.migrate.forecast import forecast

    with migrators_of(call) as migrators:
        manner = Manner(below="advice", joined=("blockers",))
        call.out.rows(PLAN_HEADER, [[plan_row(one) for one in forecast(migrators.one)]], manner)


@group.command("verify")
def verify(call: Invocation) -> ExitCode:
    """Run the VERIFY sections of applied migrations, changing nothing; exit 1 when one fails."""
    from katax_cli.cli.migrate.run import migrators_of
    from katax_cli.services.migrate.verify import Proof, verify

    with migrators_of(call) as migrators:
        proofs = verify(migrators.one)
        call.out.rows(Proof._fields, [proofs], Manner(below="message"))
        return ExitCode.DONE if all(proof.ok for proof in proofs) else ExitCode.NO


@group.command("rehearse")
def rehearse(
    call: Invocation,
    clean: Annotated[
        bool, typer.Option("--clean", help="Only remove the copies of rehearsals that were killed.")
    ] = False,
) -> ExitCode:
    """Run pending migrations up, down and up on a throwaway copy; exit 1 when the schemas differ."""
    from katax_cli.cli.migrate.run import migrators_of
    from katax_cli.services.migrate.rehearse import rehearse
    from katax_cli.services.tables.scratch import abandoned, open_settings, remove_abandoned

    with migrators_of(call) as migrators:
        if clean:
            database = migrators.one.db
            if not call.shared.dry_run:
                call.out.action({"removed": remove_abandoned(database, open_settings, "rehearsal")})
            else:
                call.out.action({"would_remove": abandoned(database, open_settings, "rehearsal")})
            return ExitCode.DONE
        deadline = migrators.one.db.callers_deadline()
        rehearsal = rehearse(migrators.one, partial(open_settings, deadline=deadline))
        call.out.action(rehearsal_facts(rehearsal))
        return ExitCode.DONE if rehearsal.ok else ExitCode.NO


@group.command("dump")
def dump(call: Invocation) -> None:
    """Write the schema by the server's own tool, and the applied migrations, for 'migrate load'."""
    from katax_cli.cli.migrate.run import migrators_of
    from katax_cli.services.migrate.dump import dump
    from katax_cli.services.migrate.schema_file import with_applied

    with migrators_of(call) as migrators:
        dumped = dump(migrators.one)
        call.diagnostics.note(f"written by {dumped.by}")
        call.out.text(with_applied(migrators.one, dumped).rstrip() if dumped.is_runnable else dumped.text)


@group.command("load")
def load(
    call: Invocation,
    file: Annotated[str | None, typer.Argument(help="Default: schema_file of [migrate].")] = None,
) -> None:
    """Build an empty database from a schema file, and record its migrations as applied."""
    from katax_cli.cli.migrate.run import loaded, migrators_of

    with migrators_of(call) as migrators:
        call.out.action(loaded(migrators, file))
