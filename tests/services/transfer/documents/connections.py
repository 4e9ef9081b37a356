"""MongoDB databases of tests, opened by URL and closed at the end of the block."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.transfer.documents.load import DocumentImport
from katax_cli.services.transfer.formats.files import FileKind
from katax_cli.services.transfer.formats.sources import RowFile
from katax_cli.services.transfer.import_run import ImportPlan, LoadedRows
from tests.services.connections import open_database


@contextmanager
def open_documents(url: str, **changes: Any) -> Iterator[MongoDatabase]:
    with open_database(url, **{"connect_timeout": 60.0, **changes}) as database:
        yield database


def source(data: bytes) -> RowFile:
    return RowFile("rows", io.BytesIO(data), FileKind("jsonl", None))


def imported(database: MongoDatabase, data: bytes, plan: ImportPlan) -> LoadedRows:
    return DocumentImport(database, source(data), plan).run()


def documents_in(database: MongoDatabase, collection: str) -> list[dict[str, Any]]:
    """All of them, in the order of the text of their `_id`."""
    with database.find(collection) as batches:
        return sorted((document for batch in batches for document in batch), key=lambda one: str(one["_id"]))
