"""Connections that the environment names and the profile does not read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from katax_cli.profiles.model.model import Profile
from katax_cli.profiles.sources.environment import Environment, variables
from katax_cli.profiles.sources.find import URL_VARIABLES

_READ = (*URL_VARIABLES, "KATAX_ROLE")


def unused_note(profile: Profile, *, environ: Mapping[str, str] | None = None) -> str | None:
    """`DATABASE_URL is set; profile 'dev' is used`, for variables of the profile `env` that count for nothing."""
    # The built-in `env` reads them; a connection by URL was asked for instead.
    if profile.name == "env" and profile.source is None:
        return None
    environment = Environment(os.environ if environ is None else environ, profile.folder, [])
    read = {name for layer in profile.layers for text in _texts(layer.table) for name in variables(text)}
    unread = [name for name in _READ if name not in read and environment.get(name)]
    if not unread:
        return None
    names = " and ".join(filter(None, [", ".join(unread[:-1]), unread[-1]]))
    return f"{names} {'is' if len(unread) == 1 else 'are'} set; profile {profile.name!r} is used"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
