"""Making a backup: by the way of its engine, into a folder that gets its name when all of it is proven."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from katax_cli.core.clock import utc_text
from katax_cli.errors import WrongEngine
from katax_cli.services.backup.dumps.order import Order, ProvenDump
from katax_cli.services.backup.folder import name_of
from katax_cli.services.backup.manifest import Manifest, Omission, write_manifest
from katax_cli.services.backup.sealing import Recipients
from katax_cli.services.backup.store.base import BackupStore
from katax_cli.services.backup.work import StoppableWork

_WAYS: Mapping[str, tuple[str, str]] = {
    "postgresql": ("pg_dump", "dump_postgresql"),
    "mysql": ("mysqldump", "dump_mysql"),
    "mongodb": ("mongodump", "dump_mongodb"),
    "redis": ("redis_keys", "dump_redis"),
    "sqlite": ("sqlite_copy", "dump_sqlite"),
}
_MOST_JOBS = 4


class BackupMade(NamedTuple):
    """A whole backup: its folder or URL, and its manifest."""

    path: Path | str
    manifest: Manifest


def create_backup(
    database: Any,
    store: BackupStore,
    *,
    work: StoppableWork,
    recipients: Sequence[str] = (),
    jobs: int | None = None,
    allow_missing: bool = False,
    tools: str | None = None,
    told: Callable[[int], object] = lambda _: None,
) -> BackupMade:
    """Backs a database up into a store, which has a backup of that name only if all of it was proven.

    It is encrypted for `recipients`, the public keys of age, if there are any. `jobs` are parallel workers of
    PostgreSQL's tool (default: one for each processor, four at the most). Raises BackupError when something cannot be
    read and `allow_missing` was not said, or when the end of the dump was not proven; ConfigError for a tool that is
    missing or too old.
    """
    engine = database.settings.type
    if engine not in _WAYS:
        raise WrongEngine(engine, "backups", wanted_by="db backup", works_on=tuple(_WAYS))
    module, function = _WAYS[engine]
    way: Callable[[Order], ProvenDump] = getattr(
        import_module(f"katax_cli.services.backup.dumps.{module}"), function
    )
    sealer = Recipients(recipients) if recipients else None
    started = utc_text()
    # Its server may fall silent while those of others go on.
    mine = StoppableWork(database.name, work.deadline)
    with (
        work.active(),
        work.stopping(database.cancel_running),
        work.stopping(mine.stop),
        store.new_folder(database.name) as folder,
    ):
        order = Order(
            database=database,
            folder=folder,
            work=mine,
            jobs=jobs or min(_MOST_JOBS, os.cpu_count() or 1),
            allow_missing=allow_missing,
            tools=tools,
            told=told,
        )
        dumped = way(order)
        if sealer is not None:
            dumped = replace(dumped, files=sealer.seal(folder, dumped.files, work))
        manifest = _manifest(name_of(folder), order, dumped, started)
        if sealer is not None:
            manifest = replace(manifest, encryption=sealer.encryption)
        write_manifest(folder, manifest)
        work.check()
        return BackupMade(store.publish(folder, manifest), manifest)


def _manifest(name: str, order: Order, dumped: ProvenDump, started: str) -> Manifest:
    inventory = dumped.inventory
    return Manifest(
        name=name,
        engine=order.database.settings.type,
        server_version=inventory.server_version,
        server_id=inventory.server_id,
        database=inventory.database,
        connection=order.name,
        tool=dumped.tool,
        katax_version=version("katax"),
        started_at=started,
        finished_at=utc_text(),
        consistency=inventory.consistency,
        files=dumped.files,
        rows=dumped.rows,
        objects=dumped.objects,
        schema_hash=dumped.schema_hash,
        left_out=dumped.left_out,
        not_held=tuple(Omission(what, why) for what, why in inventory.not_held.items()),
    )
