"""Record stores of a program, which may name a connection of its container instead of bringing a database."""

from __future__ import annotations

from functools import partial

from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.records import DEFAULT_DB_ALIAS, Records
from katax_cli.services.redis.values import JSON, Codec


class RecordStore(Records):
    """See `Records`; `db` may also be the name of a connection of the container.

    Without one it is `redis` where there is one, else `cache`. A name that is none raises UnknownConnection or
    WrongEngine when the store is first used.
    """

    def __init__(self, name: str, db: str | RedisDatabase = DEFAULT_DB_ALIAS, *, codec: Codec = JSON) -> None:
        super().__init__(name, partial(_of_instance, db) if isinstance(db, str) else db, codec=codec)


def _of_instance(alias: str) -> RedisDatabase:
    from katax_cli.services.program.container import Katax

    return Katax.get_instance().redis(alias)
