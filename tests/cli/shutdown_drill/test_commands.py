"""`katax shutdown-test`: words, formats and exit codes."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import MakeFresh
from tests.services.shutdown_drill.drilling import ROOT, command


@pytest.fixture
def url(fresh: MakeFresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = fresh("postgresql").url
    with psycopg.connect(url) as connection:
        connection.execute("create table work (n int)")
    write_profile(tmp_path, {"main": url, "file": "sqlite:///x.db"})
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return url


def test_a_program_that_stops_well(url: str) -> None:
    done = katax("shutdown-test", "--after", "300ms", "-f", "json", "--", *command("good", url))

    assert (done.code, done.err) == (0, "")
    assert done.json["passed"] is True
    assert [each["check"] for each in done.json["checks"]] == [
        "in_flight_finished",
        "no_new_work",
        "pools_closed",
        "no_sessions_left",
        "no_transactions_left",
        "no_locks_left",
        "no_temporary_keys_left",
        "no_processes_left",
        "exit_code",
        "within_deadline",
        "second_signal_forces",
    ]
    assert set(done.json["checks"][0]) == {"check", "status", "detail", "at_ms"}
    assert set(done.json["timeline"][0]) == {"at_ms", "event"}


def test_a_program_that_does_not(url: str) -> None:
    done = katax("shutdown-test", "--after", "0", "--signal", "sigterm", "--", *command("wrong-code", url))

    assert done.code == 1
    assert "exit_code               failed   3, expected 0" in done.out
    assert "ms: signal SIGTERM" in done.err
    assert "'file' is left out: sqlite has no sessions to ask for" in done.err


def test_a_program_that_ends_by_itself_was_not_tested(url: str) -> None:
    done = katax("shutdown-test", "-q", "-f", "csv", "--", "sh", "-c", "echo hello; exit 0")

    assert (done.code, done.err) == (1, "")
    assert 'within_deadline,failed,"it ended by itself, before the signal"' in done.out


def test_its_output_is_narration(url: str) -> None:
    done = katax("shutdown-test", "--", "sh", "-c", "echo hello; echo there >&2")

    assert "hello" not in done.out
    assert "hello\nthere\n" in done.err


@pytest.mark.parametrize(("seconds", "status"), [("11", "ok"), ("9", "failed")])
def test_the_time_of_a_pod(seconds: str, status: str, url: str) -> None:
    words = ("--grace", "10s", "--after", "0", "--kubernetes", seconds, "-f", "json")
    done = katax("shutdown-test", *words, "--", *command("good", url))

    budget = done.json["checks"][-1]
    assert (budget["check"], budget["status"]) == ("kubernetes_budget", status)
    assert budget["detail"].endswith(f"(up to 10 s allowed), terminationGracePeriodSeconds {seconds}")


def test_the_time_of_a_pod_is_the_grace(url: str) -> None:
    words = ("--after", "0", "--kubernetes", "7", "-f", "json")
    done = katax("shutdown-test", *words, "--", *command("good", url))

    detail = {each["check"]: each["detail"] for each in done.json["checks"]}
    assert detail["within_deadline"].endswith(" s from the signal, 7 s are allowed")
    assert detail["kubernetes_budget"].endswith("(up to 7 s allowed), terminationGracePeriodSeconds 7")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--signal", "NOPE", "--", "true"), "no signal named 'NOPE'; expected a name as TERM, INT or QUIT"),
        (("--fault", "fire", "--", "true"), "no fault named 'fire'; expected one of: hung-query, full-pool"),
        (("--load", "2", "--", "true"), "--load needs work; give --url or --work"),
        (("--load", "2"), "--load, --url and --work are for a program; name it after --"),
        (("--", "no-such-program"), "cannot run 'no-such-program': no such program; name another"),
        (("-c", "file", "--", "true"), "profile 'test' has no server to ask"),
        (("--url", "http://x", "--work", "true", "--", "true"), "give one of --url and --work, not both"),
    ],
)
def test_what_is_said_wrongly(words: tuple[str, ...], message: str, url: str) -> None:
    done = katax("shutdown-test", *words)

    assert done.code == 2
    assert message in done.err


def test_the_built_in_profile_is_drilled_only_when_named(tmp_path: Path) -> None:
    done = katax("shutdown-test", "--fault", "second-signal")

    assert done.code == 4
    assert "uses the built-in profile only when it is named; repeat with -p local" in done.err


def test_without_a_program_its_own_services_are_drilled(url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": url}, extra='[state]\nurl = "main"\n')
    done = katax("shutdown-test", "--after", "500ms", "-f", "json")

    assert done.code == 0, done.out
    assert done.json["passed"] is True
    services = [each["service"] for each in done.json["services"]]
    assert services == ["cron run-daemon", "health serve", "ws serve"]
    assert all(each["passed"] and each["timeline"] for each in done.json["services"])


def test_services_of_production_ask_first(url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": url}, role="prod")

    done = katax("shutdown-test")

    assert done.code == 4
    assert "start and stop its services" in done.err
