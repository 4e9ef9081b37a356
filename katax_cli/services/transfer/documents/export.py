"""The documents of a collection as lines of canonical Extended JSON, as they arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from katax_cli.engines.documents import Document
from katax_cli.errors import ConfigError, KataxError
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.transfer.documents.collections import Collections
from katax_cli.services.transfer.formats.files import Format


def check_format(format: Format) -> None:
    """Raises ConfigError for what would lose the types of documents."""
    if format != "jsonl":
        raise ConfigError(
            f"{format} has no types for documents; use jsonl, which keeps every one "
            "('katax db find COLL -f csv' prints their cells)"
        )


def export_documents(
    database: MongoDatabase,
    collection: str,
    filter: Document,
    stream: BinaryIO,
    *,
    on_rows: Callable[[int], object] = lambda _: None,
) -> int:
    """Writes the documents that match and returns their number; holds a batch of them at a time.

    MongoDB gives each as it was when it was read, of no one moment. Raises KataxError for a collection that is not
    there, and for a document that would read back as another one.
    """
    collections = Collections(database)
    collections.existing(collection)
    line, count = collections.moves.line, 0
    with collections.read(collection, filter) as batches:
        for batch in batches:
            for document in batch:
                try:
                    stream.write(line(document.raw))
                except ValueError as error:
                    shown = collections.moves.shown(collections.moves.last_id(document.raw))
                    where = f"the document {shown} of {collection!r}"
                    raise KataxError(f"{where} {error}; leave it out by --filter") from error
            count += len(batch)
            on_rows(count)
    return count
