"""A job: its schedule, its work, and its policy when runs overlap, are missed, hang or fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from katax_cli.core.schedule.schedule import Never, Schedule, parse_schedule
from katax_cli.errors import ConfigError, unknown_name

Overlap = Literal["skip", "queue", "replace", "allow"]
Miss = Literal["skip", "once", "all"]
JobSource = Literal["profile", "added", "crontab", "program"]
Lookup = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Command:
    """A program: a string for the shell, or its words."""

    words: str | tuple[str, ...]

    def __str__(self) -> str:
        return self.words if isinstance(self.words, str) else " ".join(self.words)


@dataclass(frozen=True, slots=True)
class Sql:
    """One statement on a connection of the profile; None: its default one."""

    sql: str
    connection: str | None

    def __str__(self) -> str:
        return " ".join(self.sql.split())


@dataclass(frozen=True, slots=True)
class Python:
    """A function without parameters, run in a process of its own."""

    target: str

    def __str__(self) -> str:
        return self.target


@dataclass(frozen=True, slots=True)
class KataxCommand:
    """A katax command on the same profile."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(("katax", *self.words))


@dataclass(frozen=True, slots=True)
class Callback:
    """A callable of this process, run in a thread; it cannot be killed."""

    call: Callable[[], object]

    def __str__(self) -> str:
        return str(getattr(self.call, "__qualname__", type(self.call).__name__))


JobWork = Command | Sql | Python | KataxCommand | Callback


@dataclass(frozen=True, slots=True)
class JobCondition:
    """`${env:NAME} == value`: parsed before anything is filled in, so that a value cannot become syntax."""

    left: str
    right: str
    equal: bool

    @classmethod
    def parse(cls, text: str) -> JobCondition:
        """Raises ValueError unless the text is `A == B` or `A != B`."""
        for sign in ("==", "!="):
            left, found, right = text.partition(sign)
            if found and not any(other in right for other in ("==", "!=")):
                return cls(_unquoted(left), _unquoted(right), sign == "==")
        raise ValueError(f"enabled is {text!r}, expected true, false or '${{env:NAME}} == value'")

    def holds(self, lookup: Lookup) -> bool:
        """The answer with the variables of now; an unset one is empty."""
        return (_filled(self.left, lookup) == _filled(self.right, lookup)) is self.equal


def _unquoted(text: str) -> str:
    said = text.strip()
    return said[1:-1] if len(said) > 1 and said[0] == said[-1] and said[0] in "'\"" else said


def _filled(text: str, lookup: Lookup) -> str:
    before, *parts = text.split("${env:")
    for part in parts:
        name, _, rest = part.partition("}")
        before += (lookup(name) or "") + rest
    return before


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is defined. Durations are seconds."""

    name: str
    schedule: Schedule
    work: JobWork
    source: JobSource = "profile"
    enabled: bool | JobCondition | Callable[[], bool] = True
    run_on_init: bool = False
    timezone: str = "UTC"
    timeout: float | None = None
    kill_after: float = 5.0
    on_overlap: Overlap = "skip"
    on_miss: Miss = "once"
    retries: int = 0
    jitter: float = 0.0
    start_deadline: float = 60.0
    ping_url: str | None = None
    on_failure: str | tuple[str, ...] | None = None
    user: str | None = None

    def is_enabled(self, lookup: Lookup = os.environ.get) -> bool:
        """True when the job is to run now."""
        if isinstance(self.enabled, JobCondition):
            return self.enabled.holds(lookup)
        return self.enabled if isinstance(self.enabled, bool) else bool(self.enabled())

    def is_due_like(self, other: Job) -> bool:
        """True when both start at the same moments."""
        schedules = (self.schedule, other.schedule)
        return (
            self.enabled == other.enabled
            and len({(schedule.canonical, schedule.zone) for schedule in schedules}) == 1
        )

    def __repr__(self) -> str:
        # A ping URL is a secret, and a command may hold one.
        return f"<Job {self.name!r} {self.schedule.text!r}>"


WORK_KEYS = ("command", "sql", "python", "katax")


def job_of(name: str, table: Mapping[str, Any], *, timezone: str, source: JobSource = "profile") -> Job:
    """The job that a table of `[cron.jobs.NAME]` describes. Raises ConfigError naming the job."""
    zone = str(table.get("timezone") or timezone)
    try:
        schedule = parse_schedule(str(table["schedule"]), zone)
        return Job(
            name=name,
            schedule=schedule,
            work=work_of(table),
            source=source,
            enabled=_enabled(table.get("enabled", True)),
            run_on_init=bool(table.get("run_on_init", False)) or isinstance(schedule, Never),
            timezone=zone,
            **_policies(table),
        )
    except ValueError as error:
        raise ConfigError(f"job {name!r}: {error}") from error


_DURATIONS = ("timeout", "kill_after", "jitter", "start_deadline")


def _policies(table: Mapping[str, Any]) -> dict[str, Any]:
    said = {key: table[key] for key in ("on_overlap", "on_miss", "ping_url", "user") if key in table}
    if table.get("on_failure"):
        value = table["on_failure"]
        said["on_failure"] = value if isinstance(value, str) else tuple(map(str, value))
    if table.get("user") and not table.get("command"):
        raise ValueError("user is for a command")
    numbers = {key: float(table[key]) for key in _DURATIONS if table.get(key) is not None}
    if "retries" in table:
        said["retries"] = int(table["retries"])
        if said["retries"] < 0:
            raise ValueError(f"retries is {said['retries']}, expected 0 or more")
    return {**said, **numbers}


def work_of(table: Mapping[str, Any]) -> JobWork:
    """The work in a job's table. Raises ValueError unless it is exactly one thing."""
    said = [key for key in WORK_KEYS if table.get(key)]
    if len(said) != 1:
        seen = " and ".join(said) or "nothing to run"
        raise ValueError(f"it has {seen}, expected one of {', '.join(WORK_KEYS)}")
    value = table[said[0]]
    if said[0] == "sql":
        return Sql(str(value), cast("str | None", table.get("connection")))
    if said[0] == "python":
        module, found, function = str(value).partition(":")
        if not (found and module and function):
            raise ValueError(f"python is {value!r}, expected package.module:function")
        return Python(str(value))
    words = value if isinstance(value, str) else tuple(map(str, value))
    return Command(words) if said[0] == "command" else KataxCommand(tuple(words))


def _enabled(value: object) -> bool | JobCondition:
    if isinstance(value, bool):
        return value
    said = str(value).strip()
    return said.lower() == "true" if said.lower() in ("true", "false") else JobCondition.parse(said)


def job_named(jobs: Iterable[Job], name: str) -> Job:
    """The job of this name. Raises ConfigError with the names that there are."""
    known = {job.name: job for job in jobs}
    if name not in known:
        raise ConfigError(unknown_name("job", name, list(known), "jobs"))
    return known[name]


def local_timezone(environ: Mapping[str, str] = os.environ) -> str:
    """The name of this machine's time zone: TZ, else what /etc/localtime points to, else UTC."""
    said = environ.get("TZ", "").lstrip(":")
    if said and not os.path.isabs(said):
        return said
    target = os.path.realpath(said or "/etc/localtime")
    _, found, name = target.partition("zoneinfo/")
    return name if found and name else "UTC"
