"""Knowledge of engines about backups of their servers: what there is to back up, and how the server's tool is called.

The module `backup.dump` of an engine gives an object for it by `create(engine)`.
"""

from __future__ import annotations

import hashlib
import platform
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from katax_cli.core.settings import ConnectionSettings


@dataclass(frozen=True, slots=True)
class Inventory:
    """The things to back up, as one session sees it.

    `server_id` stays with the server wherever it runs. `relations` are the names of tables by the server's own id,
    `unreadable` what the session's user may not read, with the reason and the remedy, `required` that of it which
    cannot be left out, `hidden` that which the tool itself leaves out for this user, `not_held` what a dump of it never
    holds.
    """

    server_version: str
    server_id: str
    database: str
    consistency: str
    relations: Mapping[str, str] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    required: Mapping[str, str] = field(default_factory=dict)
    hidden: Mapping[str, str] = field(default_factory=dict)
    not_held: Mapping[str, str] = field(default_factory=dict)
    snapshot: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Address and login for a tool: arguments without a secret, and files that only their owner may read.

    `files` are texts by name; `{folder}` in words and in the environment's values is the folder that they are put into.
    """

    words: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SchemaFacts:
    """The rest beside rows: how many things of which kind, and a hash of their definitions."""

    objects: Mapping[str, int]
    schema_hash: str


def machine() -> str:
    """The identity of this machine."""
    try:
        known = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        known = ""
    return known or f"{platform.node()}-{uuid.getnode():x}"


def address_id(settings: ConnectionSettings) -> str:
    """The identity of a server that has none of its own: its address, on this machine with that of the machine.

    Every machine has a `localhost`, and backups of many may come to one place.
    """
    hosts = [host for host, _ in settings.nodes] or [settings.host or ""]
    is_here = settings.through is None and (
        settings.embedded
        or bool(settings.path or settings.socket)
        or all(host in ("localhost", "::1") or host.startswith("127.") for host in hosts)
    )
    place = f"{machine()}\0{settings.address}" if is_here else settings.address
    return f"{settings.type}:{hashlib.sha256(place.encode()).hexdigest()[:32]}"
