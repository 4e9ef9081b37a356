"""Documents are counted in the archive, however it is cut into pieces; one that is cut short is not complete."""

import struct

import bson
import pytest

from katax_cli.services.backup.dumps.archive_documents import ArchiveDocuments

END = b"\xff\xff\xff\xff"


def head(collection: str, *, ends: bool = False) -> bytes:
    crc = {"CRC": bson.Int64(7)} if ends else {"CRC": bson.Int64(0)}
    return bytes(bson.encode({"db": "app", "collection": collection, "EOF": ends, **crc}))


def documents(*values: object) -> bytes:
    return b"".join(bytes(bson.encode({"_id": number, "v": value})) for number, value in enumerate(values))


ARCHIVE = b"".join(
    (
        struct.pack("<I", 0x8199E26D),
        bytes(bson.encode({"concurrent_collections": 4, "version": "0.1", "server_version": "7.0.1"})),
        bytes(bson.encode({"db": "app", "collection": "users", "metadata": "{}", "size": 0, "type": "collection"})),
        bytes(bson.encode({"db": "app", "collection": "heat", "metadata": "{}", "size": 0, "type": "timeseries"})),
        END,
        head("users") + documents("x" * 300, END) + END,
        head("orders") + documents(1.5) + END,
        head("users") + documents({"a": [1]}) + END,
        head("system.buckets.heat") + documents("a") + END,
        head("system.buckets.heat", ends=True) + END,
        head("orders", ends=True) + END,
        head("empty", ends=True) + END,
        head("users", ends=True) + END,
    )
)  # fmt: skip


def test_documents_are_counted_wherever_the_archive_is_cut() -> None:
    for size in (1, 3, 64, len(ARCHIVE)):
        archive = ArchiveDocuments()
        for at in range(0, len(ARCHIVE), size):
            archive.take(ARCHIVE[at : at + size])
        assert archive.counts == {"users": 3, "orders": 1, "empty": 0, "system.buckets.heat": 1}
        assert archive.is_complete


def test_an_archive_without_its_end_is_not_complete() -> None:
    last = len(head("users", ends=True) + END)
    for length in range(len(ARCHIVE)):
        archive = ArchiveDocuments()
        archive.take(ARCHIVE[:length])
        assert not archive.is_complete, length
    archive = ArchiveDocuments()
    archive.take(ARCHIVE[:-last])
    assert not archive.is_complete, "users did not end"


def test_what_is_no_archive_is_refused() -> None:
    with pytest.raises(ValueError, match="it is no archive of mongodump"):
        ArchiveDocuments().take(b"BSON" * 10)
    with pytest.raises(ValueError, match="it has a document of 1 bytes"):
        ArchiveDocuments().take(ARCHIVE[:4] + struct.pack("<i", 1))
