"""The panels of the dashboard, their columns and their actions. A panel plugs in as one line of PANELS."""

from __future__ import annotations

from katax_cli.core.roles import Tier
from katax_cli.tui import panels
from katax_cli.tui.panels import Action, Panel
from katax_cli.tui.table import Column

_TRIP = Action("trip", "T", "Trip", ("circuit", "trip"), "--for 15m --reason ''", Tier.DISRUPTIVE)
_RESET = Action("reset", "R", "Reset", ("circuit", "reset"))
_CANCEL = Action("cancel", "c", "Cancel", ("db", "cancel"), tier=Tier.DISRUPTIVE)
_TERMINATE = Action("terminate", "k", "Terminate", ("db", "terminate"), tier=Tier.DISRUPTIVE)
_RUN = Action("run", "r", "Run", ("cron", "run"))
_ENABLE = Action("enable", "e", "Enable", ("cron", "enable"))
_DISABLE = Action("disable", "d", "Disable", ("cron", "disable"))

_AGE = Column("age", 2, 4)

PANELS: tuple[Panel, ...] = (
    Panel(
        "connections",
        "Connections",
        "connections",
        (
            *(Column("connection"), Column("status", 0, 11), Column("ms", 0, 4), Column("ping", 2, 8)),
            *(Column("layer", 1, 5), _AGE, Column("message", 1, 16, grows=True), Column("server", 3)),
        ),
        panels.connections,
    ),
    Panel(
        "pools",
        "Pools",
        "pools",
        (
            *(Column("connection"), Column("pool"), Column("used/idle/max", 1), Column("wait", 0)),
            *(Column("over time", 3, 8), Column("process", 2, 8, grows=True), _AGE),
        ),
        panels.pools,
    ),
    Panel(
        "circuits",
        "Circuits",
        "circuits",
        (
            *(Column("connection"), Column("state", 0, 13), Column("fail", 2), Column("probe", 1, 7)),
            *(Column("failed", 3), Column("where", 2), Column("reason", 2, 8, grows=True)),
        ),
        panels.circuits,
        (_TRIP, _RESET),
    ),
    Panel(
        "queries",
        "Queries",
        "queries",
        (
            *(Column("connection"), Column("per s", 0, 5), Column("over time", 3, 8), Column("p95 ms", 1, 5)),
            *(Column("slow", 0), Column("failed", 0), Column("counted by", 2, 8, grows=True), _AGE),
        ),
        panels.queries,
    ),
    Panel(
        "slow",
        "Slow calls",
        "queries",
        (
            Column("ms", 0, 6),
            Column("connection", 1),
            _AGE,
            Column("statement", 0, 24, grows=True),
            Column("process", 3),
        ),
        panels.slow,
        minor=True,
    ),
    Panel(
        "jobs",
        "Jobs",
        "jobs",
        (
            *(Column("job"), Column("now", 0, 9), Column("next", 1, 7), Column("last", 0, 9)),
            *(
                Column("ended", 2),
                Column("schedule", 3),
                Column("zone", 4),
                Column("reason", 3, 6, grows=True),
            ),
        ),
        panels.jobs,
        (_RUN, _ENABLE, _DISABLE),
    ),
    Panel(
        "runs",
        "Runs",
        "jobs",
        (
            *(Column("job"), Column("result", 0, 9), Column("began", 1, 5), Column("ms", 2, 5)),
            *(Column("reason", 1, 8, grows=True), Column("host", 3), Column("run", 3)),
        ),
        panels.runs,
        minor=True,
        is_stream=True,
        reads=("cron", "logs"),
    ),
    Panel(
        "sockets",
        "Socket.IO",
        "sockets",
        (
            *(
                Column("server"),
                Column("clients"),
                Column("rooms", 3),
                Column("in/s", 2, 5),
                Column("out/s", 2, 5),
            ),
            *(Column("refused", 1), Column("process", 4), _AGE, Column("trouble", 0, 7, grows=True)),
        ),
        panels.sockets,
    ),
    Panel(
        "activity",
        "Activity",
        "activity",
        (
            *(Column("pid"), Column("connection", 1), Column("user", 2), Column("state", 0, 8)),
            *(Column("wait", 2, 4), Column("age", 0, 4), Column("in tx", 1, 5)),
            *(Column("statement", 0, 20, grows=True), Column("database", 3), Column("host", 4)),
        ),
        panels.activity,
        (_CANCEL, _TERMINATE),
        minor=True,
    ),
    Panel(
        "log",
        "Log",
        "log",
        (Column("at", 0, 8), Column("", 0, 1), Column("of", 0), Column("what happened", 0, 12, grows=True)),
        panels.log,
        is_stream=True,
    ),
)
"""All panels, in the order of the overview; those of one screen stand together."""

SCREENS: tuple[str, ...] = tuple(dict.fromkeys(panel.screen for panel in PANELS))
