"""`health serve`: what it answers from its last round of checks, and how its process ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from katax_cli.core.measure.openmetrics import CONTENT_TYPE
from katax_cli.services.health.serve import LINGER_SECONDS, HealthService
from katax_cli.services.http import HttpServer
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.circuits import decide
from katax_cli.services.state.reporter import Reporter
from katax_cli.services.state.store import StateStore
from tests.cli.harness import katax, write_profile
from tests.cli.pseudo_terminal import KATAX
from tests.fake_clock import AheadClock
from tests.servers import PASSWORDS
from tests.servers.fixtures import MakeFresh, MakeProxy
from tests.servers.proxy import Proxy
from tests.services.profiles import profile
from tests.waiting import patiently, until

CALM = "[health]\ndegraded_ms = 20000\nunhealthy_ms = 30000\ninterval = 0.2\n"
PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


@pytest.fixture
def door(fresh: MakeFresh, proxy: MakeProxy) -> Proxy:
    return proxy(fresh("redis"))


@pytest.fixture
def service(door: Proxy, tmp_path: Path) -> Iterator[HealthService]:
    """On a Redis behind a door and a SQLite file; no round of checks has begun."""
    chosen = profile(tmp_path, {"cache": door.url, "main": "sqlite:///x.db"}, extra=CALM)
    with Runtime(chosen, probing=True) as runtime:
        databases = [runtime.database(name) for name in ("cache", "main")]
        yield HealthService(chosen, databases, seconds=20.0)


def ready(service: HealthService) -> tuple[int, Any]:
    answer = service.routes()["/ready"]()
    return answer.status, json.loads(answer.text)


def metrics(service: HealthService) -> str:
    answer = service.routes()["/metrics"]()
    assert (answer.status, answer.kind) == (200, CONTENT_TYPE)
    assert answer.text.endswith("# EOF\n")
    return answer.text


def test_before_the_first_round(service: HealthService) -> None:
    routes = service.routes()

    assert (routes["/live"]().status, routes["/startup"]().status) == (200, 503)
    assert ready(service) == (
        503,
        {
            "ready": False,
            "reason": "the first checks are under way",
            "status": None,
            "age_seconds": None,
            "connections": {},
        },
    )
    assert [line for line in metrics(service).splitlines() if line[0] != "#"] == ["katax_ready 0"]


def test_after_a_round(service: HealthService) -> None:
    service.check()

    status, said = ready(service)
    assert (status, said["ready"], said["reason"]) == (200, True, None)
    assert said["connections"] == {"cache": "healthy", "main": "healthy"}
    assert said["age_seconds"] >= 0
    assert service.routes()["/startup"]().status == 200


def test_startup_is_over_whatever_was_found(service: HealthService, door: Proxy) -> None:
    """A database that is down must not get the process killed."""
    door.refuse()
    service.check()

    assert service.routes()["/startup"]().status == 200
    assert service.routes()["/live"]().status == 200
    assert ready(service)[0] == 503
    assert ready(service)[1]["reason"] == "unhealthy: cache"
    assert 'katax_failing_layer{profile="test",connection="cache",layer="tcp"} 1\n' in metrics(service)


def test_one_bad_round_is_an_accident(service: HealthService, door: Proxy) -> None:
    service.check()
    door.refuse()
    door.cut()
    service.check()
    assert ready(service)[0] == 200
    service.check()
    assert ready(service)[0] == 503


def test_answers_do_not_wait_for_a_server_that_hangs(service: HealthService, door: Proxy) -> None:
    """The thread of the checks hangs; this one does not."""
    service.check()
    door.stall()
    service.start()
    assert [route().status for route in service.routes().values()] == [200, 200, 200, 200]
    door.resume()
    service.stop()


def test_old_results_are_no_reason_to_send_work(door: Proxy, tmp_path: Path) -> None:
    clock = AheadClock()
    chosen = profile(tmp_path, {"main": "sqlite:///x.db"}, extra=CALM)
    with Runtime(chosen, probing=True) as runtime:
        service = HealthService(chosen, [runtime.database("main")], seconds=2.0, clock=clock)
        service.check()
        assert ready(service)[0] == 200
        clock.lead = 600.0
        assert ready(service)[0] == 503
        assert re.fullmatch(
            r"the last checks ended 6\d\d s ago; the next ones hang", ready(service)[1]["reason"]
        )
        assert re.search(r"\nkatax_health_age_seconds 6\d\d\.\d+\n", metrics(service))


def test_readiness_goes_first(service: HealthService) -> None:
    service.check()
    service.drain()

    assert ready(service)[1]["reason"] == "the process is about to end"
    assert [service.routes()[path]().status for path in ("/live", "/ready", "/startup", "/metrics")] == [
        200,
        503,
        200,
        200,
    ]


def test_maintenance_takes_nobody_out(service: HealthService, door: Proxy) -> None:
    with StateStore(service.profile) as store:
        decide(store, "cache", "trip", reason="new disks")
    door.refuse()
    service.check()

    assert ready(service)[0] == 200
    assert 'katax_maintenance{profile="test",connection="cache"} 1\n' in metrics(service)
    assert 'katax_up{profile="test",connection="cache"} 0\n' in metrics(service)


def test_a_tripped_circuit_without_a_reason_takes_nobody_out(service: HealthService) -> None:
    with StateStore(service.profile) as store:
        decide(store, "cache", "trip")
    round_ = service.check()

    assert round_.report.status == "degraded"
    assert ready(service)[0] == 200


def test_the_metrics_of_a_profile(service: HealthService, tmp_path: Path) -> None:
    """Of the checks, of the servers, and of what other processes told the state database."""
    with Runtime(service.profile) as other:
        main = other.database("main")
        main.ping()
        Reporter(service.profile, "app", lambda: {"main": main}).tick()
        service.check()
        text = metrics(service)

    for sample in (
        r'katax_up\{profile="test",connection="cache"\} 1',
        r'katax_degraded\{profile="test",connection="main"\} 0',
        r'katax_ping_seconds\{profile="test",connection="cache"\} 0\.\d+',
        r'katax_headroom_used\{profile="test",connection="cache",resource="connections",unit="connections"\} \d+',
        r'katax_headroom_limit\{profile="test",connection="cache",resource="connections",unit="connections"\} \d+',
        r'katax_pool_connections\{profile="test",connection="main",state="idle"\} 1',
        r'katax_pool_max\{profile="test",connection="main"\} 20',
        r'katax_breakers\{profile="test",connection="main",state="closed"\} 1',
        r"katax_health_rounds_total 1",
        r"katax_state_up 1",
    ):
        assert re.search(f"^{sample}$", text, re.MULTILINE), (sample, text)
    assert PASSWORDS["redis"] not in text
    assert "127.0.0.1" not in text


def test_statements_of_the_server(mysql_url: str, tmp_path: Path) -> None:
    chosen = profile(tmp_path, {"main": mysql_url}, extra=CALM)
    with Runtime(chosen, probing=True) as runtime:
        service = HealthService(chosen, [runtime.database("main")], seconds=20.0)
        service.check()

    assert re.search(
        r'katax_server_queries_total\{profile="test",connection="main"\} [1-9]', metrics(service)
    )


def test_jobs_are_among_them(tmp_path: Path) -> None:
    extra = CALM + '[cron.jobs.good]\nschedule = "@daily"\ncommand = "true"\n'
    extra += '[cron.jobs.bad]\nschedule = "@daily"\ncommand = "false"\n'
    chosen = profile(tmp_path, {"main": "sqlite:///x.db"}, extra=extra)
    assert [katax("cron", "run", name).code for name in ("bad", "good", "bad")] == [1, 0, 1]
    with Runtime(chosen, probing=True) as runtime:
        service = HealthService(chosen, [runtime.database("main")], seconds=20.0)
        service.check()
        text = metrics(service)

    assert 'katax_job_up{profile="test",job="good"} 1\n' in text
    assert 'katax_job_up{profile="test",job="bad"} 0\n' in text
    assert text.count("katax_job_finished_timestamp_seconds{") == 2


def test_a_state_database_that_cannot_be_read_costs_its_own_part(door: Proxy, tmp_path: Path) -> None:
    chosen = profile(tmp_path, {"main": "sqlite:///x.db"}, extra=CALM)
    (tmp_path / ".katax").mkdir(mode=0o700)
    (tmp_path / ".katax" / "state.db").write_bytes(b"this is no database, and long enough to say so" * 40)
    with Runtime(chosen, probing=True) as runtime:
        service = HealthService(chosen, [runtime.database("main")], seconds=20.0)
        service.check()

    assert "katax_state_up 0\n" in metrics(service)
    assert ready(service)[0] == 200


def test_the_documentation_names_every_metric(service: HealthService) -> None:
    from katax_cli.services.cron import serve
    from katax_cli.services.health import metrics as health_metrics

    sources = "".join(Path(str(module.__file__)).read_text() for module in (health_metrics, serve))
    names = set(re.findall(r'"(katax_[a-z_]+)"', sources))

    assert len(names) > 20
    assert names == set(re.findall(r"^\| `(katax_[a-z_]+?)(?:_total)?` \|", PAGE.read_text(), re.MULTILINE))


def test_paths_that_nobody_knows(service: HealthService) -> None:
    with closing(HttpServer(service.routes(), name="x", port=0)) as server:
        with urlopen(f"{server.url}/live?x=1") as answer:
            assert (answer.status, answer.read()) == (200, b"live\n")
        with pytest.raises(HTTPError) as error:
            urlopen(f"{server.url}/secrets")
        assert (error.value.code, error.value.read()) == (404, b"see /live, /ready, /startup, /metrics\n")


def test_a_client_that_hangs_up_is_no_traceback(
    service: HealthService, capfd: pytest.CaptureFixture[str]
) -> None:
    """A scraper with a short timeout resets its connection; the next one is answered, and nothing is logged."""
    with closing(HttpServer(service.routes(), name="x", port=0)) as server:
        for request in (b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(request)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with urlopen(f"{server.url}/live") as answer:
            assert answer.read() == b"live\n"
        until(lambda: not [t for t in threading.enumerate() if "process_request" in t.name])

    assert capfd.readouterr().err == ""


def test_whoever_has_connected_is_answered_at_the_end(service: HealthService) -> None:
    """A pod that is taken out gets its last requests until it is known to be gone."""
    server = HttpServer(service.routes(), name="x", port=0)
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    for client in clients:
        client.sendall(b"GET /live HTTP/1.0\r\n\r\n")
    server.close()

    for client in clients:
        with client:
            client.settimeout(60)
            assert client.makefile("rb").read().endswith(b"live\n")


Served = tuple[subprocess.Popen[bytes], str]


@contextmanager
def serving(door: Proxy, folder: Path, *, linger: float = LINGER_SECONDS) -> Iterator[Served]:
    """A process that serves, and its URL; it answers for `linger` seconds after it was told to end."""
    write_profile(folder, {"cache": door.url}, extra=CALM + "[shutdown]\ntimeout = 240\n")
    program = f"import katax_cli.services.health.serve as it; it.LINGER_SECONDS = {linger}; {KATAX}"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "health", "serve", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stderr
        url = re.search(rb"(http://127\.0\.0\.1:\d+)/ready", process.stderr.readline())
        assert url
        yield process, url[1].decode()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def served(door: Proxy, tmp_path: Path) -> Iterator[Served]:
    with serving(door, tmp_path) as made:
        yield made


def asked(url: str) -> Callable[[str], int]:
    def ask(path: str) -> int:
        try:
            with urlopen(f"{url}{path}", timeout=60) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code

    return ask


def test_term_ends_readiness_first_and_leaves_no_session(door: Proxy, tmp_path: Path) -> None:
    def is_seen(linger: float) -> bool:
        with serving(door, tmp_path, linger=linger) as (process, url):
            ask = asked(url)
            until(lambda: ask("/ready") == 200)
            until(lambda: door.open_connections == 1)

            process.send_signal(signal.SIGTERM)
            try:
                until(lambda: ask("/ready") == 503)
                assert ask("/live") == 200
            except OSError:
                return False  # a busy machine let it end before it was asked
            assert process.wait(60) == 0
            until(lambda: door.open_connections == 0)
            return True

    patiently(is_seen, shortest=LINGER_SECONDS)


def test_a_second_signal_leaves_at_once(served: Served) -> None:
    """Both arrive together, so that the end cannot be over before the second."""
    process, url = served
    until(lambda: asked(url)("/startup") == 200)
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        process.send_signal(number)

    assert process.wait(60) in (130, 143)


def test_a_server_that_hangs_does_not_keep_it(served: Served, door: Proxy) -> None:
    process, url = served
    ask = asked(url)
    until(lambda: ask("/ready") == 200)
    door.stall()
    process.send_signal(signal.SIGTERM)

    assert process.wait(60) == 0


def test_beyond_loopback_only_when_it_is_meant(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})

    done = katax("health", "serve", "--host", "0.0.0.0")

    assert done.code == 4
    assert "0.0.0.0 is open to other machines" in done.err


def test_a_port_in_use(service: HealthService) -> None:
    with closing(HttpServer(service.routes(), name="x", port=0)) as server:
        done = katax("health", "serve", "--port", str(server.port))

    assert done.code == 2
    assert f"port {server.port} cannot be listened on" in done.err
