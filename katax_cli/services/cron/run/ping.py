"""Pings a monitor about runs, as healthchecks.io has it: `/start`, `/{exit status}` with the end of the output.

Pings are sent from one thread of their own, are repeated, and never change what becomes of a run. Their URL is a
secret: nothing that is logged contains it.
"""

from __future__ import annotations

import http.client
import logging
import threading
import uuid
from queue import Empty, Full, Queue
from typing import NamedTuple
from urllib.parse import urlsplit

from katax_cli.core.clock import SYSTEM
from katax_cli.services.cron.ledger.values import Run

_log = logging.getLogger("katax.cron")
_ATTEMPTS = 3
_SECONDS = 5.0
_WAITING_AT_MOST = 1000
_CONNECTIONS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


class _Ping(NamedTuple):
    job: str
    url: str
    body: bytes


class Pinger:
    """Sends pings in the order in which they were requested; those beyond the queue are dropped."""

    def __init__(self) -> None:
        self._queue: Queue[_Ping | None] = Queue(_WAITING_AT_MOST)
        self._thread: threading.Thread | None = None

    def started(self, url: str | None, run: Run) -> None:
        """Says that a run begins."""
        self._put(url, run, "/start", b"")

    def ended(self, url: str | None, run: Run) -> None:
        """Says how it ended; 0 is success, any other status a failure. A job that was stopped has failed."""
        status = 0 if run.state == "ran" else min(run.exit_status or 1, 255)
        said = run.output_tail or run.output_head or run.reason or ""
        self._put(url, run, f"/{status}", said.encode())

    def _put(self, url: str | None, run: Run, suffix: str, body: bytes) -> None:
        if url is None:
            return
        parts = urlsplit(url)
        query = f"{parts.query}&" if parts.query else ""
        full = parts._replace(
            path=parts.path.rstrip("/") + suffix, query=f"{query}rid={uuid.UUID(run.run_id)}"
        )
        try:
            self._queue.put_nowait(_Ping(run.job, full.geturl(), body))
        except Full:
            _log.warning("ping of job %r is dropped: %d others wait", run.job, _WAITING_AT_MOST)
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_all, name="katax-pings", daemon=True)
            self._thread.start()

    def close(self, seconds: float) -> None:
        """Sends what waits, for at most so long."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            self._queue.put(None, timeout=seconds)
        except Full:
            self._drop()
        thread.join(seconds)

    def _drop(self) -> None:
        try:
            while True:
                self._queue.get_nowait()
        except Empty:
            self._queue.put_nowait(None)

    def _send_all(self) -> None:
        while (ping := self._queue.get()) is not None:
            _send(ping)


def _send(ping: _Ping) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        reason = _post(ping)
        if reason is None:
            return
        if attempt < _ATTEMPTS:
            SYSTEM.sleep(attempt * SYSTEM.random())
    _log.warning("ping of job %r failed %d times: %s", ping.job, _ATTEMPTS, reason)


def _post(ping: _Ping) -> str | None:
    """Sends it once; why it failed, without a word of the URL."""
    parts = urlsplit(ping.url)
    kind = _CONNECTIONS.get(parts.scheme)
    if kind is None or parts.hostname is None:
        return "its URL is not http or https"
    try:
        connection = kind(parts.hostname, parts.port, timeout=_SECONDS)
        try:
            connection.request("POST", f"{parts.path}?{parts.query}", ping.body, {"User-Agent": "katax"})
            answer = connection.getresponse()
            answer.read(1024)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return type(error).__name__
    return None if answer.status < 300 else f"HTTP {answer.status}"
