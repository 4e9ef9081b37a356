"""katax for asyncio: the services of a profile, awaited. Above all floors of the services; nothing imports it."""

from katax_cli.aio.builder import AsyncBuilder as AsyncBuilder
from katax_cli.aio.builder import AsyncDocumentBuilder as AsyncDocumentBuilder
from katax_cli.aio.cache import AsyncCache as AsyncCache
from katax_cli.aio.clients import AsyncMongoDatabase as AsyncMongoDatabase
from katax_cli.aio.clients import AsyncRedisDatabase as AsyncRedisDatabase
from katax_cli.aio.container import AsyncKatax as AsyncKatax
from katax_cli.aio.container import graceful_shutdown as graceful_shutdown
from katax_cli.aio.health import check_database_health as check_database_health
from katax_cli.aio.health import get_metrics as get_metrics
from katax_cli.aio.health import perform_health_check as perform_health_check
from katax_cli.aio.pubsub import AsyncPubSub as AsyncPubSub
from katax_cli.aio.pubsub import AsyncSubscription as AsyncSubscription
from katax_cli.aio.records import AsyncRecords as AsyncRecords
from katax_cli.aio.redis_services import AsyncLock as AsyncLock
from katax_cli.aio.redis_services import AsyncRateLimiter as AsyncRateLimiter
from katax_cli.aio.redis_services import AsyncSessionStore as AsyncSessionStore
from katax_cli.aio.resilience import AsyncCircuitBreaker as AsyncCircuitBreaker
from katax_cli.aio.resilience import retry as retry
from katax_cli.aio.resilience import with_retry as with_retry
from katax_cli.aio.sql import AsyncSession as AsyncSession
from katax_cli.aio.sql import AsyncSqlDatabase as AsyncSqlDatabase
from katax_cli.aio.sql import AsyncTransaction as AsyncTransaction
from katax_cli.aio.statements import AsyncStream as AsyncStream

__all__ = [
    "AsyncBuilder",
    "AsyncCache",
    "AsyncCircuitBreaker",
    "AsyncDocumentBuilder",
    "AsyncKatax",
    "AsyncLock",
    "AsyncMongoDatabase",
    "AsyncPubSub",
    "AsyncRateLimiter",
    "AsyncRecords",
    "AsyncRedisDatabase",
    "AsyncSession",
    "AsyncSessionStore",
    "AsyncSqlDatabase",
    "AsyncStream",
    "AsyncSubscription",
    "AsyncTransaction",
    "check_database_health",
    "get_metrics",
    "graceful_shutdown",
    "perform_health_check",
    "retry",
    "with_retry",
]
