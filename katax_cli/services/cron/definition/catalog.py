"""All jobs of a profile: its own, those of a crontab file, and those that were added to the state database."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from katax_cli.core.schedule.crontab import Crontab, CrontabLine, parse_crontab, says_user_column
from katax_cli.core.schedule.schedule import parse_schedule
from katax_cli.errors import ConfigError, Refused
from katax_cli.profiles.model.model import Profile
from katax_cli.services.cron.definition.definitions import Stored
from katax_cli.services.cron.definition.jobs import Command, Job, Python, job_of, local_timezone
from katax_cli.services.cron.run.logins import is_user

_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
NAME_AT_MOST = 100


def timezone_of(profile: Profile) -> str:
    """The zone of jobs that name none: the profile's, else this machine's."""
    return profile.cron.timezone or local_timezone()


def jobs_of(profile: Profile) -> list[Job]:
    """The jobs that the profile itself defines. Raises ConfigError naming the first that is wrong."""
    wrong = profile.cron.wrong
    if wrong:
        more = f" ({len(wrong) - 1} more: katax profile check)" if len(wrong) > 1 else ""
        raise ConfigError(f"{next(iter(wrong.values()))}{more}")
    zone = timezone_of(profile)
    return [job_of(name, table, timezone=zone) for name, table in profile.cron.jobs.items()]


def mistake_of(name: str, table: Mapping[str, Any]) -> tuple[str | None, str] | None:
    """The key and the reason why no job can be made of its table; None for a job that can be."""
    zone = str(table.get("timezone") or local_timezone())
    try:
        job_of(check_name(name), table, timezone=zone)
    except ConfigError as error:
        return ("schedule" if _is_no_schedule(table, zone) else None), str(error)
    return None


def _is_no_schedule(table: Mapping[str, Any], zone: str) -> bool:
    try:
        parse_schedule(str(table.get("schedule")), zone)
    except ValueError:
        return True
    return False


def read_crontab(
    path: str, profile: Profile, *, user_column: bool | None = None
) -> tuple[list[Job], Crontab]:
    """The jobs of a crontab file. Raises ConfigError naming every line that cannot be used.

    Whether its lines name users is known of /etc/crontab and /etc/cron.d, and where a comment heads that column.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"crontab {path!r} cannot be read: {reason}") from error
    users = (_is_system(path) or says_user_column(text)) if user_column is None else user_column
    crontab = parse_crontab(text, user_column=users)
    problems = (
        crontab.problems if users or user_column is False else (*crontab.problems, *_user_names(crontab))
    )
    if problems:
        raise ConfigError(f"crontab {path!r}: {'; '.join(problems)}")
    zone = timezone_of(profile)
    jobs = [job_of(entry.name, table_of(entry), timezone=zone, source="crontab") for entry in crontab.entries]
    return jobs, crontab


def _is_system(path: str) -> bool:
    real = Path(path).resolve()
    return real == Path("/etc/crontab") or real.parent == Path("/etc/cron.d")


def _user_names(crontab: Crontab) -> Iterator[str]:
    """Lines that begin with a user of this machine, no program, and a word that is no option."""
    for entry in crontab.entries:
        user, *more = entry.words
        if more and not more[0].startswith("-") and is_user(user) and shutil.which(user) is None:
            yield (
                f"line {entry.line}: {user!r} is a user and no program; repeat with --user-column, "
                "or with --no-user-column"
            )


def table_of(entry: CrontabLine) -> dict[str, Any]:
    """A line of a crontab as a profile would say it."""
    table: dict[str, Any] = {"schedule": entry.schedule, "command": entry.command}
    if entry.user is not None:
        table["user"] = entry.user
    return table if entry.timezone is None else {**table, "timezone": entry.timezone}


def merged(
    own: Sequence[Job], stored: Iterable[Stored], *, timezone: str, notes: list[str] | None = None
) -> list[Job]:
    """The jobs of files, then those that were added; an operator's switch holds for both.

    An added job does not replace one of a file; one that this katax cannot read is left out with a note.
    """
    known = {each.job: each for each in stored}
    jobs = {job.name: job for job in own}
    for each in known.values():
        if each.definition is None or each.job in jobs:
            continue
        try:
            jobs[each.job] = job_of(each.job, each.definition, timezone=timezone, source="added")
        except (ConfigError, KeyError) as error:
            if notes is not None:
                notes.append(f"added job {each.job!r} is left out: {error}")
    return [_switched(job, known.get(job.name)) for job in jobs.values()]


def _switched(job: Job, stored: Stored | None) -> Job:
    if stored is None or stored.switched is None:
        return job
    return replace(job, enabled=stored.switched)


def runs_foreign_code(job: Job) -> bool:
    """True for an added job that brings its own code: from a shared database anybody may have added it."""
    return job.source == "added" and (isinstance(job.work, Command | Python) or job.on_failure is not None)


def check_name(name: str) -> str:
    """Raises ConfigError for a name that is no file name of letters, digits, `_`, `.` and `-`."""
    if not name or len(name) > NAME_AT_MOST or not _NAME_CHARACTERS.issuperset(name):
        raise ConfigError(
            f"{name!r} is no name for a job; use letters, digits, '_', '.' and '-', at most 100"
        )
    return name


def refuse_foreign_code(job: Job, *, shared: bool, allowed: bool) -> None:
    """Raises Refused for code from a shared database unless the profile allows it."""
    if shared and not allowed and runs_foreign_code(job):
        kinds = {Command: "command", Python: "python"}
        raise Refused(
            f"job {job.name!r} was added with a {kinds.get(type(job.work), 'command for failures')} to a "
            "shared state database; set allow_dynamic_commands = true in [cron] of the daemon's profile"
        )


def lookup_of(profile: Profile) -> Mapping[str, str]:
    """Variables for conditions: the project's `.env` below the real environment."""
    import os

    from katax_cli.profiles.sources.environment import Environment

    return {**Environment(os.environ, profile.folder, []).dotenv(), **os.environ}
