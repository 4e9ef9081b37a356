"""MongoDB by `mongodump --archive`: its stream compressed and counted as it comes."""

from __future__ import annotations

from katax_cli.engines.dumps import Inventory
from katax_cli.engines.registry import part
from katax_cli.errors import BackupError
from katax_cli.services.backup.dumps.archive_documents import ArchiveDocuments
from katax_cli.services.backup.dumps.order import Order, ProvenDump
from katax_cli.services.backup.streams import compressed_file
from katax_cli.services.backup.tools import find_tool, run_tool, secret_files

DUMP = "dump.archive.zst"
PACKAGE = "mongodb-database-tools"


def dump_mongodb(order: Order) -> ProvenDump:
    """Runs mongodump for the connection's database, and believes it only when every collection ended."""
    ability = part(order.database.engine, "backup.dump")
    inventory: Inventory = order.ask(ability.inventory)
    tool = find_tool(["mongodump"], folder=order.tools, package=PACKAGE)
    left_out = order.omissions(inventory)
    documents = ArchiveDocuments()
    with compressed_file(order.folder / DUMP) as file, secret_files(ability.credentials()) as credentials:
        words = [tool.path, *credentials.words, f"--db={inventory.database}", "--archive", "--quiet"]
        try:
            run_tool(
                order.work, words, credentials, read=lambda output: order.keep(output, file, documents.take)
            )
        except ValueError as error:
            raise BackupError(f"mongodump wrote what cannot be read: {error}") from error
        if not documents.is_complete:
            raise BackupError("mongodump ended, and its archive did not")
        written = file.close()
    return ProvenDump(
        inventory=inventory,
        tool=str(tool),
        files=(written,),
        rows=dict(sorted(documents.counts.items())),
        left_out=left_out,
    )
