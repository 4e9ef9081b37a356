"""SQLite by its backup API: a copy of the file in one snapshot, checked by SQLite itself, then compressed."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from katax_cli.engines.registry import part
from katax_cli.errors import BackupError
from katax_cli.services.backup.dumps.order import Order, ProvenDump
from katax_cli.services.backup.manifest import DumpFile
from katax_cli.services.backup.streams import compressed_file

DUMP = "dump.sqlite.zst"


def dump_sqlite(order: Order) -> ProvenDump:
    """Copies, checks, counts and compresses. Raises BackupError when the file is damaged or stays locked."""
    from katax_cli.engines.sqlite.backup.dump import contents

    ability = part(order.database.engine, "backup.dump")
    inventory = ability.inventory()
    scratch = order.folder / "copy"
    scratch.mkdir()
    copy = scratch / "copy.sqlite"

    def on_page(left: int, pages: int) -> None:
        order.work.check()
        order.told(copy.stat().st_size if copy.exists() else 0)

    try:
        ability.copy(copy, on_page)
        found = contents(copy, stopped=lambda: order.work.stopped)
    except sqlite3.Error as error:
        raise BackupError(f"{order.name!r} cannot be copied: {error}") from error
    file = _compressed(order, copy)
    shutil.rmtree(scratch)
    return ProvenDump(
        inventory=inventory,
        tool=f"SQLite {sqlite3.sqlite_version}",
        files=(file,),
        rows=found.rows,
        objects=found.objects,
        schema_hash=found.schema_hash,
    )


def _compressed(order: Order, copy: Path) -> DumpFile:
    with copy.open("rb") as source, compressed_file(order.folder / DUMP) as target:
        order.keep(source, target)
        return target.close()
