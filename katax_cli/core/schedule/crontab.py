"""Crontab files as cron(8) reads them, and lines for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from shlex import quote

from katax_cli.core.schedule.schedule import parse_schedule

_SETTING = re.compile(
    r"\s*(?:\"(?P<d>[^\"]+)\"|'(?P<s>[^']+)'|(?P<name>[A-Za-z_][A-Za-z0-9_]*))\s*=\s*(?P<value>.*)$"
)
_EXTENDED = re.compile(r"[#?]|\b[Ll]\d?\b")
_STDIN = re.compile(r"(?<!\\)%")
_ZONES = ("CRON_TZ", "TZ")
_INSTEAD = {
    "MAILTO": "the history keeps the output; on_failure runs a command, ping_url tells a monitor",
    "MAILFROM": "the history keeps the output",
    "RANDOM_DELAY": "jitter delays a job",
}
_USERS = re.compile(r"^#.*\buser(?:-name)?\s+command\b", re.M)


@dataclass(frozen=True, slots=True)
class CrontabLine:
    """One line: its number, schedule, and a command for the shell that brings its own variables and input."""

    line: int
    name: str
    schedule: str
    timezone: str | None
    command: str
    user: str | None = None
    words: tuple[str, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Crontab:
    """The content of a crontab; `problems` are lines that cannot be used, `notes` those without effect."""

    entries: tuple[CrontabLine, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def parse_crontab(text: str, *, user_column: bool = False) -> Crontab:
    """Every line of a crontab file, in the order of the file. Raises nothing: see `problems`.

    With `user_column` the command follows the name of a user, as in /etc/crontab.
    """
    entries: list[CrontabLine] = []
    problems: list[str] = []
    notes: list[str] = []
    settings: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        setting = _SETTING.match(line)
        if setting:
            _set(setting, settings, f"line {number}", notes)
            continue
        try:
            taken = {entry.name for entry in entries}
            entries.append(_entry(number, line, settings, taken, user_column=user_column))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    return Crontab(tuple(entries), tuple(problems), tuple(notes))


def _set(setting: re.Match[str], settings: dict[str, str], where: str, notes: list[str]) -> None:
    name = setting["d"] or setting["s"] or setting["name"]
    value = setting["value"].strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    if name in _INSTEAD:
        notes.append(f"{where}: {name} has no effect; {_INSTEAD[name]}")
    settings[name] = value


def _entry(
    number: int, line: str, settings: dict[str, str], taken: set[str], *, user_column: bool
) -> CrontabLine:
    schedule, command = _split(line)
    user = None
    if user_column:
        user, *rest = command.split(None, 1) or [""]
        command = "".join(rest)
    timezone = next((settings[name] for name in _ZONES if settings.get(name)), None)
    parse_schedule(schedule, timezone)
    if not command:
        raise ValueError(f"{line.strip()!r} has no command")
    return CrontabLine(
        number,
        _name(command, taken),
        schedule,
        timezone,
        _shell(command, settings),
        user,
        tuple(command.split(None, 2)[:2]),
    )


def says_user_column(text: str) -> bool:
    """True when a comment of the file heads a column for users, as in /etc/crontab."""
    return bool(_USERS.search(text))


def _split(line: str) -> tuple[str, str]:
    """The schedule and the rest of a line; six fields only when the sixth can be nothing else."""
    words = line.split(None, 5)
    if words[0].startswith("@"):
        size = 2 if words[0] == "@every" else 1
        rest = line.split(None, size)
        return " ".join(rest[:size]), "".join(rest[size:]).strip()
    if len(words) == 6 and re.fullmatch(r"[\d*,/-]+", words[5].split(None, 1)[0]):
        words = line.split(None, 6)
        return " ".join(words[:6]), "".join(words[6:]).strip()
    return " ".join(words[:5]), "".join(words[5:]).strip()


def _name(command: str, taken: set[str]) -> str:
    """A name made of the program's, with a number when that is taken."""
    program = next((word for word in command.split() if "=" not in word), command)
    base = re.sub(r"[^A-Za-z0-9_.-]+", "-", program.rstrip("/").rpartition("/")[2]).strip("-.") or "job"
    number, name = 1, base
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name


def _shell(command: str, settings: dict[str, str]) -> str:
    """The command with its variables, its shell and what follows an unescaped `%` as its input."""
    own, *lines = _STDIN.split(command)
    made = own.replace("\\%", "%").strip()
    shell = settings.get("SHELL")
    if shell and shell != "/bin/sh":
        made = f"{quote(shell)} -c {quote(made)}"
    if lines:
        text = "\n".join(lines).replace("\\%", "%")
        if any(mark in own for mark in ";|&"):
            made = f"{{ {made}; }}"
        made = f"printf '%s\\n' {quote(text)} | {made}"
    exports = [f"{name}={quote(value)}" for name, value in settings.items() if _exported(name)]
    return f"export {' '.join(exports)}; {made}" if exports else made


def _exported(name: str) -> bool:
    return name not in (*_INSTEAD, "SHELL", *_ZONES) and name.isidentifier()


def crontab_line(schedule: str, command: str) -> str:
    """A line for a crontab. Raises ValueError for what a crontab cannot say."""
    if "\n" in command:
        raise ValueError("its command has several lines, and a crontab has no way to write that")
    if schedule.startswith("@every"):
        raise ValueError("cron knows no @every")
    if not schedule.startswith("@") and len(schedule.split()) != 5:
        raise ValueError("it has seconds, and cron knows minutes")
    if not schedule.startswith("@") and _EXTENDED.search(schedule):
        raise ValueError("it has L, # or ?, and cron knows none of them")
    return f"{schedule} {command.replace('%', chr(92) + '%')}"


def crontab_text(lines: Iterable[tuple[str | None, str]]) -> str:
    """A file of (time zone, line) pairs; `CRON_TZ` is written where the zone changes."""
    written, current = "", None
    for timezone, line in lines:
        if timezone is not None and timezone != current:
            written += f"CRON_TZ={timezone}\n"
            current = timezone
        written += line + "\n"
    return written
