"""Redis by SCAN, DUMP and PTTL: every key that is there from beginning to end, each as it is when it is read.

No right to replicate is needed, and values go back by RESTORE into any server that is not older. It is not the state of
one moment; the manifest says so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, Literal

from katax_cli.core.resilience.failure import Failure
from katax_cli.engines.dumps import Inventory, address_id
from katax_cli.errors import BackupError, QueryError
from katax_cli.services.backup.dumps.key_stream import HEAD, StoredKey, end_mark, packed
from katax_cli.services.backup.dumps.order import Order, ProvenDump
from katax_cli.services.backup.streams import CompressedFile, compressed_file
from katax_cli.services.calls.guard import Safety
from katax_cli.services.redis.info import evicted_keys, server_infos

DUMP = "dump.redis.zst"
_SCAN_COUNT = 500
_MOST = 500
_GONE = -2
"""PTTL's answer for a key that is not there; -1: it has no end."""
_BYTES_AT_ONCE = 4 * 2**20
"""Values of one round trip, as far as those of the one before tell."""
_CONSISTENCY = (
    "no single moment: each key as it was when it was read; those that came or went meanwhile may be in it"
)
_HIDDEN = {"functions": "no right to see them; grant +function|dump and +function|list"}
_NOT_HELD = {
    "users and their rights (ACL), configuration": "they are of the whole server; use ACL LIST and CONFIG GET",
    "other databases of the server": "a backup is of one database number",
}


def dump_redis(order: Order) -> ProvenDump:
    """Reads all keys of the connection's database, whatever prefix it has."""
    before = server_infos(order.database)
    inventory = _inventory(order, before)
    with compressed_file(order.folder / DUMP) as file, closing(_SeenNames(order)) as known:
        file.write(HEAD)
        functions = _write_functions(order, file)
        reader = _KeyReader(order, known)
        for key in reader.read():
            file.write(packed(key))
            order.told(file.size_bytes)
        file.write(end_mark(reader.count))
        written = file.close()
    after = server_infos(order.database)
    if identities(before) != identities(after):
        raise BackupError(
            f"{order.name!r}: the server was restarted or replaced while its keys were read; try again"
        )
    hidden = _HIDDEN if functions == "hidden" else {}
    unreadable = {**hidden, **reader.refused(), **_evicted(before, after)}
    return ProvenDump(
        inventory=inventory,
        tool="DUMP",
        files=(written,),
        rows={"keys": reader.count},
        objects={"functions": 1} if functions == "written" else {},
        left_out=order.omissions(replace(inventory, unreadable=unreadable)),
    )


def _inventory(order: Order, infos: Sequence[Any]) -> Inventory:
    settings = order.database.settings
    number = settings.database or "0"
    return Inventory(
        server_version=str(infos[0].get("redis_version", "")),
        # A server has no identity that outlives a restart: its address stands for it.
        server_id=address_id(settings),
        database=number,
        consistency=_CONSISTENCY,
        not_held=_NOT_HELD,
    )


def identities(infos: Sequence[Any]) -> list[tuple[str, str]]:
    """Which processes answered, and in which role: others after a restart or a failover."""
    return sorted((info.get("run_id", ""), info.get("role", "")) for info in infos)


def _evicted(before: Sequence[Any], after: Sequence[Any]) -> Mapping[str, str]:
    """The keys that the server threw away meanwhile; a large value that is read takes its memory a second time."""
    count = sum(evicted_keys(after)) - sum(evicted_keys(before))
    if count <= 0:
        return {}
    why = "it is at its maxmemory, and values that are read take memory, too; raise it, or back up a replica"
    return {f"{count} keys that the server evicted meanwhile": why}


