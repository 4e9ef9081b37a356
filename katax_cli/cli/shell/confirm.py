"""Asks before something is lost: y/N where that is enough, the connection's full name on production."""

from __future__ import annotations

import os
from contextlib import suppress
from io import UnsupportedOperation
from select import select
from typing import BinaryIO

from katax_cli.cli.shell.invocation import Invocation
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.roles import YES_CONFIRMS, Tier, needed
from katax_cli.core.settings import ConnectionSettings
from katax_cli.errors import Refused
from katax_cli.profiles.model.model import Profile

__all__ = ["Tier", "agreed", "agrees", "confirm", "refuse_unnamed"]

_MOST_READ = 4096
_BUILT_IN = {"local": "the built-in profile", "env": "the profile of the URLs in .env"}


def refuse_unnamed(call: Invocation, profile: Profile) -> None:
    """Raises Refused on the profiles `local`, and `env` of a `.env` file, unless they were named.

    A container without its configuration must not succeed on an empty file, nor a checkout with a `.env` of
    production change it.
    """
    if profile.explicit or profile.source is not None:
        return
    if profile.name in _BUILT_IN:
        kind = _BUILT_IN[profile.name]
        raise Refused(f"{call.command!r} uses {kind} only when it is named; repeat with -p {profile.name}")


def confirm(
    call: Invocation,
    profile: Profile,
    settings: ConnectionSettings,
    tier: Tier,
    what: str,
    *,
    typed: bool = False,
) -> None:
    """Returns when the change may be made. Raises Refused, saying how to confirm.

    `typed`: the connection's full name is asked for in any role.
    """
    settings.refuse_read_only()
    name = f"{profile.name}/{settings.name}"
    wanted = "name" if typed else needed(profile.role, tier)
    if _confirmed(call, name) or wanted == "nothing":
        return
    if wanted == "yes":
        if not (call.shared.yes or agrees(call, f"{what} on {name}?")):
            raise Refused(f"{what} on {name!r} needs confirmation; repeat with --yes{_role_hint(profile)}")
        return
    kind = "" if typed else ", a prod connection"
    if _answer(call, f"{what} on {name}{kind}. Type {name} to go on: ") != name:
        why = f"{what} on {name!r} needs its name" if typed else f"{settings.name!r} is a prod connection"
        raise Refused(f"{why}; repeat with --confirm {name}{'' if typed else _role_hint(profile)}")


def agreed(call: Invocation, profile: Profile, settings: ConnectionSettings) -> bool:
    """True when `--yes` or `--confirm` agreed beforehand to what is asked. Raises Refused for another name's."""
    return _confirmed(call, f"{profile.name}/{settings.name}") or call.shared.yes


def agrees(call: Invocation, question: str, *, within: float | None = None) -> bool | None:
    """The answer of the person at the terminal to a question of y/N; None: none came `within` seconds."""
    answer = _answer(call, f"{question} [y/N] ", within=within)
    return None if answer is None else answer.lower() in ("y", "yes")


def _confirmed(call: Invocation, name: str) -> bool:
    """True for `--confirm` of this name, and for `--yes` in a job that a file of the project defines."""
    given = call.shared.confirm
    if given is not None and given != name:
        raise Refused(f"--confirm is {given!r}, expected {name!r}")
    return given == name or (call.shared.yes and bool(os.environ.get(YES_CONFIRMS)))


def _role_hint(profile: Profile) -> str:
    """A hint on how to declare that the servers of the environment's URLs are not production."""
    from_urls = profile.name == "env" and profile.source is None and profile.role == "prod"
    return ", or set KATAX_ROLE=dev when it is no production" if from_urls else ""


def _answer(call: Invocation, question: str, *, within: float | None = None) -> str | None:
    """The answer of a person at the terminal; empty without a terminal, None: no answer came `within` seconds."""
    if not call.streams.interactive:
        return ""
    call.out.show()
    if within is not None:
        _forget_typed(call.streams.stdin)
    call.diagnostics.ask(question)
    stdin = call.streams.stdin
    line = stdin.readline() if within is None else line_within(stdin, within)
    if line is None:
        call.diagnostics.ask("\n")
        return None
    # What was not ended by the person may be less than what was meant.
    return line.decode("utf-8", "replace").strip() if line.endswith(b"\n") else ""


def _forget_typed(stream: BinaryIO) -> None:
    """Throws away what was typed before a question that shows something: it is no answer."""
    import termios

    with suppress(UnsupportedOperation, termios.error):
        termios.tcflush(stream, termios.TCIFLUSH)


def line_within(stream: BinaryIO, seconds: float) -> bytes | None:
    """A line, or what stands before the end of the input; None when neither came in time.

    A terminal hands out what was typed before Ctrl-D, and another program's mode of it each key: no line yet. A stream
    without a descriptor never waits.
    """
    try:
        descriptor = stream.fileno()
    except UnsupportedOperation:
        return stream.readline()
    deadline, line = Deadline(seconds), b""
    while not line.endswith(b"\n"):
        if not select([descriptor], [], [], deadline.remaining())[0]:
            return None
        part = os.read(descriptor, _MOST_READ)
        if not part:
            break
        line += part
    return line
