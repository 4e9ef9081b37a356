"""katax: the command line and the service core for the data services behind an application.

Importing this package imports nothing else; every public name is loaded on first use (PEP 562).
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing for it would cost more than all the rest of this file
if TYPE_CHECKING:
    from katax_cli.errors import AuthenticationFailed as AuthenticationFailed
    from katax_cli.errors import BackupDamaged as BackupDamaged
    from katax_cli.errors import BackupError as BackupError
    from katax_cli.errors import BackupHindered as BackupHindered
    from katax_cli.errors import BreakerOpen as BreakerOpen
    from katax_cli.errors import CheckViolation as CheckViolation
    from katax_cli.errors import ConfigError as ConfigError
    from katax_cli.errors import ConnectionConflict as ConnectionConflict
    from katax_cli.errors import ConstraintViolation as ConstraintViolation
    from katax_cli.errors import DeadlineExceeded as DeadlineExceeded
    from katax_cli.errors import DeadlockDetected as DeadlockDetected
    from katax_cli.errors import EmbeddedUnavailable as EmbeddedUnavailable
    from katax_cli.errors import ForeignKeyViolation as ForeignKeyViolation
    from katax_cli.errors import KataxError as KataxError
    from katax_cli.errors import LockHeld as LockHeld
    from katax_cli.errors import LockLost as LockLost
    from katax_cli.errors import MigrationError as MigrationError
    from katax_cli.errors import MisshapedRecord as MisshapedRecord
    from katax_cli.errors import NotNullViolation as NotNullViolation
    from katax_cli.errors import OutcomeUnknown as OutcomeUnknown
    from katax_cli.errors import PoolClosed as PoolClosed
    from katax_cli.errors import PoolTimeout as PoolTimeout
    from katax_cli.errors import QueryError as QueryError
    from katax_cli.errors import RateLimitExceeded as RateLimitExceeded
    from katax_cli.errors import RecordChanged as RecordChanged
    from katax_cli.errors import RecordError as RecordError
    from katax_cli.errors import RecordExists as RecordExists
    from katax_cli.errors import Refused as Refused
    from katax_cli.errors import RolledBack as RolledBack
    from katax_cli.errors import SeedError as SeedError
    from katax_cli.errors import SerializationFailure as SerializationFailure
    from katax_cli.errors import Unavailable as Unavailable
    from katax_cli.errors import UniqueViolation as UniqueViolation
    from katax_cli.errors import UnknownConnection as UnknownConnection
    from katax_cli.errors import UnknownProfile as UnknownProfile
    from katax_cli.errors import UnknownRecord as UnknownRecord
    from katax_cli.errors import UnsupportedArgument as UnsupportedArgument
    from katax_cli.errors import UntrustedFile as UntrustedFile
    from katax_cli.errors import WrongEngine as WrongEngine
    from katax_cli.health import HealthCheckResult as HealthCheckResult
    from katax_cli.health import HealthMonitor as HealthMonitor
    from katax_cli.health import MetricsResult as MetricsResult
    from katax_cli.health import check_database_health as check_database_health
    from katax_cli.health import get_metrics as get_metrics
    from katax_cli.health import has_database_metrics as has_database_metrics
    from katax_cli.health import perform_health_check as perform_health_check
    from katax_cli.migrations import Migrator as Migrator
    from katax_cli.pool import MetricsPool as MetricsPool
    from katax_cli.pool import create_metrics_pool as create_metrics_pool
    from katax_cli.pool import is_metrics_pool as is_metrics_pool
    from katax_cli.resilience import CircuitBreaker as CircuitBreaker
    from katax_cli.resilience import create_retry_wrapper as create_retry_wrapper
    from katax_cli.resilience import is_transient_error as is_transient_error
    from katax_cli.resilience import retry as retry
    from katax_cli.resilience import with_retry as with_retry
    from katax_cli.seeds import Seeder as Seeder
    from katax_cli.services.backup.program import Backup as Backup
    from katax_cli.services.cache.cache import DEFAULT_TTL as DEFAULT_TTL
    from katax_cli.services.cache.cache import Cache as Cache
    from katax_cli.services.databases.builder.builder import Builder as Builder
    from katax_cli.services.databases.builder.selection import Page as Page
    from katax_cli.services.databases.builder.selection import all_of as all_of
    from katax_cli.services.databases.builder.selection import any_of as any_of
    from katax_cli.services.databases.clients import RedisDatabase as RedisDatabase
    from katax_cli.services.databases.database import Database as Database
    from katax_cli.services.databases.models.model import Column as Column
    from katax_cli.services.databases.models.model import Mapped as Mapped
    from katax_cli.services.databases.models.model import Model as Model
    from katax_cli.services.databases.models.model import relationship as relationship
    from katax_cli.services.databases.models.query import ModelQuery as ModelQuery
    from katax_cli.services.databases.models.repository import Repository as Repository
    from katax_cli.services.databases.mongodb import MongoDatabase as MongoDatabase
    from katax_cli.services.databases.postgresql.notifications import Notification as Notification
    from katax_cli.services.databases.postgresql.notifications import NotificationGap as NotificationGap
    from katax_cli.services.databases.sql import SqlDatabase as SqlDatabase
    from katax_cli.services.databases.transaction import Transaction as Transaction
    from katax_cli.services.locks.lock import Lock as Lock
    from katax_cli.services.program.config import Config as Config
    from katax_cli.services.program.container import Katax as Katax
    from katax_cli.services.program.default_database import query as query
    from katax_cli.services.program.default_database import transaction as transaction
    from katax_cli.services.program.logger import Logger as Logger
    from katax_cli.services.program.monitor import Monitor as Monitor
    from katax_cli.services.program.records import RecordStore as RecordStore
    from katax_cli.services.redis.limits import RateLimiter as RateLimiter
    from katax_cli.services.redis.pubsub import PubSub as PubSub
    from katax_cli.services.redis.records import DEFAULT_DB_ALIAS as DEFAULT_DB_ALIAS
    from katax_cli.services.redis.records import DEFAULT_PAGE_SIZE as DEFAULT_PAGE_SIZE
    from katax_cli.services.redis.sessions import SessionStore as SessionStore
    from katax_cli.services.ws.server import Sockets as Sockets
    from katax_cli.shutdown import ShutdownController as ShutdownController
    from katax_cli.shutdown import ShutdownReport as ShutdownReport
    from katax_cli.shutdown import create_shutdown_controller as create_shutdown_controller
    from katax_cli.shutdown import graceful_shutdown as graceful_shutdown
    from katax_cli.shutdown import register_shutdown_handlers as register_shutdown_handlers
    from katax_cli.shutdown import shutdown_database as shutdown_database
    from katax_cli.snapshot import BreakerStats as BreakerStats
    from katax_cli.snapshot import PoolStats as PoolStats
    from katax_cli.testing import TestDatabase as TestDatabase
    from katax_cli.testing import TestRedis as TestRedis
    from katax_cli.testing import create_test_database as create_test_database

__version__ = "0.2.0a1"

_PUBLIC: dict[str, str] = {
    "AuthenticationFailed": "katax_cli.errors",
    "BreakerOpen": "katax_cli.errors",
    "Backup": "katax_cli.services.backup.program",
    "BackupDamaged": "katax_cli.errors",
    "BackupError": "katax_cli.errors",
    "BackupHindered": "katax_cli.errors",
    "BreakerStats": "katax_cli.snapshot",
    "Builder": "katax_cli.services.databases.builder.builder",
    "Cache": "katax_cli.services.cache.cache",
    "CheckViolation": "katax_cli.errors",
    "CircuitBreaker": "katax_cli.resilience",
    "Column": "katax_cli.services.databases.models.model",
    "Config": "katax_cli.services.program.config",
    "ConfigError": "katax_cli.errors",
    "ConnectionConflict": "katax_cli.errors",
    "ConstraintViolation": "katax_cli.errors",
    "DEFAULT_DB_ALIAS": "katax_cli.services.redis.records",
    "DEFAULT_PAGE_SIZE": "katax_cli.services.redis.records",
    "DEFAULT_TTL": "katax_cli.services.cache.cache",
    "Database": "katax_cli.services.databases.database",
    "DeadlineExceeded": "katax_cli.errors",
    "DeadlockDetected": "katax_cli.errors",
    "EmbeddedUnavailable": "katax_cli.errors",
    "ForeignKeyViolation": "katax_cli.errors",
    "HealthCheckResult": "katax_cli.health",
    "HealthMonitor": "katax_cli.health",
    "Katax": "katax_cli.services.program.container",
    "KataxError": "katax_cli.errors",
    "Lock": "katax_cli.services.locks.lock",
    "LockHeld": "katax_cli.errors",
    "LockLost": "katax_cli.errors",
    "Logger": "katax_cli.services.program.logger",
    "Mapped": "katax_cli.services.databases.models.model",
    "MetricsPool": "katax_cli.pool",
    "MetricsResult": "katax_cli.health",
    "MigrationError": "katax_cli.errors",
    "Migrator": "katax_cli.migrations",
    "MisshapedRecord": "katax_cli.errors",
    "Model": "katax_cli.services.databases.models.model",
    "ModelQuery": "katax_cli.services.databases.models.query",
    "MongoDatabase": "katax_cli.services.databases.mongodb",
    "Monitor": "katax_cli.services.program.monitor",
    "NotNullViolation": "katax_cli.errors",
    "OutcomeUnknown": "katax_cli.errors",
    "Page": "katax_cli.services.databases.builder.selection",
    "PoolClosed": "katax_cli.errors",
    "PoolStats": "katax_cli.snapshot",
    "PoolTimeout": "katax_cli.errors",
    "PubSub": "katax_cli.services.redis.pubsub",
    "QueryError": "katax_cli.errors",
    "RateLimitExceeded": "katax_cli.errors",
    "RateLimiter": "katax_cli.services.redis.limits",
    "RecordChanged": "katax_cli.errors",
    "RecordError": "katax_cli.errors",
    "RecordExists": "katax_cli.errors",
    "RecordStore": "katax_cli.services.program.records",
    "RedisDatabase": "katax_cli.services.databases.clients",
    "Refused": "katax_cli.errors",
    "RolledBack": "katax_cli.errors",
    "Repository": "katax_cli.services.databases.models.repository",
    "SeedError": "katax_cli.errors",
    "SerializationFailure": "katax_cli.errors",
    "Seeder": "katax_cli.seeds",
    "SessionStore": "katax_cli.services.redis.sessions",
    "ShutdownController": "katax_cli.shutdown",
    "ShutdownReport": "katax_cli.shutdown",
    "Sockets": "katax_cli.services.ws.server",
    "SqlDatabase": "katax_cli.services.databases.sql",
    "TestDatabase": "katax_cli.testing",
    "TestRedis": "katax_cli.testing",
    "Transaction": "katax_cli.services.databases.transaction",
    "Unavailable": "katax_cli.errors",
    "UniqueViolation": "katax_cli.errors",
    "UnknownConnection": "katax_cli.errors",
    "UnknownProfile": "katax_cli.errors",
    "UnknownRecord": "katax_cli.errors",
    "UnsupportedArgument": "katax_cli.errors",
    "UntrustedFile": "katax_cli.errors",
    "WrongEngine": "katax_cli.errors",
    "check_database_health": "katax_cli.health",
    "create_metrics_pool": "katax_cli.pool",
    "create_retry_wrapper": "katax_cli.resilience",
    "create_shutdown_controller": "katax_cli.shutdown",
    "create_test_database": "katax_cli.testing",
    "get_metrics": "katax_cli.health",
    "graceful_shutdown": "katax_cli.shutdown",
    "has_database_metrics": "katax_cli.health",
    "is_metrics_pool": "katax_cli.pool",
    "is_transient_error": "katax_cli.resilience",
    "perform_health_check": "katax_cli.health",
    "Notification": "katax_cli.services.databases.postgresql.notifications",
    "NotificationGap": "katax_cli.services.databases.postgresql.notifications",
    "all_of": "katax_cli.services.databases.builder.selection",
    "any_of": "katax_cli.services.databases.builder.selection",
    "query": "katax_cli.services.program.default_database",
    "register_shutdown_handlers": "katax_cli.shutdown",
    "relationship": "katax_cli.services.databases.models.model",
    "retry": "katax_cli.resilience",
    "shutdown_database": "katax_cli.shutdown",
    "transaction": "katax_cli.services.program.default_database",
    "with_retry": "katax_cli.resilience",
}
"""Public name → module that defines it."""

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
