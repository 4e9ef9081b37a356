"""What a running daemon shows over HTTP: `/live`, `/ready` and `/metrics` in OpenMetrics 1.0."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from katax_cli.errors import ConfigError
from katax_cli.services.cron.scheduler import Scheduler

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Shown(Protocol):
    """What is shown of a daemon."""

    scheduler: Scheduler
    ready: bool


def metrics(daemon: Shown) -> str:
    """Counters and gauges; labels are names of jobs only."""
    return "".join(_lines(daemon)) + "# EOF\n"


def _lines(daemon: Shown) -> Iterator[str]:
    scheduler = daemon.scheduler
    yield "# TYPE katax_cron_runs counter\n# HELP katax_cron_runs Occurrences by what became of them.\n"
    for (job, state), count in sorted(scheduler.counts.copy().items()):
        yield f'katax_cron_runs_total{{job="{_label(job)}",state="{state}"}} {count}\n'
    running = scheduler.running()
    started = sum(run.started_at is not None for run in running)
    yield from _gauge("katax_cron_running", "Runs under way.", started)
    yield from _gauge("katax_cron_waiting", "Runs that wait for their turn.", len(running) - started)
    yield from _gauge("katax_cron_jobs", "Jobs that are known.", len(scheduler.jobs))
    yield from _gauge("katax_cron_ready", "1 when jobs are started.", int(daemon.ready))
    if scheduler.next_at is not None:
        yield from _gauge(
            "katax_cron_next_timestamp_seconds", "When anything is due next.", scheduler.next_at
        )


def _gauge(name: str, text: str, value: int) -> Iterator[str]:
    yield f"# TYPE {name} gauge\n# HELP {name} {text}\n{name} {value}\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class MetricsServer:
    """Answers on loopback until it is closed. Raises ConfigError when the port is taken."""

    def __init__(self, daemon: Shown, port: int) -> None:
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(daemon))
        except OSError as error:
            raise ConfigError(
                f"port {port} cannot be listened on: {error.strerror}; choose another"
            ) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="katax-cron-metrics", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(daemon: Shown) -> type[BaseHTTPRequestHandler]:
    answers: dict[str, Callable[[], tuple[int, str, str]]] = {
        "/live": lambda: (200, "text/plain", "live\n"),
        "/ready": lambda: (
            (200, "text/plain", "ready\n") if daemon.ready else (503, "text/plain", "not ready\n")
        ),
        "/metrics": lambda: (200, CONTENT_TYPE, metrics(daemon)),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            status, kind, text = answer() if answer else (404, "text/plain", "see /live, /ready, /metrics\n")
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    return Handler