def _write_functions(order: Order, file: CompressedFile) -> Literal["written", "none", "hidden"]:
    """The libraries of functions, of the first server; servers before 7 have none."""
    shard = order.database.shards()[0]
    try:
        dump = order.database.redis("FUNCTION", "DUMP", safety=Safety.READ, shard=shard)
        listed = order.database.redis("FUNCTION", "LIST", safety=Safety.READ, shard=shard)
    except QueryError as error:
        if "unknown command" in str(error).lower():
            return "none"
        if "no permissions" in str(error).lower():
            return "hidden"
        raise
    if listed:
        file.write(packed(StoredKey(None, None, dump)))
    return "written" if listed else "none"


class _KeyReader:
    """Keys with their values and lifetimes, each once; counts those that may not be read."""

    def __init__(self, order: Order, known: _SeenNames) -> None:
        self._order = order
        self._known = known
        self._batch = 1
        self._refused: tuple[bytes, str] | None = None
        self._refused_count = 0
        self.count = 0

    def read(self) -> Iterator[StoredKey]:
        for shard in self._order.database.shards():
            for names in self._pages(shard):
                fresh = self._known.fresh(names)
                while fresh:
                    self._order.work.check()
                    names, fresh = fresh[: self._batch], fresh[self._batch :]
                    yield from self._values(names)

    def refused(self) -> Mapping[str, str]:
        """The keys that may not be read, and why."""
        if self._refused is None:
            return {}
        name, why = self._refused
        what = f"{self._refused_count} keys, the first {name.decode(errors='backslashreplace')!r}"
        return {what: f"{why}; grant their names to the user (ACL SETUSER … ~*)"}

    def _pages(self, shard: Any) -> Iterator[list[bytes]]:
        cursor = b"0"
        while True:
            self._order.work.check()
            cursor, names = self._order.database.redis(
                "SCAN", cursor, "COUNT", _SCAN_COUNT, safety=Safety.READ, shard=shard
            )
            yield names
            if cursor in (b"0", 0):
                return

    def _values(self, names: Sequence[bytes]) -> Iterator[StoredKey]:
        # A key that ends between the two has no end to ask for: asked first, one made anew would seem to last for ever.
        commands = [command for name in names for command in (("DUMP", name), ("PTTL", name))]
        [seconds, micros], *_ = self._order.database.pipeline([("TIME",)], safety=Safety.READ)
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        replies = self._order.database.pipeline(commands, safety=Safety.READ, tolerant=True)
        size = 0
        for name, value, ttl_ms in zip(names, replies[0::2], replies[1::2], strict=True):
            refused = next((reply for reply in (value, ttl_ms) if isinstance(reply, Failure)), None)
            if refused is not None:
                self._refuse(name, refused)
            elif value is not None and ttl_ms != _GONE:
                size += len(value)
                self.count += 1
                yield StoredKey(name, None if ttl_ms < 0 else now_ms + ttl_ms, value)
        self._batch = max(1, min(_MOST, 2 * self._batch, len(names) * _BYTES_AT_ONCE // (size or 1)))

    def _refuse(self, name: bytes, failure: Failure) -> None:
        if failure.code != "NOPERM":
            raise BackupError(f"{self._order.name!r}: the server does not give a key: {failure.message}")
        self._refused_count += 1
        self._refused = self._refused or (name, failure.message)


class _SeenNames:
    """The names that SCAN gave already, for it may repeat them: in a file, for there may be many."""

    def __init__(self, order: Order) -> None:
        self._path = order.folder / "names"
        self._file = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        with _disk_errors():
            self._file.execute("PRAGMA journal_mode = OFF")
            self._file.execute("PRAGMA synchronous = OFF")
            self._file.execute("CREATE TABLE names (name blob PRIMARY KEY) WITHOUT ROWID")

    def fresh(self, names: Sequence[bytes]) -> list[bytes]:
        """Those that were not given before."""
        sql = "INSERT OR IGNORE INTO names VALUES (?)"
        with _disk_errors():
            self._file.execute("BEGIN")
            fresh = [name for name in names if self._file.execute(sql, (name,)).rowcount]
            self._file.execute("COMMIT")
        return fresh

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise BackupError(f"cannot write the names of the keys: {error}") from error
