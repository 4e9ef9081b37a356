"""Pings against a real HTTP server."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from katax_cli.services.cron.ledger.values import Run
from katax_cli.services.cron.run.ping import Pinger
from tests.waiting import SECONDS

RUN = Run("j", 1, started_at=1)


@dataclass
class Monitor:
    """What was asked of it, and the status that it answers with."""

    url: str = ""
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    seen = Monitor()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            seen.asked.append((self.path, self.rfile.read(size)))
            self.send_response(seen.statuses.pop(0) if seen.statuses else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_address[1]}/hush-uuid"
    yield seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_start_and_end(monitor: Monitor) -> None:
    """One rid ties them together; the end of the output is the body."""
    pinger = Pinger()
    rid = f"rid={uuid.UUID(RUN.run_id)}"

    pinger.started(monitor.url, RUN)
    pinger.ended(monitor.url, replace(RUN, exit_status=3, output_head="head", output_tail="tail"))
    pinger.ended(monitor.url + "/?a=1", replace(RUN, state="ran", exit_status=0, output_head="all"))
    pinger.ended(monitor.url, replace(RUN, state="killed", exit_status=0, reason="timed out"))
    pinger.close(SECONDS)

    assert monitor.asked == [
        (f"/hush-uuid/start?{rid}", b""),
        (f"/hush-uuid/3?{rid}", b"tail"),
        (f"/hush-uuid/0?a=1&{rid}", b"all"),
        (f"/hush-uuid/1?{rid}", b"timed out"),
    ]


def test_a_ping_is_repeated(monitor: Monitor) -> None:
    monitor.statuses = [500, 503]
    pinger = Pinger()

    pinger.started(monitor.url, RUN)
    pinger.close(SECONDS)

    assert len(monitor.asked) == 3


def test_a_ping_that_fails_is_said_without_its_url(
    monitor: Monitor, closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monitor.statuses = [404, 404, 404]
    pinger = Pinger()

    pinger.started(monitor.url, RUN)
    pinger.started(f"http://127.0.0.1:{closed_port}/hush", RUN)
    pinger.started("ftp://hush/", RUN)
    pinger.close(SECONDS)

    said = [record.getMessage() for record in caplog.records if record.name == "katax.cron"]
    assert said == [
        "ping of job 'j' failed 3 times: HTTP 404",
        "ping of job 'j' failed 3 times: ConnectionRefusedError",
        "ping of job 'j' failed 3 times: its URL is not http or https",
    ]


def test_nothing_is_sent_without_a_url() -> None:
    others = threading.enumerate()
    pinger = Pinger()
    pinger.started(None, RUN)
    pinger.ended(None, RUN)

    begun = [thread for thread in threading.enumerate() if thread not in others]
    assert "katax-pings" not in {thread.name for thread in begun}
    pinger.close(SECONDS)
