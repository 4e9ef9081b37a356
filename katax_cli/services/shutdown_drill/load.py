"""Work that is driven while a program is drilled: requests to a URL, or runs of a program of yours."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread
from urllib.parse import urlsplit

from katax_cli.core.clock import SYSTEM
from katax_cli.errors import ConfigError
from katax_cli.services.shutdown_drill.values import Piece, WorkOutcome

_PAUSE = 0.02
DrivenCall = Callable[[float], tuple[WorkOutcome, str]]


class Load:
    """`workers` threads that do one piece of work after the other until they are stopped. `now` is their clock."""

    def __init__(
        self, call: DrivenCall | None, workers: int, *, now: Callable[[], float], seconds: float
    ) -> None:
        self.workers = workers
        self._call = call or _nothing
        self._now = now
        self._seconds = seconds
        self._lock = Lock()
        self._stop = Event()
        self._pieces: list[Piece] = []
        self._open: dict[int, Piece] = {}
        self._threads = [
            Thread(target=self._work, args=(number,), name=f"katax-drill-load-{number}", daemon=True)
            for number in range(workers)
        ]

    @property
    def done(self) -> bool:
        """True once a piece was done."""
        with self._lock:
            return any(piece.outcome == "done" for piece in self._pieces)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> tuple[Piece, ...]:
        """Stops the load and returns its pieces; one that does not end within `seconds` counts as never answered."""
        self._stop.set()
        until = SYSTEM.monotonic() + seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - SYSTEM.monotonic()))
        with self._lock:
            return (*self._pieces, *self._open.values())

    def _work(self, number: int) -> None:
        while not self._stop.is_set():
            piece = Piece(self._now())
            with self._lock:
                self._open[number] = piece
            outcome, detail = self._call(self._seconds)
            with self._lock:
                del self._open[number]
                self._pieces.append(Piece(piece.started, self._now(), outcome, detail))
            if outcome != "done":
                self._stop.wait(_PAUSE)


def requests(url: str) -> DrivenCall:
    """GET: an answer below 500 is done, 503 and a refused connection are refused, anything else failed.

    Raises ConfigError for what is no http URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{parts.scheme or url!r} is no URL to drive work at; give http://host:port/path")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host, port = parts.hostname, parts.port

    def call(seconds: float) -> tuple[WorkOutcome, str]:
        connection = kind(host, port, timeout=seconds)
        try:
            connection.connect()
        except OSError as error:
            return "refused", type(error).__name__
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            return "failed", f"{type(error).__name__} instead of an answer"
        finally:
            connection.close()
        return _outcome(answer.status), f"status {answer.status}"

    return call


def _outcome(status: int) -> WorkOutcome:
    if status == 503:
        return "refused"
    return "failed" if status >= 500 else "done"


def runs(words: Sequence[str]) -> DrivenCall:
    """A run that exits 0 is done, any other failed. It reads nothing and its output is dropped."""

    def call(seconds: float) -> tuple[WorkOutcome, str]:
        null = subprocess.DEVNULL
        try:
            done = subprocess.run(words, timeout=seconds, check=False, stdin=null, stdout=null, stderr=null)
        except subprocess.TimeoutExpired:
            return "failed", f"no end in {seconds:g} s"
        except OSError as error:
            return "failed", f"cannot run {words[0]!r}: {error.strerror}"
        return ("done" if done.returncode == 0 else "failed"), f"status {done.returncode}"

    return call


def _nothing(_seconds: float) -> tuple[WorkOutcome, str]:
    return "refused", "there is no work"
