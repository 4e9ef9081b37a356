"""The kinds of connections that commands fit. Imports no Typer: completion asks for them at every TAB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from katax_cli.core.engine_names import ENGINE_NAMES, SQL_ENGINES, TABLE_ENGINES, EngineName


class Target(NamedTuple):
    """The connection of a command when none is named: the preferred name, else the only fitting one.

    `instead`: the commands to use on an engine that does not fit.
    """

    types: tuple[EngineName, ...]
    preferred: str
    lacks: str = "such ability"
    instead: Mapping[str, str] = {}


ANY = Target(types=ENGINE_NAMES, preferred="main")
SQL = Target(
    types=SQL_ENGINES,
    preferred="main",
    lacks="SQL",
    instead={"mongodb": "'katax db find', 'db aggregate' or 'db command'"},
)
TABLES = Target(types=TABLE_ENGINES, preferred="main", lacks="tables")
REDIS = Target(types=("redis",), preferred="cache", lacks="Redis commands")
