"""Snapshots that never change: one where much goes on and much is wrong, one of a profile that is new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from katax_cli.snapshot import (
    Check,
    Circuit,
    ConnectionHealth,
    Depth,
    Happening,
    HealthReport,
    JobRun,
    JobStatus,
    Part,
    PoolStats,
    PoolTrail,
    Process,
    RunningSession,
    SlowCall,
    Snapshot,
    SocketServer,
    Traffic,
    Watched,
)

NOW = datetime(2026, 3, 29, 3, 14, 15, tzinfo=UTC)
AT = NOW.timestamp()
STATE = "state database"


def _healthy(ping: float, version: str) -> ConnectionHealth:
    return ConnectionHealth(
        "healthy", ping, 12.5, (Check("ping", "healthy", ping),), None, {"version": version}
    )


MAIN = ConnectionHealth(
    "degraded",
    112.4,
    31.0,
    (Check("ping", "degraded", 112.4, "slower than 100 ms"),),
    None,
    {"version": "15.18"},
)
DEAD = ConnectionHealth(
    "unhealthy",
    None,
    None,
    (Check("tcp", "unhealthy", None, "connection refused"),),
    errors=("'orders': connection refused",),
    depth=Depth("tcp", "nothing listens there: is the server up?"),
)
HEALTH = HealthReport(
    "unhealthy",
    NOW,
    "shop",
    {
        "main": MAIN,
        "orders": DEAD,
        "cache": _healthy(0.42, "7.2.4"),
        "documents": _healthy(1.9, "7.0.5"),
        "local": replace(_healthy(0.05, "3.45.1"), maintenance="tripped by ann@ops: vacuum"),
    },
)
WATCHED = {
    "main": Watched(AT, (3.1, 3.3, 2.9, 8.0, 20.0, 45.0, 88.0, 112.4)),
    "orders": Watched(AT, (4.0, 4.2, 4.1, None, None, None)),
    "cache": Watched(AT, (0.4,) * 20),
    "documents": Watched(AT - 34, (1.9, 1.8, 1.9), "no answer for 34.0 s; the probe still waits"),
    "local": Watched(AT, (0.05, 0.05)),
}
API = Process("p1", "api", "web-1", 4711, AT - 7200, AT - 2)
DAEMON = Process("p2", "cron run-daemon", "ops-1", 99, AT - 86400, AT - 3)
CHAT = Process("p3", "ws serve chat", "web-2", 812, AT - 600, AT - 1)

JOB = JobStatus(
    name="cleanup",
    schedule="0 3 * * *",
    timezone="Europe/Madrid",
    enabled=True,
    running=0,
    next_at=NOW + timedelta(hours=23),
    last_state=None,
    last_reason=None,
    last_finished_at=None,
)


def _pool(active: int, idle: int, waiting: int = 0) -> PoolStats:
    return PoolStats(10, active + idle, active, idle, waiting)


FULL = Snapshot(
    taken_at=AT,
    role="prod",
    health=HEALTH,
    watched=WATCHED,
    processes=Part((API, DAEMON, CHAT), STATE, AT),
    pools=Part(
        (
            PoolTrail("main", API.label, (_pool(1, 3), _pool(4, 2), _pool(8, 1), _pool(10, 0, 7)), AT - 2),
            PoolTrail("cache", API.label, (_pool(1, 3), _pool(1, 3)), AT - 2),
        ),
        STATE,
        AT,
    ),
    circuits=Part(
        (
            Circuit("main", "closed", 0, None, None, None, None),
            Circuit(
                "orders", "open", 5, NOW - timedelta(seconds=12), NOW + timedelta(seconds=48), None, API.label
            ),
            Circuit("local", "forced_open", 0, None, NOW + timedelta(minutes=12), "vacuum", None),
        ),
        STATE,
        AT,
    ),
    traffic=Part(
        (
            Traffic("main", "server", 1240.0, None, None, None, (900.0, 1000.0, 1100.0, 1240.0), AT),
            Traffic("main", API.label, 310.5, 48.2, 3, 1, (280.0, 300.0, 310.5), AT - 2),
        ),
        STATE,
        AT,
    ),
    slow=Part(
        (
            SlowCall(
                "main", API.label, "SELECT * FROM orders WHERE customer = ? ORDER BY made_at", 812.4, AT - 31
            ),
            SlowCall("main", API.label, "UPDATE stock SET left = left - ? WHERE sku = ?", 131.0, AT - 300),
        ),
        STATE,
        AT,
    ),
    jobs=Part(
        (
            replace(JOB, last_state="ran", last_finished_at=NOW - timedelta(minutes=14)),
            replace(
                JOB,
                name="report",
                schedule="*/5 * * * *",
                running=1,
                next_at=NOW + timedelta(seconds=45),
                last_state="failed",
                last_reason="exit 3",
                last_finished_at=NOW - timedelta(seconds=313),
            ),
            replace(JOB, name="sync", schedule="@hourly", enabled=False, next_at=None),
        ),
        STATE,
        AT,
    ),
    runs=Part(
        (
            JobRun("aaaaaaaa1", "report", AT - 15, AT - 15, None, "running", None, "ops-1"),
            JobRun("bbbbbbbb2", "report", AT - 315, AT - 315, 2150, "failed", "exit 3", "ops-1"),
            JobRun("cccccccc3", "cleanup", AT - 840, AT - 840, 48210, "ran", None, "ops-1"),
        ),
        STATE,
        AT,
    ),
    sockets=Part(
        (SocketServer("chat", CHAT.label, 1204, 37, 88.5, 1420.0, 2, None, AT - 1),),
        STATE,
        AT,
    ),
    activity=Part(
        (
            RunningSession(
                *("main", 4711, "app", "10.0.0.7", "shop", "active", "Lock: transactionid", 312.4, 312.6),
                *("UPDATE stock SET left = left - ? WHERE sku = ?", True, AT - 1),
            ),
            RunningSession(
                *("main", 4820, "report", "10.0.0.9", "shop", "idle in transaction", None, 641.0, 655.2),
                *("SELECT * FROM orders WHERE customer = ?", False, AT - 1),
            ),
            RunningSession(
                *("cache", 33, "default", "10.0.0.7:52110", "0", "idle", None, 4.0, None, "get", False, AT),
            ),
            RunningSession(
                *("main", None, None, None, None, "unseen", None, None, None),
                *(
                    "sessions of other users show neither state nor statement; grant pg_read_all_stats",
                    False,
                    AT,
                ),
            ),
        ),
        "servers",
        AT,
    ),
    log=Part(
        (
            Happening(AT - 840, "info", "cleanup", "ran in 48.2 s"),
            Happening(AT - 720, "warning", "local", "tripped by ann@ops until 03:26: vacuum"),
            Happening(AT - 315, "error", "report", "failed: exit 3"),
            Happening(AT - 12, "error", "orders", "closed → open in api web-1:4711"),
        ),
        STATE,
        AT,
    ),
)
"""Production at night: one server dead, one slow, one that hangs, one under maintenance."""

_NOBODY = "no process reports its pools; a program does after Katax().report('name')"
EMPTY = Snapshot(
    taken_at=AT,
    role="dev",
    health=HealthReport("healthy", NOW, "local", {"main": _healthy(0.05, "3.45.1")}),
    watched={"main": Watched(AT, (0.05,))},
    processes=Part((), STATE, AT, "no process reports"),
    pools=Part((), STATE, AT, _NOBODY),
    circuits=Part((Circuit("main", "closed", 0, None, None, None, None),), STATE, AT),
    traffic=Part((), STATE, AT, _NOBODY),
    slow=Part((), STATE, AT, _NOBODY),
    jobs=Part((), STATE, AT, "no jobs are defined; add one: katax cron add"),
    runs=Part((), STATE, AT, "no daemon runs; start one: katax cron run-daemon"),
    sockets=Part((), STATE, AT, "no Socket.IO server reports; start one: katax ws serve"),
    activity=Part((), "servers", AT, "no connection is to a server with sessions"),
    log=Part((), STATE, AT),
)
"""A new profile: nobody but the dashboard itself."""

BROKEN = replace(
    FULL,
    pools=FULL.pools._replace(seen_at=AT - 95, missing="the state database does not answer"),
    circuits=FULL.circuits._replace(seen_at=AT - 95, missing="the state database does not answer"),
)
"""The state database went away a while ago."""

HOSTILE = "[bold]b[/nope]\x1b[31mred\x1b]0;title\x07\r\nline\tbidi\u202e\x9b31m[@click=app.quit]x[/]\\"
"""What a server, a job or a statement may say: markup, sequences that terminals obey, lines."""


def hostile(snapshot: Snapshot) -> Snapshot:
    """The same with all texts made hostile, as far as others write them."""
    made: Snapshot = _hostile(snapshot)
    return replace(made, role=snapshot.role)


def _hostile(value: Any) -> Any:
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, Mapping):
        return {_hostile(key): _hostile(each) for key, each in value.items()}
    if isinstance(value, tuple):
        made = map(_hostile, value)
        return type(value)(*made) if hasattr(value, "_fields") else tuple(made)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: _hostile(getattr(value, each.name)) for each in fields(value)})
    return value
