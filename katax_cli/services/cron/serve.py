"""HTTP of a running daemon: `/live`, `/ready` and `/metrics` in OpenMetrics 1.0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from katax_cli.core.measure.openmetrics import CONTENT_TYPE, Family, Sample, exposition, gauge
from katax_cli.services.cron.run.scheduler import Scheduler
from katax_cli.services.http import TEXT, HttpServer, Response


class DaemonState(Protocol):
    """The state of a daemon for HTTP."""

    scheduler: Scheduler
    ready: bool


def metrics(daemon: DaemonState) -> str:
    """Counters and gauges; labels are names of jobs only."""
    return exposition(_families(daemon))


def _families(daemon: DaemonState) -> Iterator[Family]:
    scheduler = daemon.scheduler
    runs = [
        Sample(count, {"job": job, "state": state})
        for (job, state), count in sorted(scheduler.counts.copy().items())
    ]
    yield Family("katax_cron_runs", "counter", "Occurrences by outcome.", runs)
    running = scheduler.running()
    started = sum(run.started_at is not None for run in running)
    yield gauge("katax_cron_running", "Runs under way.", started)
    yield gauge("katax_cron_waiting", "Runs that wait for their start.", len(running) - started)
    yield gauge("katax_cron_jobs", "Known jobs.", len(scheduler.jobs))
    yield gauge("katax_cron_ready", "1 when jobs are started.", int(daemon.ready))
    if scheduler.next_at is not None:
        yield gauge("katax_cron_next_timestamp_seconds", "Time of the next occurrence.", scheduler.next_at)


def metrics_server(daemon: DaemonState, port: int) -> HttpServer:
    """Answers on loopback until it is closed. Raises ConfigError when the port is taken."""
    routes = {
        "/live": lambda: Response(200, TEXT, "live\n"),
        "/ready": lambda: (
            Response(200, TEXT, "ready\n") if daemon.ready else Response(503, TEXT, "not ready\n")
        ),
        "/metrics": lambda: Response(200, CONTENT_TYPE, metrics(daemon)),
    }
    return HttpServer(routes, name="katax-cron-metrics", port=port)
