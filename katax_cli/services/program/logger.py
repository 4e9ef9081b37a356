"""The log of an embedding program: messages with fields, as JSON lines on stdout.

It is the standard library's logging underneath, as logger `katax.app`: what the program configures for `katax` or
for the root logger stands, and only without that katax adds its own handler. Secrets are taken out before a record
is made, so no handler sees them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

from katax_cli.core.text.redact import Redactor
from katax_cli.core.text.text import to_json

TRACE, SUCCESS = 5, 25
LEVELS: Mapping[str, int] = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "success": SUCCESS,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
_NAMES = {number: name for name, number in LEVELS.items()}
_LEVEL_NAMES = {"CRITICAL": "fatal"}
_JSON_NAMES = {"asctime": "timestamp", "levelname": "level", "name": "logger", "exc_info": "traceback"}
LogMessage = str | Mapping[str, object]
Broadcast = Callable[[Mapping[str, object], str | None], object]
"""Takes an entry and a room (None: all clients)."""

_installing = Lock()
_log = logging.getLogger("katax.log")


class JsonLines(JsonFormatter):
    """One record, one line: timestamp, level, logger, message, then the fields of the entry."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("{asctime}{levelname}{name}{message}", style="{", rename_fields=_JSON_NAMES)
        self._redact = redact

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        from datetime import datetime

        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        fields = log_data.pop("fields", {})
        log_data["level"] = _LEVEL_NAMES.get(log_data["level"], log_data["level"].lower())
        entry = self._redact.fields(log_data)
        # The program's fields never replace ours: `level` becomes `level_`.
        return {**entry, **{(f"{name}_" if name in entry else name): fields[name] for name in fields}}

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        return to_json(log_data)


class _Stdout(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stdout` is at the moment, as `print` does."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stdout

    @stream.setter
    def stream(self, _stream: TextIO) -> None: ...


class _Outlet:
    """The common output of a logger and its children."""

    def __init__(self, logger: logging.Logger, redact: Redactor) -> None:
        self.logger = logger
        self.redact = redact
        self.broadcast: Broadcast | None = None


class Logger:
    """Logs `info("message", field=…)` or one mapping with `message`.

    Values are masked under names that say secret, and wherever they contain one of `secrets`. An `error` field
    that is an exception becomes its type and text.
    """

    def __init__(
        self,
        name: str = "katax.app",
        *,
        level: str = "info",
        secrets: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        redact = Redactor(secrets)
        logger = logging.getLogger(name)
        logger.setLevel(LEVELS[level])
        _install(redact, LEVELS[level])
        self._outlet = _Outlet(logger, redact)
        self._fields: Mapping[str, object] = {}

    def child(self, **fields: object) -> Logger:
        """A logger whose entries carry these fields too."""
        made = object.__new__(Logger)
        made._outlet = self._outlet
        made._fields = {**self._fields, **fields}
        return made

    def broadcast_to(self, broadcast: Broadcast | None) -> None:
        """Sets a second receiver of entries with `broadcast=True`; for children and parents alike."""
        self._outlet.broadcast = broadcast

    def trace(
        self, message: LogMessage, /, *, broadcast: bool = False, room: str | None = None, **fields: object
    ) -> None:
        """Finer than debug."""
        self._emit(TRACE, message, fields, broadcast, room)

    def debug(
        self, message: LogMessage, /, *, broadcast: bool = False, room: str | None = None, **fields: object
    ) -> None:
        self._emit(logging.DEBUG, message, fields, broadcast, room)

    def info(
        self, message: LogMessage, /, *, broadcast: bool = False, room: str | None = None, **fields: object
    ) -> None:
        self._emit(logging.INFO, message, fields, broadcast, room)

    def success(
        self, message: LogMessage, /, *, broadcast: bool = False, room: str | None = None, **fields: object
    ) -> None:
        """Above info: something that was waited for is done."""
        self._emit(SUCCESS, message, fields, broadcast, room)

    def warning(
        self, message: LogMessage, /, *, broadcast: bool = False, room: str | None = None, **fields: object
    ) -> None:
        self._emit(logging.WARNING, message, fields, broadcast, room)

    warn = warning

    def error(
        self, message: LogMessage, /, *, broadcast: bool = False, room: str | None = None, **fields: object
    ) -> None:
        self._emit(logging.ERROR, message, fields, broadcast, room)

    def fatal(
        self, message: LogMessage, /, *, broadcast: bool = False, room: str | None = None, **fields: object
    ) -> None:
        """The program cannot go on; logging it ends nothing."""
        self._emit(logging.CRITICAL, message, fields, broadcast, room)

    def _emit(
        self, level: int, message: LogMessage, fields: dict[str, Any], broadcast: bool, room: str | None
    ) -> None:
        if not self._outlet.logger.isEnabledFor(level):
            return
        if isinstance(message, Mapping):
            fields = {**message, **fields}
            message = str(fields.pop("message", ""))
            broadcast = bool(fields.pop("broadcast", broadcast))
            room = fields.pop("room", room)
        text = self._outlet.redact.text(message)
        shown = self._outlet.redact.fields({**self._fields, **fields})
        self._outlet.logger.log(level, "%s", text, extra={"fields": shown}, stacklevel=3)
        if broadcast and self._outlet.broadcast is not None:
            _hand_over(self._outlet.broadcast, {"level": _NAMES[level], "message": text, **shown}, room)


def _hand_over(broadcast: Broadcast, entry: Mapping[str, object], room: str | None) -> None:
    try:
        broadcast(entry, room)
    except Exception:  # noqa: BLE001 - a listener that is gone may not break the program that logs
        _log.exception("a log entry could not be broadcast")


def _install(redact: Redactor, level: int) -> None:
    """Adds our handler to `katax` unless the program has configured logging itself."""
    root = logging.getLogger("katax")
    with _installing:
        for number, name in _NAMES.items():
            if logging.getLevelName(number).startswith("Level "):
                logging.addLevelName(number, name.upper())
        if root.hasHandlers():
            return
        handler = _Stdout()
        handler.setFormatter(JsonLines(redact))
        root.addHandler(handler)
        root.setLevel(level)
