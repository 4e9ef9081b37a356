"""A call that cannot be interrupted is left behind, and what it still makes is thrown away."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path
from threading import Event

import pytest

from katax_cli.core.resilience.retry import is_retried, sole_owner
from katax_cli.services.calls.left_behind import BoundedCallTimeout, _BoundedCall, bounded
from tests.waiting import until

ROOT = Path(__file__).parents[3]


def keep(_value: object) -> None:
    raise AssertionError("a result in time must not be discarded")


def test_a_result_in_time_is_returned_from_a_named_daemon_thread() -> None:
    def work() -> tuple[str, bool]:
        thread = threading.current_thread()
        return thread.name, thread.daemon

    assert bounded(work, 60.0, name="katax-connect-main", discard=keep) == ("katax-connect-main", True)


def test_its_error_is_raised_as_it_is() -> None:
    broken = OSError("refused")

    def work() -> None:
        raise broken

    with pytest.raises(OSError) as error:
        bounded(work, 60.0, name="connecting", discard=keep)

    assert error.value is broken


def test_no_limit_waits_for_the_end() -> None:
    assert bounded(lambda: 1, None, name="connecting", discard=keep) == 1


def test_a_late_result_is_thrown_away() -> None:
    release, discarded, thrown = Event(), [], Event()

    def work() -> str:
        release.wait()
        return "connection"

    def discard(value: str) -> None:
        discarded.append(value)
        thrown.set()

    with pytest.raises(BoundedCallTimeout) as error:
        bounded(work, 0.01, name="connecting to 'main'", discard=discard)

    assert isinstance(error.value, TimeoutError)
    assert str(error.value) == "connecting to 'main' took longer than 0.01 s"
    assert discarded == []
    release.set()
    assert thrown.wait(60)
    assert discarded == ["connection"]


@pytest.mark.parametrize(
    ("late", "level", "message"),
    [
        ("fails", logging.DEBUG, "dialling failed after it was left behind: LookupError"),
        ("cannot be closed", logging.ERROR, "discarding the late result of dialling failed"),
    ],
)
def test_what_goes_wrong_later_is_logged_without_its_text(
    late: str, level: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    release, threads = Event(), []

    def work() -> str:
        threads.append(threading.current_thread())
        release.wait()
        if late == "fails":
            raise LookupError("password=hunter2")
        return "connection"

    def discard(_value: str) -> None:
        raise OSError("gone")

    with caplog.at_level(logging.DEBUG, "katax"):
        with pytest.raises(BoundedCallTimeout):
            bounded(work, 0.01, name="dialling", discard=discard)
        # It may not have begun within so little time.
        until(lambda: threads)
        release.set()
        threads[0].join()

    told = [record for record in caplog.records if record.threadName == "dialling"]
    assert [(record.levelno, record.getMessage()) for record in told] == [(level, message)]


def test_the_thread_knows_who_retries() -> None:
    with sole_owner():
        assert bounded(is_retried, 60.0, name="connecting", discard=keep)


def test_a_result_that_came_just_before_the_interrupt_is_thrown_away_too() -> None:
    discarded: list[str] = []
    call = _BoundedCall(lambda: "connection", "connecting", discarded.append)

    call.run()
    call.abandon()

    assert discarded == ["connection"]


def run_python(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


HANGING = """
import signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
from katax_cli.services.calls.left_behind import BoundedCallTimeout, bounded
def hang():
    print("hanging", flush=True)
    threading.Event().wait()
"""


def test_an_interrupt_of_the_main_thread_passes_at_once() -> None:
    with run_python(HANGING + "bounded(hang, None, name='connecting', discard=print)") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hanging\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)

    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_what_an_interrupted_call_still_makes_is_thrown_away() -> None:
    program = HANGING + (
        "release = threading.Event()\n"
        "def connect():\n"
        "    print('hanging', flush=True)\n"
        "    release.wait()\n"
        "    return 'connection'\n"
        "try: bounded(connect, None, name='connecting', discard=lambda made: print('discarded', made))\n"
        "except KeyboardInterrupt:\n"
        "    release.set()\n"
        "    for thread in threading.enumerate():\n"
        "        if thread.name == 'connecting': thread.join()\n"
    )
    with run_python(program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hanging\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)

    assert (output, errors) == ("discarded connection\n", "")


def test_what_was_left_behind_does_not_hold_up_the_exit() -> None:
    program = HANGING + (
        "hangs = threading.Event()\n"
        "def reach():\n"
        "    hangs.set()\n"
        "    threading.Event().wait()\n"
        "try: bounded(reach, 0.01, name='connecting', discard=print)\n"
        "except BoundedCallTimeout as error: print(error)\n"
        "hangs.wait()"
    )
    with run_python(program) as process:
        output, errors = process.communicate(timeout=60)

    assert (process.returncode, errors) == (0, "")
    assert output == "connecting took longer than 0.01 s\n"
