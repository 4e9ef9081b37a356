"""The services of katax that a profile can run, and how each is started for a drill."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from katax_cli.profiles.model.model import Profile


class Service(NamedTuple):
    """One service: the program, and where it answers whether it takes work."""

    name: str
    command: tuple[str, ...]
    url: str


def own_services(profile: Profile, *, port: Callable[[], int]) -> Iterator[Service]:
    """The cron daemon, `health serve`, and a `ws serve` for each Socket.IO server, or for the one that needs no table.

    Each is on a port of its own.
    """
    yield _service(profile, "cron run-daemon", "--metrics-port", port())
    yield _service(profile, "health serve", "--port", port())
    for name in profile.ws or ("",):
        yield _service(profile, f"ws serve {name}".strip(), "--port", port())


def _service(profile: Profile, words: str, option: str, port: int) -> Service:
    program = (sys.executable, "-m", "katax_cli", "-p", profile.name)
    return Service(words, (*program, *words.split(), option, str(port)), f"http://127.0.0.1:{port}/ready")
