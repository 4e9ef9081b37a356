"""A database number of Redis that a restore fills: a key in it says that it is not whole yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import cast

from katax_cli.core.resilience.failure import Failure
from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.restores import DumpHead
from katax_cli.errors import BackupError, BackupHindered, ConfigError, KataxError, QueryError, Refused
from katax_cli.services.backup.dumps.key_stream import StoredKey, stored_keys
from katax_cli.services.backup.dumps.redis_keys import identities
from katax_cli.services.backup.restore.destination import MARKER
from katax_cli.services.backup.restore.load import Loader, RestoreOrder
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.info import evicted_keys, server_infos
from katax_cli.services.tables.scratch import is_abandoned, new_name

_MOST_KEYS, _MOST_BYTES = 500, 2**20
"""Of one round trip; a single value may have more bytes."""


class RedisNumber:
    """A database number, filled in place; it is empty again when that fails."""

    def __init__(self, order: RestoreOrder, target: str | None) -> None:
        """Without a target the number of the connection, for a drill."""
        settings = order.database.settings
        self._order = order
        self._maker = new_name(order.purpose)
        self._is_made = self._is_of_killed = False
        self.target = (settings.database or "0") if target is None else target
        self.settings: ConnectionSettings = replace(
            settings, name=f"{settings.name}/{self.target}", database=self.target
        )

    def refuse(self, *, swap: bool) -> bool:
        if swap:
            raise ConfigError(
                "redis cannot rename a database, so none takes the place of another; "
                "restore into another number without --swap, and point the connection at it"
            )
        if not self.target.isdecimal():
            raise ConfigError(
                f"{self.target!r} is no number of a database; redis has numbers, usually 0 to 15"
            )
        with self._open() as redis:
            maker = redis.redis("GET", MARKER)
            size = int(redis.redis("DBSIZE"))
        if maker is not None:
            self._is_of_killed = is_abandoned(maker.decode("utf-8", "replace"), self._order.purpose)
            if not self._is_of_killed:
                raise Refused(
                    f"database {self.target} of {self._order.database.name!r} is being restored by "
                    f"{maker.decode('utf-8', 'replace')}, or that was killed elsewhere; flush it"
                )
        else:
            self._is_of_killed = False
            self._refuse_keys(size)
        return False

    def _refuse_keys(self, size: int) -> None:
        if size:
            raise Refused(
                f"database {self.target} of {self._order.database.name!r} is not empty, it has {size:,} "
                f"key{'s' * (size != 1)}; restore into another number"
            )

    def make(self, head: DumpHead | None) -> None:
        self.refuse(swap=False)  # while a confirmation was waited for others may have come
        with self._open() as redis:
            if self._is_of_killed:
                self._empty(redis)
            if redis.redis("SET", MARKER, self._maker, "NX") is None:
                raise self._taken()
            if size := int(redis.redis("DBSIZE")) - 1:
                redis.redis("DEL", MARKER)
                self._refuse_keys(size)
            self._is_made = True

    def _empty(self, redis: RedisDatabase) -> None:
        """Empties what a killed one left. Others may have found it at the same moment: one takes its marker, and who
        comes later gives that back."""
        maker = redis.redis("GETSET", MARKER, self._maker)
        if maker is None:
            redis.redis("DEL", MARKER)
        elif not is_abandoned(maker.decode("utf-8", "replace"), self._order.purpose):
            redis.redis("SET", MARKER, maker)
            raise self._taken()
        else:
            redis.redis("FLUSHDB", "ASYNC")
            self._order.tell(
                f"emptied database {self.target}, which a killed {self._order.purpose} left half full"
            )

    def _taken(self) -> Refused:
        return Refused(f"database {self.target} is being restored by another process; name another number")

    def publish(self, note_kept: Callable[[str], object]) -> str | None:
        with self._open() as redis:
            redis.redis("DEL", MARKER)
        self._is_made = False
        return None

    def discard(self) -> None:
        """The database was empty when the marker was set."""
        if not self._is_made:
            return
        try:
            with self._open() as redis:
                redis.redis("FLUSHDB", "ASYNC")
        except KataxError as error:
            raise BackupError(f"database {self.target} is half full and was not emptied: {error}") from error
        self._is_made = False

    def _open(self) -> RedisDatabase:
        return cast("RedisDatabase", self._order.open_database(self.settings))


class KeyLoader(Loader):
    """RESTORE of every key, with the moment of its end."""

    def __init__(self, order: RestoreOrder) -> None:
        self._order = order
        self._restored = self._lasting = 0

    def load(self, settings: ConnectionSettings) -> None:
        with (
            cast("RedisDatabase", self._order.open_database(settings)) as redis,
            self._order.opened_dump() as pieces,
        ):
            before, maker = server_infos(redis), redis.redis("GET", MARKER)
            for batch in _batches(stored_keys(pieces)):
                self._order.work.check()
                self._put(redis, batch)
            if losses := list(_losses(redis, before, maker, self._lasting)):
                raise BackupHindered("; ".join(losses))

    def problems(self, settings: ConnectionSettings) -> list[str]:
        """The server took every key; those whose end has passed it dropped, as at its own start."""
        expected = self._order.manifest.rows.get("keys", 0)
        if self._restored == expected:
            return []
        return [f"keys: {expected:,} in the backup, {self._restored:,} restored"]

    def _put(self, redis: RedisDatabase, batch: list[StoredKey]) -> None:
        keys = [key for key in batch if key.name is not None]
        for functions in (key.value for key in batch if key.name is None):
            self._put_functions(redis, functions)
        commands = [
            ("RESTORE", cast("bytes", key.name), key.expires_at_ms or 0, key.value, "ABSTTL") for key in keys
        ]
        replies = redis.pipeline(commands, safety=Safety.WRITE, tolerant=True) if commands else []
        for key, reply in zip(keys, replies, strict=True):
            if isinstance(reply, Failure):
                name = cast("bytes", key.name).decode("utf-8", "backslashreplace")
                # Of a value that it cannot read the server says ERR; all else is its own state, such as OOM.
                kind = BackupError if reply.code == "ERR" else BackupHindered
                raise kind(f"key {name!r} was refused: {reply.message}")
        self._restored += len(keys)
        self._lasting += sum(key.expires_at_ms is None for key in keys)

    def _put_functions(self, redis: RedisDatabase, dump: bytes) -> None:
        """They are of the whole server: libraries that are there stay as they are, and a drill leaves them out."""
        if self._order.purpose == "drill":
            self._order.tell("functions are of the whole server, so the drill leaves them out")
            return
        try:
            redis.redis("FUNCTION", "RESTORE", dump, "APPEND")
        except QueryError as error:
            if "already exists" not in str(error):
                raise BackupError(f"functions were refused: {error}") from error
            self._order.tell(f"functions are not restored: {error}")


def _losses(
    redis: RedisDatabase, before: Sequence[Mapping[str, str]], maker: bytes, lasting: int
) -> Iterator[str]:
    """The ways in which a server loses keys that it took: each would leave a part of the backup without an error."""
    after = server_infos(redis)
    if identities(before) != identities(after):
        yield "the server was restarted or replaced meanwhile, which may have lost keys"
    elif evicted := sum(evicted_keys(after)) - sum(evicted_keys(before)):
        yield f"the server evicted {evicted:,} key{'s' * (evicted != 1)} meanwhile; raise its maxmemory"
    if redis.redis("GET", MARKER) != maker:
        yield "the database was emptied meanwhile"
    size = sum(int(redis.redis("DBSIZE", shard=shard)) for shard in redis.shards())
    if size < lasting:
        yield f"keys without an end: {lasting:,} in the backup, {size:,} keys in the database"


def _batches(keys: Iterator[StoredKey]) -> Iterator[list[StoredKey]]:
    while batch := list(_bounded(islice(keys, _MOST_KEYS))):
        yield batch


def _bounded(keys: Iterator[StoredKey]) -> Iterator[StoredKey]:
    size = 0
    for key in keys:
        yield key
        size += len(key.value)
        if size >= _MOST_BYTES:
            return
