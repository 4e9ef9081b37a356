"""Tools on Redis for applications: cache, sessions, limits, locks, messages, records."""

from __future__ import annotations

from katax_cli.errors import (
    LockHeld,
    LockLost,
    MisshapedRecord,
    RateLimitExceeded,
    RecordExists,
    UnknownRecord,
    UnsupportedArgument,
)
from katax_cli.services.cache.cache import DEFAULT_TTL, Cache
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.locks.lock import HeldLock, Lock, held_locks
from katax_cli.services.program.records import RecordStore
from katax_cli.services.redis.limits import Decision, RateLimiter
from katax_cli.services.redis.pubsub import PubSub
from katax_cli.services.redis.record_watch import RecordEvent
from katax_cli.services.redis.records import DEFAULT_DB_ALIAS, DEFAULT_PAGE_SIZE, Pager
from katax_cli.services.redis.records import RecordPage as Page
from katax_cli.services.redis.sessions import SessionStore, UserSession

__all__ = [
    "DEFAULT_DB_ALIAS",
    "DEFAULT_PAGE_SIZE",
    "DEFAULT_TTL",
    "Cache",
    "Decision",
    "HeldLock",
    "Lock",
    "LockHeld",
    "LockLost",
    "MisshapedRecord",
    "Page",
    "Pager",
    "PubSub",
    "RateLimitExceeded",
    "RateLimiter",
    "RecordEvent",
    "RecordExists",
    "RecordStore",
    "RedisDatabase",
    "SessionStore",
    "UnknownRecord",
    "UnsupportedArgument",
    "UserSession",
    "held_locks",
]
