"""`katax cron`: jobs on a schedule, every occurrence accounted for."""

from __future__ import annotations

from typing import Annotated

import typer

from katax_cli.cli.cron.run import (
    WORK_WORDS,
    chosen,
    confirm_removal,
    cron,
    daemon,
    explained,
    job_table,
    policies,
    streamed,
)
from katax_cli.cli.cron.views import (
    CHECK_HEADER,
    EXPLAIN_HEADER,
    HISTORY_BRIEF,
    HISTORY_HEADER,
    IMPORT_HEADER,
    JOB_BRIEF,
    JOB_HEADER,
    NEXT_HEADER,
    YEAR,
    brief,
    change_text,
    job_row,
    occurrences,
    output_of,
    run_row,
)
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import one_of
from katax_cli.cli.shell.output import Manner

group = Group()

Name = Annotated[str, typer.Argument(help="Name of the job.")]
UserColumn = Annotated[
    bool | None,
    typer.Option("--user-column/--no-user-column", help="Lines name users, as in /etc/crontab."),
]
Number = Annotated[int, typer.Option("-n", "--number", min=1, help="Number of occurrences of each.")]


@group.command("list")
def list_(call: Invocation) -> None:
    """List all jobs, of the profile and added ones, with their next occurrence."""
    with cron(call) as jobs:
        now, lookup = jobs.clock.now(), jobs.lookup
        rows = [job_row(job, now, enabled=job.is_enabled(lookup)) for job in jobs.jobs()]
    call.out.rows(JOB_HEADER, [rows], Manner(brief=JOB_BRIEF))


@group.command("next")
def next_(
    call: Invocation,
    name: Annotated[str | None, typer.Argument(help="Name of the job; none: all.")] = None,
    number: Number = 5,
) -> None:
    """Show the next occurrences, and on stderr the coming changes of the clock."""
    from katax_cli.core.schedule.schedule import clock_changes

    with cron(call) as jobs:
        now = jobs.clock.now()
        chosen = jobs.jobs() if name is None else [jobs.job(name)]
    for job in chosen:
        for change in clock_changes(job.schedule, now, now + YEAR):
            call.diagnostics.note(f"{job.name}: {change_text(change)}")
    call.out.rows(
        NEXT_HEADER,
        [[(job.name, *row) for row in occurrences(job.schedule, now, number)] for job in chosen],
    )


@group.command("explain")
def explain(
    call: Invocation,
    name: Annotated[str, typer.Argument(help="Name of a job, or a schedule such as '*/5 * * * *'.")],
    number: Number = 5,
) -> None:
    """Explain a schedule: its meaning, its next occurrences, the effect of changes of the clock."""
    call.out.rows(EXPLAIN_HEADER, [list(explained(call, name, number))])


@group.command("check")
def check(call: Invocation) -> ExitCode:
    """Check every job; exit 1 when one is wrong or the meaning of its schedule changed."""
    with cron(call) as jobs:
        findings = jobs.check()
    call.out.rows(
        CHECK_HEADER,
        [[(finding.job, finding.status, finding.message) for finding in findings]],
        Manner(below="message"),
    )
    return ExitCode.NO if any(finding.is_problem for finding in findings) else ExitCode.DONE


@group.command("add")
def add(
    call: Invocation,
    name: Name,
    schedule: Annotated[str, typer.Argument(help="Five or six fields, @daily, '@every 30s'.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[-- CMD...]", help=WORK_WORDS)] = None,
    command: Annotated[str | None, typer.Option(help="A command line for the shell.")] = None,
    sql: Annotated[str | None, typer.Option(help="A statement for -c, else the default connection.")] = None,
    python: Annotated[str | None, typer.Option(metavar="PKG.MOD:FUNC", help="A function to call.")] = None,
    katax: Annotated[
        str | None, typer.Option(metavar="WORDS", help="A katax command, without 'katax'.")
    ] = None,
    timezone: Annotated[str | None, typer.Option(metavar="NAME", help="Time zone of the schedule.")] = None,
    limit: Annotated[
        str | None, typer.Option("--max-time", metavar="DURATION", help="The job's timeout; then TERM.")
    ] = None,
    kill_after: Annotated[str | None, typer.Option(metavar="DURATION", help="From TERM to KILL.")] = None,
    on_overlap: Annotated[
        str | None, typer.Option(metavar="skip|queue|replace|allow", help="Policy for overlapping runs.")
    ] = None,
    on_miss: Annotated[
        str | None, typer.Option(metavar="skip|once|all", help="Policy for missed runs.")
    ] = None,
    retries: Annotated[int | None, typer.Option(min=0, help="Further attempts after a failure.")] = None,
    start_deadline: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Latest start after its time.")
    ] = None,
    jitter: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Longest random delay of the start.")
    ] = None,
    on_failure: Annotated[
        str | None, typer.Option(metavar="CMD", help="Command to run after a failure.")
    ] = None,
    ping_url: Annotated[str | None, typer.Option(metavar="URL|-|@FILE", help="healthchecks.io URL.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an added job of this name.")] = False,
) -> None:
    """Add a job to the state database; running daemons notice within a second."""
    table = job_table(call, schedule, words, command=command, sql=sql, python=python, katax=katax)
    table |= policies(
        call,
        timeout=limit,
        kill_after=kill_after,
        jitter=jitter,
        start_deadline=start_deadline,
        ping_url=ping_url,
    )
    table |= chosen(
        timezone=timezone, on_overlap=on_overlap, on_miss=on_miss, on_failure=on_failure, retries=retries
    )
    with cron(call) as jobs:
        jobs.plan(name, table)
        if call.only_planned(job=name, added=False):
            return
        jobs.add(name, table, replacing=replace)
    call.out.action({"job": name, "added": True})


