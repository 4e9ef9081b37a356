"""`katax circuit`: a tripped circuit refuses calls, in single commands at once."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from katax_cli.errors import BreakerOpen
from katax_cli.profiles.load import load_profile
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.reporter import report
from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import MakeProxy, Target

ROW = ("connection", "state", "failures", "last_failure_at", "next_probe_at", "reason", "process")
USES = {
    "postgresql": ("db", "query", "-c", "main", "select 1"),
    "mysql": ("db", "query", "-c", "main", "select 1"),
    "mongodb": ("db", "tables", "-c", "main"),
    "redis": ("cache", "get", "-c", "main", "k"),
}


def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = katax("circuit", "ls", "-f", "json").json
    return found


def states() -> dict[str, str]:
    return {row["connection"]: row["state"] for row in rows() if row["process"] is None}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_profile(tmp_path, {"main": "sqlite:///x.db", "other": "sqlite:///y.db"})
    return tmp_path


@pytest.mark.parametrize("name", USES)
def test_a_tripped_server_is_never_called(
    name: str, request: pytest.FixtureRequest, proxy: MakeProxy, tmp_path: Path
) -> None:
    """Counted at the wire: the refusal costs no connection."""
    wire = proxy(str(request.getfixturevalue(f"{name}_url")))
    write_profile(tmp_path, {"main": wire.url})
    tripped = katax("circuit", "trip", "main", "--for", "5m", "--reason", "disk full", "-f", "json")
    assert tripped.code == 0, tripped.err
    assert tuple(tripped.json) == ROW
    before = wire.connections

    done = katax(*USES[name])

    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("katax: circuit breaker is open for 'main': tripped by ")
    assert f" until {tripped.json['next_probe_at'][:19]}" in done.err
    assert ": disk full; next try in " in done.err
    assert wire.connections == before

    assert katax("circuit", "reset", "main").code == 0
    assert katax(*USES[name]).code in (0, 1)
    assert wire.connections > before


@pytest.mark.parametrize("variant", ["direct", "replica-1"])
def test_other_ways_to_the_same_connection_are_shut_too(variant: str, files: Path) -> None:
    katax("circuit", "trip", "main")
    made = load_profile("test")
    settings = replace(made.connection("main"), name=f"main/{variant}")

    with Runtime(made, one_shot=True) as runtime, pytest.raises(BreakerOpen):
        runtime.sql(settings).query("SELECT 1")


def test_the_refusal_as_json(files: Path) -> None:
    katax("circuit", "trip", "main")

    error = json.loads(katax("db", "query", "select 1", "-f", "json").err)["error"]

    assert (error["code"], error["exit"]) == ("breaker_open", 3)
    assert "until it is reset" in error["message"]


def test_only_the_named_connection_is_kept_off(files: Path) -> None:
    katax("circuit", "trip", "main")

    assert katax("db", "query", "select 1", "-c", "main").code == 3
    assert katax("db", "query", "select 1", "-c", "other").code == 0
    assert katax("db", "query", "select 1", "-c", "*").code == 3


@pytest.mark.parametrize(
    "words",
    [
        ("db", "exec", "create table t (a int)"),
        ("db", "tables"),
        ("db", "describe", "t"),
        ("db", "size"),
        ("db", "metrics"),
    ],
)
def test_every_data_command_obeys(words: tuple[str, ...], files: Path) -> None:
    katax("circuit", "trip", "main")

    assert katax(*words).code == 3


def test_those_who_find_out_whether_it_works_again_do_not_ask(files: Path) -> None:
    (files / "x.db").touch()
    (files / "y.db").touch()
    profile = files / "profiles" / "test.toml"
    profile.write_text(profile.read_text() + "[health]\ndegraded_ms = 20000\nunhealthy_ms = 30000\n")
    katax("circuit", "trip", "main")

    for words in (("db", "ping"), ("profile", "check", "--connect")):
        done = katax(*words)
        assert done.code == 0, done.err
    done = katax("health", "-f", "json")
    assert (done.code, done.json["status"], done.json["connections"]["main"]["status"]) == (
        1,
        "degraded",
        "degraded",
    )
    *probed, circuit = done.json["connections"]["main"]["checks"]
    assert {check["status"] for check in probed} == {"healthy"}
    assert (circuit["name"], circuit["status"]) == ("circuit", "degraded")
    assert circuit["message"].startswith("tripped by ")


def test_it_ends_by_itself(files: Path) -> None:
    assert katax("circuit", "trip", "main", "--for", "1ms").code == 0

    assert katax("db", "query", "select 1").code == 0
    assert states() == {"main": "closed", "other": "closed"}


def test_rows(files: Path) -> None:
    assert not (files / ".katax").exists()
    assert [tuple(row) for row in rows()] == [ROW, ROW]
    # Asking leaves nothing behind.
    assert not (files / ".katax").exists()

    katax("circuit", "trip", "main", "--reason", "disk full")
    katax("circuit", "disable", "other")
    main, other = rows()
    assert (main["state"], main["reason"], main["next_probe_at"]) == ("forced_open", "disk full", None)
    assert (other["state"], other["process"], other["failures"]) == ("disabled", None, 0)

    katax("circuit", "reset", "main")
    assert states() == {"main": "closed", "other": "disabled"}


def test_breakers_of_living_processes_are_rows_too(files: Path) -> None:
    with Runtime(load_profile("test")) as runtime:
        breaker = runtime.database("other").guard.breaker
        assert breaker is not None
        breaker.force_open(3600.0, "by hand")
        report(runtime, "tests").tick()
        (reported,) = [row for row in rows() if row["process"] is not None]

    assert (reported["connection"], reported["state"], reported["reason"]) == (
        "other",
        "forced_open",
        "by hand",
    )
    assert reported["process"].startswith("tests ")
    assert reported["next_probe_at"] is not None


def test_files_are_their_owners_alone(files: Path) -> None:
    katax("circuit", "trip", "main")

    for file in (files / ".katax").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize("command", ["trip", "reset", "disable"])
def test_an_unknown_connection(command: str, files: Path) -> None:
    done = katax("circuit", command, "man")

    assert done.code == 2
    assert done.err == (
        "katax: no connection named 'man'; did you mean 'main'? "
        "known connections of profile 'test': main, other\n"
    )
    assert not (files / ".katax" / "state.db").exists()


@pytest.mark.parametrize("command", ["trip", "reset", "disable"])
def test_a_dry_run_decides_nothing(command: str, files: Path) -> None:
    done = katax("circuit", command, "main", "--dry-run", "-f", "json")

    assert (done.code, done.json["dry_run"]) == (0, True)
    assert not (files / ".katax").exists()


@pytest.mark.parametrize("duration", ["0s", "-1", "soon"])
def test_a_time_that_is_none(duration: str, files: Path) -> None:
    assert katax("circuit", "trip", "main", "--for", duration).code == 2


class TestProd:
    @pytest.fixture(autouse=True)
    def prod(self, tmp_path: Path) -> None:
        write_profile(tmp_path, {"main": "sqlite:///x.db"}, role="prod")

    def test_a_trip_needs_a_yes(self) -> None:
        done = katax("circuit", "trip", "main")
        assert (done.code, done.err) == (
            4,
            "katax: refused: trip the circuit of 'main' on 'test/main' needs confirmation; repeat with --yes\n",
        )
        assert states() == {"main": "closed"}

        assert katax("circuit", "trip", "main", "--yes").code == 0
        assert states() == {"main": "forced_open"}

    def test_letting_calls_out_needs_none(self) -> None:
        assert katax("circuit", "reset", "main").code == 0
        assert katax("circuit", "disable", "main").code == 0


def test_a_read_only_connection_can_be_spared_too(tmp_path: Path) -> None:
    (tmp_path / "x.db").touch()
    write_profile(tmp_path, {"main": "sqlite:///x.db"}, role="frozen")

    assert katax("circuit", "trip", "main").code == 0
    assert katax("db", "query", "select 1").code == 3


def test_state_in_a_database_of_the_profile(sql_engine: Target, tmp_path: Path) -> None:
    """The server that is kept off can be the one that knows about it."""
    write_profile(tmp_path, {"main": sql_engine.url}, extra='[state]\nurl = "main"\n')

    assert katax("circuit", "trip", "main").code == 0
    assert katax("db", "query", "select 1").code == 3
    assert states() == {"main": "forced_open"}
    assert not (tmp_path / ".katax" / "state.db").exists()
    assert katax("circuit", "reset", "main").code == 0
    assert katax("db", "query", "select 1").code == 0


def test_without_the_state_database_it_is_said_and_holds_here(closed_port: int, tmp_path: Path) -> None:
    url = f"postgresql://127.0.0.1:{closed_port}/x"
    write_profile(tmp_path, {"main": "sqlite:///x.db", "state": url}, extra='[state]\nurl = "state"\n')

    done = katax("circuit", "trip", "main")

    assert done.code == 3
    assert done.err.endswith("; the decision holds on this host only\n")
    assert katax("db", "query", "select 1").code == 3


@pytest.mark.parametrize("broken", ["", "{", '{"test": 7}'])
def test_a_broken_copy_stops_nobody(broken: str, files: Path) -> None:
    katax("circuit", "reset", "main")
    (files / ".katax" / "circuits.json").write_text(broken)

    assert katax("db", "query", "select 1").code == 0


def test_a_broken_state_database_stops_no_data_command(files: Path) -> None:
    (files / ".katax").mkdir(mode=0o700)
    (files / ".katax" / "state.db").write_text("this is no database" * 100)

    assert katax("db", "query", "select 1").code == 0
    done = katax("circuit", "ls")
    assert done.code != 0
    assert "'state'" in done.err
