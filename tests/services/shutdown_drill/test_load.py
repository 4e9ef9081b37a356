"""Work that is driven from outside: requests that are answered, dropped, or taken for too long."""

from __future__ import annotations

import sys

import pytest

from katax_cli.errors import ConfigError
from katax_cli.services.shutdown_drill.load import requests
from tests.servers.rooms import free_port
from tests.services.shutdown_drill.drilling import Ground, failed, verdicts


def drill(ground: Ground, kind: str, **plan: object) -> tuple[set[str], dict[str, str]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    report = ground.drill(kind, str(port), url=url, load=3, **plan)
    return failed(report), {name: each.detail for name, each in verdicts(report).items()}


def test_requests_in_flight_are_answered(postgresql_ground: Ground) -> None:
    failures, details = drill(postgresql_ground, "serves")

    assert failures == set(), details
    assert details["in_flight_finished"].endswith("in flight at the signal finished")
    assert details["no_new_work"] == "no work was taken while it drained"


def test_requests_that_are_dropped_fail(postgresql_ground: Ground) -> None:
    failures, details = drill(postgresql_ground, "drops-requests")

    assert failures == {"in_flight_finished"}
    assert " instead of an answer" in details["in_flight_finished"]


def test_work_taken_for_too_long_fails(postgresql_ground: Ground) -> None:
    failures, details = drill(postgresql_ground, "goes-on-serving", drain=0.5)

    assert failures == {"no_new_work"}
    assert details["no_new_work"].endswith(" s after the signal, 0.5 s are allowed")


def test_it_may_be_taken_while_the_drain_lasts(postgresql_ground: Ground) -> None:
    assert drill(postgresql_ground, "goes-on-serving")[0] == set()


def test_work_may_be_a_program(postgresql_ground: Ground) -> None:
    """It is in flight when the signal comes and ends well after it."""
    work = (sys.executable, "-c", "import time; time.sleep(0.3)")
    report = postgresql_ground.drill("good", work=work, load=2)

    assert failed(report) == set()
    assert verdicts(report)["in_flight_finished"].status == "ok"


def test_work_that_never_succeeds_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("good", work=("sh", "-c", "sleep 0.1; exit 7"), load=1, ready_within=3.0)

    assert verdicts(report)["no_new_work"].detail == "no work succeeded: status 7"


def test_load_needs_something_to_drive(postgresql_ground: Ground) -> None:
    with pytest.raises(ConfigError) as error:
        postgresql_ground.drill("good", load=2)

    assert str(error.value) == "--load needs work; give --url or --work"


@pytest.mark.parametrize("url", ["ftp://host/x", "nothing", "http:///x"])
def test_only_http_is_driven(url: str) -> None:
    with pytest.raises(ConfigError, match="is no URL to drive work at; give http://host:port/path"):
        requests(url)
