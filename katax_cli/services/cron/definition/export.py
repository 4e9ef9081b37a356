"""Jobs as other schedulers write them. What one of them cannot say is named, never left out in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from shlex import join, quote

from katax_cli.core.schedule.crontab import crontab_line, crontab_text
from katax_cli.core.schedule.schedule import CronSchedule, IntervalSchedule
from katax_cli.profiles.model.model import Profile
from katax_cli.services.cron.definition.jobs import Command, Job

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


@dataclass(frozen=True, slots=True)
class CrontabExport:
    """The text, and why jobs are not in it."""

    text: str
    problems: tuple[str, ...]


def export(jobs: Sequence[Job], profile: Profile, to: str) -> CrontabExport:
    """All enabled jobs as a `crontab`, as `systemd` units, or as `kubernetes` CronJobs."""
    writer = WRITERS[to]
    texts: list[tuple[str | None, str]] = []
    problems: list[str] = []
    for job in jobs:
        try:
            texts.append((job.timezone, writer(job, profile)))
        except ValueError as error:
            problems.append(f"job {job.name!r} is left out: {error}")
    text = crontab_text(texts) if to == "crontab" else "".join(text for _, text in texts)
    return CrontabExport(text, tuple(problems))


def _shell(job: Job, profile: Profile) -> str:
    """The job as a line for the shell, in its folder; what only katax can run goes through it."""
    if isinstance(job.work, Command):
        command = job.work.words if isinstance(job.work.words, str) else join(job.work.words)
    else:
        command = join(["katax", "-p", profile.name, "cron", "run", job.name])
    return f"cd {quote(profile.folder)} && {command}"


def _crontab(job: Job, profile: Profile) -> str:
    if job.user is not None:
        raise ValueError("it runs as another user, and a user's crontab has no column for that")
    if job.schedule.text.startswith(("CRON_TZ=", "TZ=")):
        raise ValueError("its time zone is in its schedule; use timezone")
    return f"# {job.name}\n{crontab_line(job.schedule.text, _shell(job, profile))}"


def _systemd(job: Job, profile: Profile) -> str:
    if isinstance(job.schedule, IntervalSchedule):
        timer = f"OnUnitActiveSec={job.schedule.seconds}s\nOnBootSec={job.schedule.seconds}s\n"
    else:
        timer = "".join(f"OnCalendar={calendar}\n" for calendar in _calendars(job))
    unit = f"katax-{job.name}"
    limit = "" if job.timeout is None else f"TimeoutStartSec={job.timeout:g}\n"
    command = _shell(job, profile).replace("%", "%%").replace("$", "$$")
    return (
        f"# {unit}.service\n[Unit]\nDescription=katax job {job.name}\n\n[Service]\nType=oneshot\n"
        f"ExecStart=/bin/sh -c {json.dumps(command, ensure_ascii=False)}\n{limit}"
        f"TimeoutStopSec={job.kill_after:g}\n\n"
        f"# {unit}.timer\n[Unit]\nDescription=katax job {job.name}\n\n[Timer]\n{timer}"
        f"AccuracySec=1s\nPersistent={'false' if job.on_miss == 'skip' else 'true'}\n"
        f"RandomizedDelaySec={job.jitter:g}\n\n[Install]\nWantedBy=timers.target\n\n"
    )


def _calendars(job: Job) -> list[str]:
    """systemd's calendar expressions; day of month *or* day of week takes two of them."""
    if not isinstance(job.schedule, CronSchedule):
        raise ValueError(f"systemd has no {job.schedule.text}")
    fields = job.schedule.fields
    days = fields.days
    if days.nth or days.last:
        raise ValueError("systemd has no weekday of a month, and no last day beside others")
    time = ":".join(_list(part, 60) for part in (fields.hours, fields.minutes, fields.seconds))
    if len(fields.hours) == 24:
        time = "*" + time[time.index(":") :]
    month = "*" if len(days.months) == 12 else _list(days.months, 0)
    date = "*" if len(days.days) == 31 else _list(days.days, 0)
    week = "" if len(days.weekdays) == 7 else ",".join(_DAYS[day] for day in days.weekdays) + " "
    zone = f" {job.timezone}"
    if days.either:
        return [f"*-{month}-{date} {time}{zone}", f"{week}*-{month}-* {time}{zone}"]
    return [f"{week}*-{month}-{date} {time}{zone}"]


def _list(values: Sequence[int], all_of: int) -> str:
    return "*" if len(values) == all_of else ",".join(f"{value:02}" for value in values)


def _kubernetes(job: Job, profile: Profile) -> str:
    """A CronJob manifest; JSON strings are YAML."""
    schedule = job.schedule.text
    if not isinstance(job.schedule, CronSchedule) or (
        len(schedule.split()) != 5 and not schedule.startswith("@")
    ):
        raise ValueError("kubernetes knows five fields, no seconds, no @every and no @reboot")
    if re.search(r"[lLwW#]", " ".join(schedule.split()[2::2])) and not schedule.startswith("@"):
        raise ValueError("kubernetes has no last days and no weekdays of a month")
    if any(field.startswith("*/") for field in (schedule.split() + [""] * 5)[2:5:2]) and _restricts_both(job):
        raise ValueError("kubernetes takes day of month or day of week here, where cron wants both")
    policy = {"skip": "Forbid", "replace": "Replace", "allow": "Allow"}.get(job.on_overlap)
    if policy is None:
        raise ValueError("kubernetes has no queue for overlapping runs")
    deadline = "" if job.timeout is None else f"      activeDeadlineSeconds: {max(1, round(job.timeout))}\n"
    name = re.sub(r"[^a-z0-9-]+", "-", job.name.lower()).strip("-")[:52]
    return (
        f"---\napiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: {json.dumps(name)}\n"
        f"spec:\n  schedule: {json.dumps(schedule)}\n  timeZone: {json.dumps(job.timezone)}\n"
        f"  concurrencyPolicy: {policy}\n  suspend: {json.dumps(job.enabled is False)}\n"
        f"  jobTemplate:\n    spec:\n      backoffLimit: {job.retries}\n{deadline}"
        "      template:\n        spec:\n          restartPolicy: Never\n"
        f"          terminationGracePeriodSeconds: {max(1, round(job.kill_after))}\n"
        '          containers:\n            - name: job\n              image: "REPLACE-ME"\n'
        f"              command: {json.dumps(_container_command(job, profile), ensure_ascii=False)}\n"
    )


def _restricts_both(job: Job) -> bool:
    words = job.schedule.text.split()
    return len(words) == 5 and words[2] not in ("*", "?") and words[4] not in ("*", "?")


def _container_command(job: Job, profile: Profile) -> list[str]:
    """Without the folder of this machine: the image has its own working directory."""
    if isinstance(job.work, Command):
        words = job.work.words
        return ["/bin/sh", "-c", words] if isinstance(words, str) else list(words)
    return ["katax", "-p", profile.name, "cron", "run", job.name]


WRITERS: dict[str, Callable[[Job, Profile], str]] = {
    "crontab": _crontab,
    "systemd": _systemd,
    "kubernetes": _kubernetes,
}
