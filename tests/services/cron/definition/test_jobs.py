"""Jobs as a profile says them."""

from __future__ import annotations

from pathlib import Path

import pytest

from katax_cli.errors import ConfigError
from katax_cli.profiles.load import load_profile
from katax_cli.services.cron.definition.catalog import jobs_of
from katax_cli.services.cron.definition.jobs import (
    Command,
    Job,
    JobCondition,
    KataxCommand,
    Python,
    Sql,
    job_named,
    job_of,
    local_timezone,
)
from tests.cli.harness import write_profile


def job(**keys: object) -> Job:
    return job_of("j", {"schedule": "@daily", **keys}, timezone="UTC")


@pytest.mark.parametrize(
    ("keys", "work"),
    [
        ({"command": "a | b"}, Command("a | b")),
        ({"command": ["a", "b c"]}, Command(("a", "b c"))),
        ({"sql": "select 1", "connection": "main"}, Sql("select 1", "main")),
        ({"python": "pkg.mod:func"}, Python("pkg.mod:func")),
        ({"katax": ["cache", "flush"]}, KataxCommand(("cache", "flush"))),
    ],
)
def test_work(keys: dict[str, object], work: object) -> None:
    assert job(**keys).work == work


def test_durations(tmp_path: Path) -> None:
    """30 s are 30 s, however a profile writes them."""
    for thirty in ("30", "30.0", '"30s"', '"30000ms"', '"0.5m"'):
        table = (
            f'[cron.jobs.j]\nschedule = "@daily"\ncommand = "x"\ntimeout = {thirty}\nkill_after = {thirty}\n'
        )
        write_profile(tmp_path, {"main": "sqlite:///main.db"}, extra=table)
        (made,) = jobs_of(load_profile("test"))
        assert (made.timeout, made.kill_after) == (30.0, 30.0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "job 'j': it has nothing to run, expected one of command, sql, python, katax"),
        ({"command": "a", "sql": "b"}, "job 'j': it has command and sql, expected one of"),
        ({"python": "pkg.mod"}, "job 'j': python is 'pkg.mod', expected package.module:function"),
        ({"command": "a", "schedule": "x"}, "job 'j': 'x' is no schedule; write five fields"),
        ({"command": "a", "timezone": "Mars"}, "job 'j': no time zone named 'Mars' here"),
        ({"command": "a", "enabled": "maybe"}, "job 'j': enabled is 'maybe', expected true, false or"),
        ({"command": "a", "retries": -1}, "job 'j': retries is -1, expected 0 or more"),
    ],
)
def test_what_is_wrong_with_a_job(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        job(**keys)

    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "environ", "holds"),
    [
        ("${env:APP_ENV} == production", {"APP_ENV": "production"}, True),
        ("${env:APP_ENV} == production", {}, False),
        ("${env:APP_ENV} != production", {}, True),
        ("${env:APP_ENV} == ''", {}, True),
        ('"${env:A}-${env:B}" == "1-2"', {"A": "1", "B": "2"}, True),
        # A value cannot become syntax.
        ("${env:A} == x", {"A": "x == x"}, False),
        ("${env:A} == x", {"A": "${env:B}", "B": "x"}, False),
    ],
)
def test_conditions(text: str, environ: dict[str, str], holds: bool) -> None:
    assert job(command="a", enabled=text).is_enabled(environ.get) is holds


@pytest.mark.parametrize("text", ["a", "a == b == c", "a < b", ""])
def test_no_conditions(text: str) -> None:
    with pytest.raises(ValueError):
        JobCondition.parse(text)


def test_booleans_may_come_from_the_environment() -> None:
    assert job(command="a", enabled="false").enabled is False


def test_a_job_does_not_show_its_secrets() -> None:
    made = job(command="curl -u user:hush x", ping_url="https://hc.example/hush")

    assert "hush" not in repr(made)


def test_reboot_is_run_on_init() -> None:
    for text in ("@reboot", " @reboot ", "CRON_TZ=Europe/Madrid @reboot", "TZ=UTC\t@reboot"):
        assert job(command="a", schedule=text).run_on_init


def test_an_unknown_job() -> None:
    with pytest.raises(ConfigError) as error:
        job_named([job(command="a")], "jj")

    assert str(error.value) == "no job named 'jj'; did you mean 'j'? known jobs: j"


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"TZ": "Asia/Kathmandu"}, "Asia/Kathmandu"),
        ({"TZ": ":Europe/Madrid"}, "Europe/Madrid"),
        ({"TZ": "/usr/share/zoneinfo/America/Santiago"}, "America/Santiago"),
        ({"TZ": "/nonexistent/file"}, "UTC"),
    ],
)
def test_the_zone_of_this_machine(environ: dict[str, str], name: str) -> None:
    assert local_timezone(environ) == name
