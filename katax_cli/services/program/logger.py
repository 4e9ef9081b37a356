"""The log of an embedding program: messages with fields, as JSON lines on stdout.

It is the standard library's logging underneath, as logger `katax.app`: what the program configures for `katax` or
for the root logger stands, before or after, and only without that katax's own handler writes. Secrets are taken out
before a record is made, so no handler sees them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from threading import Lock
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

from katax_cli.core.callables import completed, plain
from katax_cli.core.clock import SYSTEM
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
Transport = Callable[[dict[str, object]], object]
"""Takes an entry: `timestamp`, `level`, `logger`, `message`, and its fields."""

_installing = Lock()
_log = logging.getLogger("katax.log")
_in_transport: ContextVar[bool] = ContextVar("katax_in_transport", default=False)


def _moment(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


class JsonLines(JsonFormatter):
    """One record, one line: timestamp, level, logger, message, then the fields of the entry."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("{asctime}{levelname}{name}{message}", style="{", rename_fields=_JSON_NAMES)
        self._redact = redact

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        return _moment(record.created)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        fields = log_data.pop("fields", {})
        log_data["level"] = _LEVEL_NAMES.get(log_data["level"], log_data["level"].lower())
        return beside(self._redact.fields(log_data), fields)

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        return to_json(log_data)


class _Stdout(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stdout` is at the moment, as `print` does, unless the program has a handler of its own."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    def handle(self, record: logging.LogRecord) -> bool:
        return not self._is_superseded() and bool(super().handle(record))

    def _is_superseded(self) -> bool:
        """True when the program configured logging after this handler was installed."""
        katax, root = logging.getLogger("katax"), logging.getLogger()
        handlers = [*katax.handlers, *(root.handlers if katax.propagate else ())]
        return any(handler is not self for handler in handlers)

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
        self.transports: list[Transport] = []


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

    def add_transport(self, transport: Transport) -> Callable[[], None]:
        """Calls `transport(entry)` for every entry too, of children and parents alike; returns what removes it.

        It runs on the thread that logs, after secrets were taken out. An exception in it is logged to `katax.log`, and
        what it logs itself goes to no transport.
        """
        plain(transport, "add_transport()")
        self._outlet.transports = [*self._outlet.transports, transport]

        def remove() -> None:
            self._outlet.transports = [each for each in self._outlet.transports if each is not transport]

        return remove

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
        if self._outlet.transports and not _in_transport.get():
            self._transport(
                {"level": _NAMES[level], "logger": self._outlet.logger.name, "message": text}, shown
            )
        if broadcast and self._outlet.broadcast is not None:
            _hand_over(self._outlet.broadcast, {"level": _NAMES[level], "message": text, **shown}, room)

    def _transport(self, head: dict[str, object], shown: Mapping[str, object]) -> None:
        entry = {"timestamp": _moment(SYSTEM.now()), **head}
        token = _in_transport.set(True)
        try:
            for transport in self._outlet.transports:
                _hand_to(transport, beside(entry, shown))
        finally:
            _in_transport.reset(token)


def beside(entry: Mapping[str, object], fields: Mapping[str, object]) -> dict[str, object]:
    """An entry with the program's fields, which never replace ours: `level` becomes `level_`."""
    return {**entry, **{(f"{name}_" if name in entry else name): fields[name] for name in fields}}


def _hand_to(transport: Transport, entry: dict[str, object]) -> None:
    try:
        completed(transport(entry), transport, "add_transport()")
    except Exception:  # noqa: BLE001 - a transport that fails may not break the program that logs
        _log.exception("a log entry could not be given to a transport")


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
