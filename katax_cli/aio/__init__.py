"""katax for asyncio: the services of a profile, awaited. Above all floors of the services; nothing imports it."""

from katax_cli.aio.cache import AsyncCache as AsyncCache
from katax_cli.aio.container import AsyncKatax as AsyncKatax
from katax_cli.aio.mongodb import AsyncMongoDatabase as AsyncMongoDatabase
from katax_cli.aio.redis import AsyncRedisDatabase as AsyncRedisDatabase
from katax_cli.aio.sql import AsyncSqlDatabase as AsyncSqlDatabase
from katax_cli.aio.sql import AsyncStream as AsyncStream
from katax_cli.aio.sql import AsyncTransaction as AsyncTransaction

__all__ = [
    "AsyncCache",
    "AsyncKatax",
    "AsyncMongoDatabase",
    "AsyncRedisDatabase",
    "AsyncSqlDatabase",
    "AsyncStream",
    "AsyncTransaction",
]