@group.command("remove")
def remove(call: Invocation, name: Name) -> None:
    """Remove an added job; its history stays."""
    with cron(call) as jobs:
        jobs.job(name)
        if call.only_planned(job=name, removed=False):
            return
        confirm_removal(call, jobs, name)
        jobs.remove(name)
    call.out.action({"job": name, "removed": True})


def _switch(call: Invocation, name: str, *, on: bool) -> None:
    with cron(call) as jobs:
        jobs.job(name)
        if call.only_planned(job=name, enabled=on):
            return
        enabled = jobs.switch(name, on=on).is_enabled(jobs.lookup)
    call.out.action({"job": name, "enabled": enabled})


@group.command("enable")
def enable(call: Invocation, name: Name) -> None:
    """Enable a job on all daemons."""
    _switch(call, name, on=True)


@group.command("disable")
def disable(call: Invocation, name: Name) -> None:
    """Disable a job on all daemons, until it is enabled."""
    _switch(call, name, on=False)


@group.command("run")
def run(call: Invocation, name: Name) -> int:
    """Run a job now, beside its schedule, and exit with its own status."""
    with cron(call) as jobs:
        job = jobs.job(name)
        if call.only_planned(job=name, work=str(job.work)):
            return ExitCode.DONE
        done = jobs.run(name, streamed(call))
    return done.exit_status or (ExitCode.DONE if done.state == "ran" else ExitCode.NO)


@group.command("run-daemon")
def run_daemon(
    call: Invocation,
    crontab: Annotated[str | None, typer.Option(metavar="FILE", help="Jobs of this crontab too.")] = None,
    user_column: UserColumn = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="/live, /ready and /metrics on loopback; 0: any.")
    ] = None,
) -> int:
    """Run the jobs until TERM, which drains; a second signal forces; HUP and USR2 reload."""
    return daemon(call, crontab=crontab, user_column=user_column, metrics_port=metrics_port)


@group.command("history")
def history(
    call: Invocation,
    name: Annotated[str | None, typer.Argument(help="Name of the job; none: all.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of rows.")] = 50,
) -> None:
    """Show past occurrences and their outcomes, the latest first."""
    with cron(call) as jobs:
        rows = [run_row(each) for each in jobs.history(name, limit)]
    if call.out.format == "table":
        header = (*HISTORY_HEADER[:-2], "output")
        call.out.rows(header, [[brief(row) for row in rows]], Manner(brief=HISTORY_BRIEF))
    else:
        call.out.rows(HISTORY_HEADER, [rows])


@group.command("logs")
def logs(
    call: Invocation,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, or its beginning.")],
) -> ExitCode:
    """Print the kept output of a run; exit 1 when there is no such run."""
    with cron(call) as jobs:
        runs = jobs.logs(run_id)
    if runs is None:
        call.diagnostics.note(f"no run whose id begins with {run_id!r}; see 'katax cron history'")
        return ExitCode.NO
    call.out.scalar(output_of(runs).removesuffix("\n"))
    return ExitCode.DONE


@group.command("import")
def import_(
    call: Invocation,
    crontab: Annotated[str, typer.Argument(metavar="CRONTAB", help="A crontab file.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace added jobs of the same names.")] = False,
    user_column: UserColumn = None,
) -> None:
    """Add the jobs of a crontab file to the state database, all of them or none."""
    from katax_cli.services.cron.definition.catalog import read_crontab, table_of
    from katax_cli.services.cron.run.logins import other_users

    with cron(call) as jobs:
        crontab_jobs, parsed = read_crontab(crontab, jobs.profile, user_column=user_column)
        for note in (*parsed.notes, *other_users(crontab_jobs)):
            call.diagnostics.note(note)
        if not call.shared.dry_run:
            jobs.add_all({entry.name: table_of(entry) for entry in parsed.entries}, replacing=replace)
    rows = [(job.name, job.schedule.text, job.timezone, str(job.work)) for job in crontab_jobs]
    call.out.rows(IMPORT_HEADER, [rows])


@group.command("export")
def export(
    call: Invocation,
    to: Annotated[str, typer.Option("--to", metavar="crontab|systemd|kubernetes", help="Target format.")],
) -> ExitCode:
    """Write the jobs for another scheduler; exit 1 when it cannot express one of them."""
    from katax_cli.services.cron.definition.export import WRITERS
    from katax_cli.services.cron.definition.export import export as write

    one_of("scheduler", tuple(WRITERS))(to)
    with cron(call) as jobs:
        made = write(jobs.jobs(), jobs.profile, to)
    for problem in made.problems:
        call.diagnostics.note(problem)
    call.out.raw(made.text.encode())
    return ExitCode.NO if made.problems else ExitCode.DONE
