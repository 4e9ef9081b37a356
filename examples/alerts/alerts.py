"""A message when a database becomes unhealthy, and one when it is back: `ALERT_URL=https://… python alerts.py`."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from urllib.request import Request, urlopen

from katax_cli import HealthCheckResult, HealthMonitor, Katax, SqlDatabase, register_shutdown_handlers

log = logging.getLogger("alerts")


class Alerts:
    """Tells each change of the status once; a change that could not be told is told with the next check."""

    def __init__(self, name: str, send: Callable[[str], object]) -> None:
        self._name = name
        self._send = send
        self._told = "healthy"

    def __call__(self, result: HealthCheckResult) -> None:
        if result.status == self._told:
            return
        reason = f": {'; '.join(result.errors)}" if result.errors else ""
        self._send(f"{self._name} is {result.status}{reason}")
        self._told = result.status


def watched(main: SqlDatabase, send: Callable[[str], object], interval: float = 30.0) -> HealthMonitor:
    """The monitor, running: it checks in a thread of its own and logs an exception of `send`."""
    monitor = HealthMonitor(main, interval=interval)
    monitor.start(Alerts(main.name, send))
    return monitor


def post(text: str) -> None:
    """To what takes JSON with a `text`, as chat services do. Raises OSError when it could not be delivered."""
    log.warning("%s", text)
    if url := os.environ.get("ALERT_URL"):
        body = json.dumps({"text": text}).encode()
        with urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=10.0):
            pass


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    katax = Katax()
    ended = threading.Event()
    monitor = watched(katax.database("main", type="sqlite"), post)
    katax.on_shutdown(monitor.stop)
    katax.on_shutdown(ended.set)
    register_shutdown_handlers(katax)
    ended.wait()
