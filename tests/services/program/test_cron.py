"""Jobs of a program, through its container."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from katax_cli.errors import ConfigError, KataxError
from katax_cli.services.program.container import Katax
from tests.cli.harness import write_profile
from tests.services.cron.daemons import until


@pytest.fixture
def katax(tmp_path: Path) -> Iterator[Katax]:
    write_profile(tmp_path, {"main": "sqlite:///main.db"}, extra='[cron]\ntimezone = "Asia/Kathmandu"\n')
    container = Katax("test")
    yield container
    container.shutdown(60.0)


def test_a_task_runs_on_its_schedule_in_a_named_thread(katax: Katax) -> None:
    threads: list[str] = []
    katax.cron(
        name="tick", schedule="@every 1s", task=lambda: threads.append(threading.current_thread().name)
    )

    until(lambda: len(threads) >= 2)
    assert set(threads) == {"katax-task-tick"}
    until(lambda: katax.cron_jobs()[0].last_state == "ran")
    (job,) = katax.cron_jobs()
    assert (job.name, job.schedule, job.timezone, job.enabled) == (
        "tick",
        "@every 1s",
        "Asia/Kathmandu",
        True,
    )
    assert job.next_at is not None


def test_run_on_init(katax: Katax) -> None:
    ran = threading.Event()
    katax.cron(name="first", schedule="@reboot", task=ran.set)
    assert ran.wait(60)
    ran.clear()
    katax.cron(name="second", schedule="@yearly", task=ran.set, run_on_init=True)

    assert ran.wait(60)


def test_not_run_on_init_where_it_is_not_enabled(katax: Katax) -> None:
    ran = threading.Event()
    katax.cron(name="first", schedule="@yearly", task=ran.set, run_on_init=True, enabled=lambda: False)

    assert katax.cron_jobs()[0].running == 0
    assert not katax.cron_jobs()[0].enabled


def test_run_by_hand(katax: Katax) -> None:
    ran: list[int] = []
    katax.cron(name="rare", schedule="@yearly", task=lambda: ran.append(1))

    katax.cron_run("rare")

    until(lambda: katax.cron_jobs()[0].last_state == "ran")
    assert ran == [1]


def test_a_condition_is_asked_at_each_occurrence(katax: Katax) -> None:
    asked: list[int] = []

    def enabled() -> bool:
        asked.append(1)
        return False

    katax.cron(name="never", schedule="@every 1s", task=lambda: pytest.fail("it ran"), enabled=enabled)

    until(lambda: len(asked) >= 2)
    assert katax.cron_jobs()[0].last_state is None


def test_a_task_that_raises_is_failed_and_tried_again(katax: Katax, caplog: pytest.LogCaptureFixture) -> None:
    """Its traceback is logged each time."""
    calls: list[int] = []

    def fails() -> None:
        calls.append(1)
        raise ValueError("no luck")

    katax.cron(name="bad", schedule="@yearly", task=fails, retries=1, run_on_init=True)

    until(lambda: katax.cron_jobs()[0].last_state == "failed")
    assert len(calls) == 2
    # Threads of other tests may log beside it.
    records = [record for record in caplog.records if record.getMessage() == "job 'bad' failed"]
    traces = [record.exc_info[2] for record in records if record.exc_info and record.exc_info[2]]
    assert [traceback.extract_tb(trace)[-1].name for trace in traces] == ["fails", "fails"]


def test_enable_disable_remove(katax: Katax) -> None:
    ran: list[int] = []
    katax.cron(name="tick", schedule="@every 1s", task=lambda: ran.append(1), enabled=False)
    katax.cron(name="other", schedule="@every 1s", task=lambda: ran.append(2))
    until(lambda: ran.count(2) >= 2)
    assert 1 not in ran

    katax.cron_enable("tick")
    until(lambda: 1 in ran)
    katax.cron_disable("tick")
    assert [job.enabled for job in katax.cron_jobs()] == [False, True]
    katax.cron_remove("other")
    assert [job.name for job in katax.cron_jobs()] == ["tick"]


def test_enabling_gives_a_condition_its_word_back(katax: Katax) -> None:
    katax.cron(name="a", schedule="@yearly", task=print, enabled=lambda: False)

    katax.cron_disable("a")
    katax.cron_enable("a")

    assert not katax.cron_jobs()[0].enabled


def test_shutdown_waits_for_what_runs(katax: Katax) -> None:
    started, ended = threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        threading.Event().wait(0.3)
        ended.set()

    katax.cron(name="slow", schedule="@yearly", task=slow, run_on_init=True)
    assert started.wait(60.0)

    assert katax.shutdown(60.0).clean
    assert ended.is_set()


@pytest.mark.parametrize("end", ["close", "shutdown"])
def test_a_shutdown_says_that_a_job_does_not_end(katax: Katax, end: str) -> None:
    """A shutdown has a moment to say which one, too little for a busy machine: closing alone must name it."""
    started, hanging = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        hanging.wait(60.0)

    katax.cron(name="stuck", schedule="@yearly", task=hang, run_on_init=True)
    assert started.wait(60.0)

    if end == "close":
        with pytest.raises(KataxError) as error:
            katax._cron.close(timeout=0.0)
        assert str(error.value) == "jobs still run, and their threads go on: stuck"
    else:
        report = katax.shutdown(4)
        assert not report.clean
        assert "cron" in str(report)
    hanging.set()


def test_what_cannot_be_added(katax: Katax) -> None:
    katax.cron(name="a", schedule="@yearly", task=print)

    for words, message in [
        ({"name": "a", "schedule": "@yearly", "task": print}, "job 'a' exists; remove it first"),
        ({"name": "b", "schedule": "x", "task": print}, "job 'b': 'x' is no schedule; write five fields"),
    ]:
        with pytest.raises(ConfigError) as error:
            katax.cron(**words)  # type: ignore[arg-type]
        assert str(error.value).startswith(message)
    with pytest.raises(ConfigError) as error:
        katax.cron_run("b")
    assert str(error.value) == "no job named 'b'; known jobs: a"
