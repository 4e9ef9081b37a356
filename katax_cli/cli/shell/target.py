"""The kinds of connections that commands fit. Imports no Typer: completion asks for them at every TAB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from katax_cli.core.engine_names import EngineName


class Target(NamedTuple):
    """The connection of a command when none is named: the preferred name, else the only fitting one.

    `instead`: the commands to use on an engine that does not fit.
    """

    types: tuple[EngineName, ...]
    preferred: str
    lacks: str = "such ability"
    instead: Mapping[str, str] = {}


REDIS = Target(types=("redis",), preferred="cache", lacks="Redis commands")
