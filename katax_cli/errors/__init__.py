"""Every error that katax raises on purpose.

    KataxError
    ├── ConfigError                 the request or the configuration is wrong; repeating it changes nothing
    │   ├── UnknownProfile
    │   ├── UnknownConnection
    │   ├── WrongEngine             the connection exists, its engine lacks the ability
    │   ├── ConnectionConflict      a name is in use with another configuration
    │   ├── EmbeddedUnavailable     there is no redis-server to embed
    │   └── AuthenticationFailed    the server refused the user or password
    │       ├── StoreRefused        a store of backups refused the keys, or what they may do
    │       └── TokenRefused        a Socket.IO server refused the token
    ├── Unavailable                 may work later
    │   ├── PoolTimeout
    │   ├── PoolClosed
    │   ├── BreakerOpen
    │   └── DeadlineExceeded
    ├── OutcomeUnknown              a write was sent and not answered
    ├── LockHeld
    ├── LockLost
    ├── Refused                     read-only or protected profile, missing confirmation
    │   └── UntrustedFile
    ├── RateLimitExceeded
    ├── QueryError                  the server answered: no
    │   ├── ConstraintViolation     a row does not meet a constraint
    │   │   ├── UniqueViolation
    │   │   ├── ForeignKeyViolation
    │   │   ├── NotNullViolation
    │   │   └── CheckViolation
    │   └── RolledBack              because of another transaction; also Unavailable: it may work later
    │       ├── SerializationFailure
    │       └── DeadlockDetected
    ├── MigrationError
    │   ├── ChangedAfterApply
    │   ├── Unfinished
    │   ├── UnfinishedLoad
    │   ├── StatementFailed
    │   ├── SchemaNotWritten        what was applied stays applied
    │   └── MigrationsPending
    ├── SeedError
    ├── BackupError                 a backup or a restore did not succeed
    │   ├── BackupHindered          a machine or server did not serve, which says nothing of the backup
    │   └── BackupDamaged           a folder is no whole backup
    ├── RecordError
    │   ├── UnknownRecord
    │   ├── RecordChanged
    │   ├── RecordExists
    │   ├── MisshapedRecord
    │   └── UnsupportedArgument
    ├── SessionNotEnded             a session of a server is not there, or goes on
    └── ProgramFailed               a program that a command ran ended with another status than 0

Facts are attributes; `__str__` builds one lower-case line: subject, what was seen, how to go on. All pickle, so that
they cross to other processes whole.
Exceptions know no exit codes; `cli/shell/exits.py` does.
"""

from __future__ import annotations

from katax_cli.errors.base import KataxError, RemoteCause, nearest, unknown_name
from katax_cli.errors.connections import (
    AuthenticationFailed,
    BreakerOpen,
    CheckViolation,
    ConfigError,
    ConnectionConflict,
    ConstraintViolation,
    DeadlineExceeded,
    DeadlockDetected,
    EmbeddedUnavailable,
    ForeignKeyViolation,
    NotNullViolation,
    OutcomeUnknown,
    PoolClosed,
    PoolTimeout,
    QueryError,
    RolledBack,
    SerializationFailure,
    StoreRefused,
    TokenRefused,
    Unavailable,
    UniqueViolation,
    UnknownConnection,
    UnknownProfile,
    WrongEngine,
)
from katax_cli.errors.work import (
    BackupDamaged,
    BackupError,
    BackupHindered,
    ChangedAfterApply,
    LockHeld,
    LockLost,
    MigrationError,
    MigrationsPending,
    MisshapedRecord,
    ProgramFailed,
    RateLimitExceeded,
    RecordChanged,
    RecordError,
    RecordExists,
    Refused,
    SchemaNotWritten,
    SeedError,
    SessionNotEnded,
    StatementFailed,
    Unfinished,
    UnfinishedLoad,
    UnknownRecord,
    UnsupportedArgument,
    UntrustedFile,
)

__all__ = [
    "AuthenticationFailed",
    "BackupDamaged",
    "BackupError",
    "BackupHindered",
    "BreakerOpen",
    "ChangedAfterApply",
    "CheckViolation",
    "ConfigError",
    "ConnectionConflict",
    "ConstraintViolation",
    "DeadlineExceeded",
    "DeadlockDetected",
    "EmbeddedUnavailable",
    "ForeignKeyViolation",
    "KataxError",
    "LockHeld",
    "LockLost",
    "MigrationError",
    "MigrationsPending",
    "MisshapedRecord",
    "NotNullViolation",
    "OutcomeUnknown",
    "PoolClosed",
    "PoolTimeout",
    "ProgramFailed",
    "QueryError",
    "RateLimitExceeded",
    "RecordChanged",
    "RecordError",
    "RecordExists",
    "Refused",
    "RemoteCause",
    "RolledBack",
    "SchemaNotWritten",
    "SeedError",
    "SerializationFailure",
    "SessionNotEnded",
    "StatementFailed",
    "StoreRefused",
    "TokenRefused",
    "Unavailable",
    "Unfinished",
    "UnfinishedLoad",
    "UniqueViolation",
    "UnknownConnection",
    "UnknownProfile",
    "UnknownRecord",
    "UnsupportedArgument",
    "UntrustedFile",
    "WrongEngine",
    "nearest",
    "unknown_name",
]

for _public in [globals()[name] for name in __all__ if isinstance(globals()[name], type)]:
    _public.__module__ = __name__  # tracebacks and pickles name the path from which programs import it
