"""MySQL and MariaDB by mysqldump or mariadb-dump: one transaction, its stream compressed and counted as it comes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from katax_cli.engines.dumps import Inventory, SchemaFacts
from katax_cli.engines.registry import part
from katax_cli.errors import BackupError
from katax_cli.services.backup.dumps.order import Order, ProvenDump
from katax_cli.services.backup.dumps.sql_rows import SqlRows
from katax_cli.services.backup.streams import compressed_file, opened
from katax_cli.services.backup.tools import Tool, find_tool, refuse_older, run_tool, secret_files

DUMP = "dump.sql.zst"
MARIADB, MYSQL = ("mariadb-dump", "mysqldump"), ("mysqldump", "mariadb-dump")
PACKAGE = "mariadb-client or default-mysql-client (Debian, Ubuntu), mysql-client (Homebrew)"
_WORDS = (
    "--single-transaction",
    "--quick",
    "--skip-add-locks",  # between them no row gets its number from a sequence
    "--hex-blob",
    "--no-tablespaces",
    "--default-character-set=utf8mb4",
    "--max-allowed-packet=1G",
)
_ONLY_MYSQL = ("--set-gtid-purged=OFF", "--column-statistics=0")


def dump_mysql(order: Order) -> ProvenDump:
    """Runs the tool, compresses what it writes, and believes it only with its end mark."""
    with order.silence.watching_server(order.database):
        return _dumped(order)


def _dumped(order: Order) -> ProvenDump:
    ability = part(order.database.engine, "backup.dump")
    inventory: Inventory = order.ask(ability.inventory)
    tool = dump_tool(inventory, order.tools)
    left_out = order.omissions(inventory)
    before, schema = order.ask(ability.marks), _schema(order, ability, inventory)
    rows = SqlRows(inventory.relations)
    with compressed_file(order.folder / DUMP) as file, secret_files(ability.credentials()) as credentials:
        # The option file has to come first.
        words = [tool.path, *credentials.words, *_words(tool, inventory), "--", inventory.database]
        run_tool(order.work, words, credentials, read=lambda output: order.keep(output, file, rows.take))
        if not rows.is_complete:
            raise BackupError(f"{tool.name} ended without its end mark")
        written = file.close()
    after = order.ask(ability.marks)
    _refuse_changed(order, before, after)
    late = after.keys() - before.keys()
    if _schema(order, ability, inventory, late) != schema or _names(order.folder / DUMP, late):
        raise BackupError(
            f"{order.name!r}: tables, triggers, routines or events were made or changed while it was dumped; "
            "try again when no migration runs"
        )
    return ProvenDump(
        inventory=inventory,
        tool=str(tool),
        files=(written,),
        rows=dict(sorted(rows.counts.items())),
        objects=schema.objects,
        schema_hash=schema.schema_hash,
        left_out=left_out,
    )


def dump_tool(inventory: Inventory, folder: str | None) -> Tool:
    """The tool of the server's maker, which may not be older. Raises ConfigError with what to install."""
    is_mariadb = "mariadb" in inventory.server_version.lower()
    tool = find_tool(MARIADB if is_mariadb else MYSQL, folder=folder, package=PACKAGE)
    if tool.is_mariadb == is_mariadb:
        refuse_older(tool, inventory.server_version, parts=2, package=PACKAGE)
    return tool


def _words(tool: Tool, inventory: Inventory) -> list[str]:
    words = [*_WORDS]
    for what in ("triggers", "events", "routines"):
        words.append(f"--skip-{what}" if what in inventory.unreadable else f"--{what}")
    return words if tool.is_mariadb else [*words, *_ONLY_MYSQL]


def _schema(order: Order, ability: Any, inventory: Inventory, without: Collection[str] = ()) -> SchemaFacts:
    facts: SchemaFacts = order.ask(partial(ability.schema, without=without, left_out=inventory.unreadable))
    return facts


def _names(dump: Path, tables: Collection[str]) -> bool:
    """True when the dump has a line that ends with one of these names, as the heading of each table does."""
    endings = ["`{}`\n".format(name.replace("`", "``")).encode() for name in tables]
    overlap = max(map(len, endings), default=0)
    rest = b""
    with opened(dump) as pieces:
        for piece in pieces if endings else ():
            text = rest + piece
            if any(ending in text for ending in endings):
                return True
            rest = text[-overlap:]
    return False


def _refuse_changed(order: Order, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """The tool holds tables only while it reads them. Those that came meanwhile are not in the dump."""
    changed = sorted(name for name, mark in before.items() if after.get(name) != mark)
    if changed:
        raise BackupError(
            f"{order.name!r}: changed while it was dumped: {', '.join(changed[:10])}; try again when no migration runs"
        )
