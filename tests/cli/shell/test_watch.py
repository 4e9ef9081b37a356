"""`health --watch` where it is watched: on a terminal, of any size, and on a pipe."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.harness import write_profile
from tests.cli.processes import spawn
from tests.cli.pseudo_terminal import Terminal

HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    # A busy machine is slow to answer, which is told.
    calm = "[health]\ndegraded_ms = 20000\nunhealthy_ms = 30000\n"
    return write_profile(tmp_path, {"main": "sqlite:///x.db", "other": "sqlite:///y.db"}, extra=calm)


@pytest.mark.parametrize("watching", [("--watch", "--interval", "50ms"), ()])
def test_a_status_has_its_colour_on_a_terminal(watching: tuple[str, ...], tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db", "gone": "sqlite:///no/such/folder/x.db"})
    screen = Terminal("health", *watching, columns=100)
    try:
        screen.read_until(1, b"gone")
        if watching:
            screen.read_until(1, b"gone")
            screen.type(b"\x03")
        assert screen.exit_code() == (130 if watching else 3)
    finally:
        screen.close()

    assert re.search(rb"\x1b\[3[23]m(healthy|degraded)\x1b\[0m", screen.seen), screen.seen
    assert b"\x1b[31munhealthy\x1b[0m" in screen.seen


@pytest.fixture
def terminal(profile: Path) -> Iterator[Terminal]:
    screen = Terminal("health", "--watch", "--interval", "50ms", columns=100)
    yield screen
    screen.close()


def test_it_draws_in_place_and_ends_clean_on_ctrl_c(terminal: Terminal) -> None:
    terminal.read_until(3, b"healthy")
    terminal.type(b"\x03")

    assert terminal.exit_code() == 130
    assert terminal.seen.count(HIDE) == terminal.seen.count(SHOW) == 1
    assert terminal.seen.rindex(SHOW) > terminal.seen.rindex(b"healthy")
    assert b"Traceback" not in terminal.seen
    assert re.search(rb"\x1b\[\d*A", terminal.seen), "it goes back up to draw over the last answer"


def test_a_smaller_terminal_gets_shorter_lines(terminal: Terminal) -> None:
    terminal.read_until(2, b"other")
    terminal.resize(30)
    terminal.read_until(2, "…".encode())
    terminal.read_until(4, b"other")  # what was on its way at the old size has come
    before = len(terminal.seen)
    terminal.read_until(4, b"other")
    terminal.type(b"\x03")

    drawn = re.sub(rb"\x1b\[[\d;?]*[A-Za-z]|\r", b"\n", terminal.seen[before:]).decode()
    assert terminal.exit_code() == 130
    assert max(len(line) for line in drawn.splitlines()) <= 30


@pytest.mark.parametrize("format", ["json", "jsonl", "csv", "prometheus", "table"])
def test_on_a_pipe_one_answer_follows_the_other(format: str, profile: Path) -> None:
    """No escape sequence, and an end by signal as of any other command."""
    with spawn("health", "--watch", "--interval", "20ms", "-f", format) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(20)]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)

    assert (process.returncode, err) == (130, b"")
    assert b"\x1b" not in b"".join(lines)
    if format in ("json", "jsonl"):
        assert [json.loads(line) for line in lines]


def test_a_reader_that_leaves(profile: Path) -> None:
    with spawn("health", "--watch", "--interval", "20ms", "-f", "json") as process:
        assert process.stdout
        assert process.stderr
        first = json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.wait(timeout=120) == 0
        assert process.stderr.read() == b""

    assert first["status"] == "healthy"


def test_terminate(profile: Path) -> None:
    with spawn("health", "--watch", "--interval", "20ms") as process:
        assert process.stdout
        process.stdout.readline()
        process.terminate()
        _, err = process.communicate(timeout=120)

    assert (process.returncode, err) == (143, b"")
