"""The parts of `katax cron` that are about words, signals and streams."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from katax_cli.cli.shell.confirm import Tier, confirm, refuse_unnamed
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import duration, one_of
from katax_cli.cli.shell.signals import handled
from katax_cli.services.cron.manage import Cron

if TYPE_CHECKING:
    from katax_cli.services.cron.definition.jobs import Job
    from katax_cli.services.cron.loop import Daemon

WORK_WORDS = "A program and its words, run without a shell."
_REPORT_ENDS_WITHIN = 0.5


@contextmanager
def cron(call: Invocation) -> Iterator[Cron]:
    """The jobs of the chosen profile; what they have to say goes to stderr."""
    with call.logged_profile() as profile, Cron(profile) as jobs:
        yield jobs
        for note in jobs.notes:
            call.diagnostics.note(note)


def explained(call: Invocation, text: str, number: int) -> Iterator[tuple[object, ...]]:
    """The rows about a job, or about a schedule, which no job's name looks like."""
    from katax_cli.cli.cron.views import explain_rows
    from katax_cli.core.schedule.schedule import own_zone, parse_schedule
    from katax_cli.services.cron.definition.catalog import timezone_of

    with cron(call) as jobs:
        now = jobs.clock.now()
        if not (" " in text.strip() or text.startswith("@")):
            job = jobs.job(text)
            return explain_rows(job.schedule, job.timezone, now, number, of=job)
        zone = own_zone(text.strip())[0] or timezone_of(jobs.profile)
        return explain_rows(parse_schedule(text, zone), zone, now, number)


def job_table(
    call: Invocation, schedule: str, words: Sequence[str] | None, **work: str | None
) -> dict[str, Any]:
    """The table of the job given to `add`, as a profile writes it; exactly one kind of work."""
    given: dict[str, Any] = {key: value for key, value in work.items() if value is not None}
    if words:
        given["words"] = list(words)
    if len(given) != 1:
        raise typer.BadParameter("give one of --command, --sql, --python, --katax, or a program after --")
    ((key, value),) = given.items()
    if key == "words":
        key = "command"
    elif key == "katax":
        value = shlex.split(value)
    elif key in ("command", "sql"):
        value = call.input_bytes(value).decode()
    table = {"schedule": schedule, key: value}
    if key != "sql" or not call.shared.connection:
        return table
    if call.url is not None:
        raise typer.BadParameter("a job names a connection of its profile; -c takes no url here")
    if call.is_glob:
        raise typer.BadParameter("a job's SQL runs on one connection; name it with -c")
    return {**table, "connection": call.shared.connection[0]}


def policies(call: Invocation, *, ping_url: str | None, **durations: str | None) -> dict[str, Any]:
    """Durations as seconds, and the URL, which may come from stdin or a file."""
    url = None if ping_url is None else call.input_bytes(ping_url).decode().strip()
    seconds = {key: duration(value) for key, value in durations.items() if value is not None}
    return {**seconds, **chosen(ping_url=url)}


def chosen(**values: object) -> dict[str, Any]:
    """The options that were given; their words are checked against the known choices."""
    for key, known in _CHOICES.items():
        if values.get(key) is not None:
            one_of(key, known)(str(values[key]))
    return {key: value for key, value in values.items() if value is not None}


_CHOICES = {"on_overlap": ("skip", "queue", "replace", "allow"), "on_miss": ("skip", "once", "all")}


def confirm_removal(call: Invocation, jobs: Cron, name: str) -> None:
    """Asks on a prod profile."""
    confirm(call, jobs.profile, jobs.profile.state.connection, Tier.DISRUPTIVE, f"remove job {name!r}")


def streamed(call: Invocation) -> Callable[[str, bytes], None]:
    """The job's stdout becomes ours, its stderr ours."""

    def take(name: str, data: bytes) -> None:
        if name == "stdout":
            call.out.raw(data)
        else:
            call.streams.stderr.write(data.decode(errors="replace"))
            call.streams.stderr.flush()

    return take


def daemon(
    call: Invocation, *, crontab: str | None, user_column: bool | None, metrics_port: int | None
) -> int:
    """Runs the daemon on this thread, with the signals of this process as its messages."""
    from katax_cli.services.cron.loop import Daemon
    from katax_cli.services.cron.run.execution import JobContext
    from katax_cli.services.cron.serve import metrics_server
    from katax_cli.services.state.reporter import Reporter

    with cron(call) as jobs, ExitStack() as stack:
        profile = jobs.profile
        refuse_unnamed(call, profile)
        state = Reporter(profile, "cron run-daemon", dict)
        state.start()
        stack.callback(state.close, _REPORT_ENDS_WITHIN)
        files = () if crontab is None else (crontab,)
        running = Daemon(
            lambda: _load(call, crontab, user_column), jobs.tables, JobContext(profile), files=files
        )
        stack.enter_context(_signals(running))
        if metrics_port is not None:
            server = metrics_server(running, metrics_port)
            stack.callback(server.close)
            call.diagnostics.note(f"metrics on http://127.0.0.1:{server.port}/metrics")
        return running.run()


def _load(call: Invocation, crontab: str | None, user_column: bool | None) -> tuple[Any, Sequence[Job]]:
    from katax_cli.services.cron.definition.catalog import jobs_of, read_crontab

    profile = call.profile()
    own = jobs_of(profile)
    if crontab is None:
        return profile, own
    more, parsed = read_crontab(crontab, profile, user_column=user_column)
    for note in parsed.notes:
        call.diagnostics.note(note)
    return profile, [*own, *more]


def _signals(running: Daemon) -> AbstractContextManager[None]:
    """TERM and INT stop, HUP and USR2 reload; as before afterwards."""
    from katax_cli.services.cron.loop import LoopMessage

    def stop(number: int, _frame: FrameType | None) -> None:
        running.tell(LoopMessage("stop", number))

    def reload(_number: int, _frame: FrameType | None) -> None:
        running.tell(LoopMessage("reload"))

    stopping, reloading = (signal.SIGTERM, signal.SIGINT), (signal.SIGHUP, signal.SIGUSR2)
    return handled({**dict.fromkeys(stopping, stop), **dict.fromkeys(reloading, reload)})
