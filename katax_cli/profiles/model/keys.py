"""Every key of a configuration file, once: validation, `profile schema` and the docs read this table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from katax_cli.core.engine_names import ENGINE_NAMES
from katax_cli.core.settings import ROLES, TLS_MODES

Kind = Literal[
    "string",
    "secret",  # a string that is never shown
    "boolean",
    "integer",
    "number",
    "seconds",  # a number of seconds or "5m", 0 or more
    "positive",  # the same, more than 0
    "choice",
    "strings",  # a list of strings
    "command",  # a string for the shell, or a list of words
    "switch",  # a boolean, or an expression that is evaluated later
    "table",
    "tables",  # NAME → table
]


class Key(NamedTuple):
    """The rule of one key. `model` is the name in `schema.MODELS` of the dataclass that holds its defaults."""

    kind: Kind
    doc: str
    choices: tuple[str, ...] = ()
    keys: Mapping[str, Key] | None = None
    required: bool = False
    model: str | None = None


POOL = {
    "min": Key("integer", "connections kept open"),
    "max": Key("integer", "maximum of connections"),
    "timeout": Key("positive", "longest wait for a free connection"),
    "idle_timeout": Key("positive", "an unused connection is closed after this"),
    "max_lifetime": Key("positive", "a connection is replaced after this"),
}
TLS = {
    "mode": Key("choice", "encryption and verification", TLS_MODES, required=True),
    "ca": Key("string", "file of the certificate authority"),
    "cert": Key("string", "file of the client certificate"),
    "key": Key("string", "file of the client's private key"),
}
RETRY = {
    "attempts": Key("integer", "maximum of attempts, the first included"),
    "initial": Key("seconds", "wait before the second attempt"),
    "max": Key("seconds", "longest wait between attempts"),
    "multiplier": Key("number", "each wait is this much longer"),
    "total": Key("seconds", "no attempt starts after this"),
}
BREAKER = {
    "window": Key("positive", "time over which calls are counted"),
    "rate": Key(
        "number", "share of failures that opens it; all losses of one cut or restart are one failure"
    ),
    "min_calls": Key("integer", "calls within the window before a share is judged"),
    "slow_rate": Key("number", "with slow_ms: share of slow calls that opens it"),
    "slow_ms": Key("number", "with slow_rate: a call that takes longer is slow"),
    "probe": Key("positive", "open: time between two background probes in the first half minute"),
    "probe_max": Key("positive", "open: longest time between two background probes later"),
    "failures": Key("integer", "instead of window and rate: failures in a row that open it"),
    "reset": Key("positive", "instead of probe: time until a caller is let through as the probe"),
    "half_open_calls": Key("integer", "calls admitted first; then twice and four times as many, then all"),
    "half_open_max": Key("positive", "an admitted call without answer counts as failed after this"),
}
CONNECTION = {
    "type": Key("choice", "kind of server; may be left out when the URL says it", ENGINE_NAMES),
    "url": Key("secret", "address of the server, or 'embedded' for katax's own Redis"),
    "host": Key("string", "instead of url"),
    "port": Key("integer", "instead of url"),
    "user": Key("string", "instead of url"),
    "database": Key("string", "instead of url; the file for SQLite, the number for Redis"),
    "socket": Key("string", "instead of host and port"),
    "password": Key("secret", "usually '${env:NAME}'"),
    "password_command": Key("command", "prints the password; needs 'katax profile trust' in a project"),
    "password_file": Key("string", "file that holds the password"),
    "keyring": Key("string", "service/user of the system's keyring"),
    "connect_timeout": Key("positive", "longest time to connect"),
    "statement_timeout": Key("positive", "longest statement of db query and the API"),
    "read_only": Key("boolean", "the server session refuses writes"),
    "pool": Key("table", "sizes and times of the pool", keys=POOL, model="pool"),
    "tls": Key("table", "encryption", keys=TLS, model="tls"),
    "replicas": Key("strings", "URLs of servers to read from"),
    "expect": Key("choice", "role of a healthy server", ("primary", "standby", "any")),
    "pooler": Key("choice", "the server is behind PgBouncer", ("transaction",)),
    "direct_url": Key("secret", "way around the pooler for migrate and lock"),
    "ssh": Key("string", "user@host through which the server is reached, by the ssh program"),
    "prefix": Key("string", "put before every Redis key"),
    "decimals": Key("boolean", "numbers in JSON columns are Decimals, not floats"),
    "retry": Key("table", "overrides [retry]", keys=RETRY),
    "breaker": Key("table", "overrides [breaker]", keys=BREAKER),
}
JOB = {
    "schedule": Key("string", "five or six fields, @daily, @every 30s", required=True),
    "command": Key("command", "command: a string runs through the shell, a list does not"),
    "sql": Key("string", "statement to run instead of a command"),
    "connection": Key("string", "connection of the statement"),
    "python": Key("string", "package.module:function to call instead of a command"),
    "katax": Key("strings", "katax command to run instead, as a list of words"),
    "enabled": Key("switch", "true, false, or '${env:NAME} == value', evaluated at each occurrence"),
    "run_on_init": Key("boolean", "also once for each start of a daemon"),
    "timezone": Key("string", "time zone of the schedule"),
    "timeout": Key("positive", "then the job is terminated"),
    "kill_after": Key("seconds", "then its process tree is killed"),
    "on_overlap": Key("choice", "policy for overlapping runs", ("skip", "queue", "replace", "allow")),
    "on_miss": Key("choice", "policy for missed occurrences", ("skip", "once", "all")),
    "start_deadline": Key("positive", "latest start after the due time; later ones are missed"),
    "retries": Key("integer", "further attempts after a failure"),
    "on_failure": Key("command", "command to run after a failed run"),
    "user": Key("string", "user to run the command as"),
    "jitter": Key("seconds", "longest random delay"),
    "ping_url": Key("secret", "URL to ping at start, success and failure (healthchecks.io)"),
}
TABLES = {
    "retry": Key("table", "retries of calls", keys=RETRY, model="retry"),
    "breaker": Key("table", "circuit breakers", keys=BREAKER, model="breaker"),
    "health": Key(
        "table",
        "limits of a healthy connection",
        keys={
            "degraded_ms": Key("number", "a slower ping is degraded"),
            "unhealthy_ms": Key("number", "a slower ping is unhealthy"),
            "interval": Key("positive", "time between checks of --watch and serve"),
        },
        model="health",
    ),
    "logging": Key(
        "table",
        "the log",
        keys={
            "level": Key(
                "choice", "lowest level that is logged", ("trace", "debug", "info", "warning", "error")
            ),
            "format": Key("choice", "form of a log line", ("console", "json")),
            "queries": Key("choice", "which statements; dev: all at debug level", ("off", "slow", "all")),
            "slow_query_ms": Key("number", "a slower statement is slow"),
            "query_params": Key("choice", "parameters; plain in dev only", ("redacted", "plain")),
        },
        model="logging",
    ),
    "shutdown": Key(
        "table", "shutdown of services", keys={"timeout": Key("positive", "time to drain")}, model="shutdown"
    ),
    "migrate": Key(
        "table",
        "migrations",
        keys={
            "connection": Key("string", "connection that is migrated"),
            "directory": Key("string", "folder of the migrations"),
            "table": Key("string", "table of applied migrations"),
            "lock_timeout": Key("positive", "longest wait for another runner"),
            "schema_file": Key("string", "file that the schema is written to after migrations"),
        },
        model="migrate",
    ),
    "seed": Key("table", "seeds", keys={"directory": Key("string", "folder of the seeds")}, model="seed"),
    "backup": Key(
        "table",
        "backups",
        keys={
            "directory": Key("string", "folder or URL of the backups"),
            "tools": Key("string", "folder of pg_dump, mariadb-dump, …, if not on PATH"),
            "max_age": Key("positive", "age from which the newest drilled backup is old"),
            "smoke": Key("strings", "SQL that must succeed on a drill's restored database"),
            "recipients": Key("strings", "public keys of age for which backups are encrypted"),
            "identity": Key(
                "secret", "what decrypts them: file:PATH, env:NAME or keyring:service/user, read late"
            ),
        },
        model="backup",
    ),
    "journal": Key(
        "table",
        "journal of writes",
        keys={"file": Key("string", "file; default: journal.jsonl in .katax/")},
        model="journal",
    ),
    "state": Key(
        "table",
        "database of daemons and operators' decisions",
        keys={"url": Key("secret", "URL of a SQL database, or the name of a connection")},
    ),
    "cron": Key(
        "table",
        "jobs",
        keys={
            "timezone": Key("string", "time zone of jobs that name none"),
            "history": Key("positive", "time for which runs are kept"),
            "allow_dynamic_commands": Key("boolean", "run commands from a shared state database"),
            "jobs": Key("tables", "the jobs", keys=JOB),
        },
        model="cron",
    ),
    "ws": Key(
        "tables",
        "Socket.IO servers",
        keys={
            "port": Key("integer", "port to listen on"),
            "host": Key("string", "address to listen on"),
            "path": Key("string", "path of the endpoint"),
            "redis": Key("string", "connection that joins several servers"),
            "auth_token": Key("secret", "clients must send it; env:NAME and file:PATH are read late"),
            "admin_token": Key("secret", "for katax's own commands; made on first start if not set"),
            "cors": Key("strings", "allowed origins"),
        },
        model="ws",
    ),
}
CONNECTIONS = Key("tables", "the connections", keys=CONNECTION, model="connection")
ROLE = Key("choice", "dev, stage, prod, or frozen: nothing can be written", ROLES, required=True)

PROFILE: Mapping[str, Key] = {"role": ROLE, "connections": CONNECTIONS, **TABLES}
SHARED: Mapping[str, Key] = {
    "default_profile": Key("string", "profile that is used when none is selected"),
    "profiles": Key("tables", "profiles", keys=PROFILE),
    "connections": CONNECTIONS,
    **TABLES,
}
