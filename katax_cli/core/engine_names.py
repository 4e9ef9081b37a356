"""The kinds of servers, and which of them have an ability: each list once, in the order in which messages name them."""

from __future__ import annotations

from typing import Literal, get_args

EngineName = Literal["postgresql", "mysql", "sqlite", "mongodb", "redis"]
Dialect = Literal["postgresql", "mysql", "sqlite"]

ENGINE_NAMES: tuple[EngineName, ...] = get_args(EngineName)
SQL_ENGINES: tuple[Dialect, ...] = get_args(Dialect)
TABLE_ENGINES: tuple[EngineName, ...] = (*SQL_ENGINES, "mongodb")
"""Those with tables or collections: they have migrations and seeds."""
SERVER_ENGINES: tuple[EngineName, ...] = ("postgresql", "mysql", "mongodb", "redis")
"""Those with a process of their own, whose sessions and slow statements can be listed."""
SQL_SERVERS: tuple[Dialect, ...] = ("postgresql", "mysql")
"""Those with locks of sessions, poolers and replicas."""
LOCK_ENGINES: tuple[EngineName, ...] = ("redis", *SQL_SERVERS)
EMBEDDED_ENGINES: tuple[EngineName, ...] = ("sqlite", "redis")
"""Served by katax's own process, or by a server that it starts."""
