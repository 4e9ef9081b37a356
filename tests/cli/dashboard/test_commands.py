"""`katax dashboard --once`: all that is known, for people and for scripts."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from katax_cli.profiles.load import load_profile
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.circuits import decide
from katax_cli.services.state.reporter import report
from katax_cli.services.state.store import StateStore
from tests.cli.harness import katax, write_profile
from tests.cli.processes import SECONDS, eventually, spawn
from tests.servers.fixtures import Target
from tests.waiting import until

PARTS = ("processes", "pools", "circuits", "traffic", "slow", "jobs", "runs", "sockets", "activity", "log")
CALM = "[health]\ndegraded_ms = 20000\nunhealthy_ms = 30000\n"
JOB = '[cron.jobs.tick]\nschedule = "@daily"\ntimezone = "UTC"\ncommand = "true"\n'


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "x.db").touch()
    write_profile(tmp_path, {"main": "sqlite:///x.db"}, extra=CALM + JOB)
    return tmp_path


def once(*words: str) -> dict[str, Any]:
    done = katax("dashboard", "--once", "-f", "json", *words)
    assert (done.code, done.err) == (0, "")
    found: dict[str, Any] = done.json
    return found


def test_the_keys_are_promised(files: Path) -> None:
    seen = once()

    assert tuple(seen) == ("taken_at", "profile", "role", "health", "watched", *PARTS)
    assert (seen["profile"], seen["role"]) == ("test", "dev")
    assert datetime.fromisoformat(seen["taken_at"]).tzinfo is not None
    for name in PARTS:
        assert tuple(seen[name]) == ("source", "seen_at", "age_seconds", "missing", "rows"), name
    assert tuple(seen["watched"]["main"]) == ("checked_at", "age_seconds", "latencies_ms", "late")
    assert not (files / ".katax").exists()


def test_health_is_that_of_katax_health(engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": engine.url}, extra=CALM)
    health, seen = katax("health", "-f", "json").json, once()["health"]

    def keys(value: Any) -> Any:
        return {key: keys(each) for key, each in value.items()} if isinstance(value, dict) else type(value)

    assert keys(seen) == keys(health)
    assert (seen["status"], seen["connections"]["main"]["status"]) == ("healthy", "healthy")


def test_rows_have_their_times_in_words(files: Path) -> None:
    made = load_profile("test")
    with StateStore(made) as store, Runtime(made) as runtime:
        decide(store, "main", "trip", seconds=3600.0, reason="new disks")
        runtime.database("main")
        report(runtime, "app").tick()
        seen = once()

    (process,) = seen["processes"]["rows"]
    assert process["kind"] == "app"
    (pool,) = seen["pools"]["rows"]
    assert set(pool["samples"][0]) == {"max", "total", "active", "idle", "waiting"}
    decided = seen["circuits"]["rows"][0]
    (job,) = seen["jobs"]["rows"]
    (line, *_rest) = seen["log"]["rows"]
    for text in (
        process["started_at"],
        pool["seen_at"],
        decided["next_probe_at"],
        job["next_at"],
        line["happened_at"],
    ):
        assert datetime.fromisoformat(text).tzinfo is not None
    assert (line["subject"], line["level"]) == ("main", "warning")


def test_servers_of_the_profile_tell_of_themselves(files: Path) -> None:
    """Processes of their own, as they are started by hand."""
    serving = spawn("ws", "serve", "--port", "0", "-p", "test")
    daemon = spawn("cron", "run-daemon", "-p", "test")
    try:
        assert eventually(lambda: len(once()["processes"]["rows"]) == 2)
        assert eventually(lambda: len(once()["sockets"]["rows"]) == 1)
        seen = once()
    finally:
        for process in (serving, daemon):
            process.terminate()
            process.communicate(timeout=SECONDS)

    assert {row["kind"] for row in seen["processes"]["rows"]} == {"ws serve default", "cron run-daemon"}
    (row,) = seen["sockets"]["rows"]
    assert (row["name"], row["clients"], row["rooms"], row["trouble"]) == ("default", 0, 0, None)
    assert (serving.returncode, daemon.returncode) == (0, 0)
    assert seen["runs"]["missing"] == "no job ran yet"
    assert once()["processes"]["rows"] == []


def test_it_reports_and_judges_not(closed_port: int, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": f"redis://127.0.0.1:{closed_port}/0"})

    assert once()["health"]["status"] == "unhealthy"


def test_what_hangs_is_said_when_the_time_is_over(deaf_port: int, tmp_path: Path) -> None:
    (tmp_path / "x.db").touch()
    urls = {"main": "sqlite:///x.db", "deaf": f"postgresql://u@127.0.0.1:{deaf_port}/x"}
    write_profile(tmp_path, urls, extra=CALM)

    def statuses() -> list[str]:
        health = once("--timeout", "2s")["health"]
        assert health["connections"]["deaf"]["errors"]
        return [one["status"] for one in health["connections"].values()]

    # The file too, where the machine stands still for so long.
    until(lambda: statuses() == ["healthy", "unhealthy"])


def test_a_table_for_each_part(files: Path) -> None:
    done = katax("dashboard", "--once")

    assert (done.code, done.err) == (0, "")
    titles = [block.splitlines()[0] for block in done.out.strip().split("\n\n")]
    assert titles[0] == "connections of 'test': healthy"
    assert [title.partition(" ")[0] for title in titles[1:]] == list(PARTS)
    hint = (
        r"runs \(state database 'state', \d+\.\d s ago\): no daemon runs; start one: katax cron run-daemon\n"
    )
    assert re.search(hint, done.out)
    assert "tick" in done.out


@pytest.mark.parametrize("format", ["jsonl", "csv", "tsv"])
def test_other_formats_are_none(format: str, files: Path) -> None:
    done = katax("dashboard", "--once", "-f", format)

    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"katax: no format of --once named {format!r}; expected one of: table, json; "
        "see 'katax dashboard show --help'\n"
    )


def test_a_file_gets_the_same(files: Path) -> None:
    assert katax("dashboard", "--once", "-f", "json", "-o", "seen.json").code == 0

    assert json.loads((files / "seen.json").read_text())["profile"] == "test"


def test_without_a_terminal_there_is_once(files: Path) -> None:
    done = katax("dashboard")

    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "katax: 'dashboard' needs a terminal on stdin and stdout; print one snapshot with --once\n"
    )


@pytest.mark.parametrize("interval", ["0s", "-1", "soon", "1ms"])
def test_an_interval_that_is_none(interval: str, files: Path) -> None:
    assert katax("dashboard", "--once", "--interval", interval).code == 2


def test_an_interval_that_leaves_servers_no_time(files: Path) -> None:
    done = katax("dashboard", "--once", "--interval", "99ms")

    assert done.err == "katax: it is 99ms, expected 100 ms or more; see 'katax dashboard show --help'\n"
