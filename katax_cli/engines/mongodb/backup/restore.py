"""Restoring on MongoDB: how mongorestore is called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class MongoRestore:
    """mongorestore reads an archive from stdin."""

    names = ("mongorestore",)
    package = "mongodb-database-tools"
    grants: Mapping[str, str] = {
        "not authorized": "the user needs the role 'restore', or 'readWrite' and 'dbAdmin' on this database"
    }

    # No bare "connect" or "EOF": collections have such names, and a torn archive ends so.
    hindered = re.compile(
        r"server selection|connecting to host|could not connect|connection\(|connection pool for"
        r"|connection (?:refused|reset|timed out)|no reachable|OutOfDiskSpace|No space left"
    )

    def words(self, dump: str, *, jobs: int, options: Iterable[str] = ()) -> tuple[str, ...]:
        return (
            "--archive",
            "--stopOnError",
            f"--numParallelCollections={jobs}",
            "--numInsertionWorkersPerCollection=1",
            *options,
        )

    def into(self, source: str, target: str) -> tuple[str, ...]:
        return (f"--nsInclude={source}.*", f"--nsFrom={source}.*", f"--nsTo={target}.*")

    def addressed(self, chunks: Iterator[bytes], *, source: str, target: str) -> Iterator[bytes]:
        return chunks


def create(engine: Any) -> MongoRestore:
    return MongoRestore()
