"""MongoDB databases of tests, opened by URL and closed at the end of the block."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from katax_cli.core.resilience.retry import ONCE
from katax_cli.engines.registry import load
from katax_cli.services.calls.guard import Guard
from katax_cli.services.databases.database import classify_with
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.transfer.documents.load import DocumentImport
from katax_cli.services.transfer.formats.files import FileKind
from katax_cli.services.transfer.formats.sources import RowFile
from katax_cli.services.transfer.load import ImportPlan, LoadedRows
from tests.engines.connections import settings_for


@contextmanager
def open_documents(url: str, **changes: Any) -> Iterator[MongoDatabase]:
    engine: Any = load(settings_for(url, **{"connect_timeout": 60.0, **changes}))
    with MongoDatabase(engine, Guard("main", classify_with(engine), retry=ONCE, breaker=None)) as database:
        yield database


def source(data: bytes) -> RowFile:
    return RowFile("rows", io.BytesIO(data), FileKind("jsonl", None))


def imported(database: MongoDatabase, data: bytes, plan: ImportPlan) -> LoadedRows:
    return DocumentImport(database, source(data), plan).run()


def documents_in(database: MongoDatabase, collection: str) -> list[dict[str, Any]]:
    """All of them, in the order of the text of their `_id`."""
    with database.find(collection) as batches:
        return sorted((document for batch in batches for document in batch), key=lambda one: str(one["_id"]))
