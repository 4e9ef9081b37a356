"""Events of a dump that do nothing until their database is whole: made disabled, they get their state afterwards.

The server runs an event from the moment it is made, and drops one at once whose time has passed.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from katax_cli.core.sql import quote_identifier
from katax_cli.engines.base import SqlEngine

SIGN = b" EVENT `"
"""Stands in every line that begins an event."""
_NAME = rb"`(?:[^`]|``)*`"
# The line begins as SHOW CREATE EVENT gives it, whatever its maker wrote.
_EVENT = re.compile(
    rb"^(/\*!50106 CREATE\*/ (?:/\*!50117 DEFINER=(?:[^*`]|"
    + _NAME
    + rb")*\*/ )?/\*!50106 EVENT ("
    + _NAME
    + rb")"
    rb" ON SCHEDULE (?:AT '[^']*'|EVERY (?:'[^']*'|\d+) [A-Z_]+(?: STARTS '[^']*')?(?: ENDS '[^']*')?)"
    rb" ON COMPLETION )((?:NOT )?PRESERVE) (ENABLE|DISABLE(?: ON [A-Z]+)?)(?= (?:COMMENT|DO) )",
    re.MULTILINE,
)
_STATE = """SELECT definer, time_zone, coalesce(execute_at, ends) FROM information_schema.events
WHERE event_schema = database() AND event_name = ?"""


class _EventState(NamedTuple):
    completion: str
    state: str


class HeldEvents:
    """The events of one dump, and the state that each had."""

    def __init__(self) -> None:
        self._held: dict[str, _EventState] = {}

    def hold(self, lines: bytes) -> bytes:
        """Whole lines of a dump, in which every event is made disabled, and stays when its time has passed."""
        return _EVENT.sub(self._disabled, lines)

    def _disabled(self, match: re.Match[bytes]) -> bytes:
        name = match[2][1:-1].replace(b"``", b"`").decode()
        self._held[name] = _EventState(match[3].decode(), match[4].decode())
        return match[1] + b"PRESERVE DISABLE"

    def let_go(self, engine: SqlEngine, connection: Any) -> list[str]:
        """Gives each its state; returns a line for each that stays disabled because its time has passed."""
        return [
            line for name, held in self._held.items() if (line := _let_go(engine, connection, name, held))
        ]


def _let_go(engine: SqlEngine, connection: Any, name: str, held: _EventState) -> str | None:
    rows = engine.execute(connection, _STATE, [name]).rows
    if not rows:
        return None
    [(definer, time_zone, ends)] = rows
    if held.state == "ENABLE" and ends is not None:
        # Moments of an event are those of its time zone.
        engine.execute(connection, "SET time_zone = ?", [time_zone])
        [(has_passed,)] = engine.execute(connection, "SELECT ? <= now()", [ends]).rows
        if has_passed:
            return f"event {name!r} stays disabled: its time has passed"
    user, _, host = str(definer).rpartition("@")
    # Without a definer it would be the one who restores.
    by = (
        "@".join(quote_identifier(part, "mysql") for part in (user, host))
        if user
        else quote_identifier(host, "mysql")
    )
    event = quote_identifier(name, "mysql")
    engine.execute(
        connection, f"ALTER DEFINER = {by} EVENT {event} ON COMPLETION {held.completion} {held.state}"
    )
    return None
