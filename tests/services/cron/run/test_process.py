"""Runs as process trees, with real processes: ends, timeouts, escapes, and output without end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from katax_cli.services.cron.identity import daemon_id, live_pid
from katax_cli.services.cron.run.process import HEAD_BYTES, TAIL_BYTES, Captured, Ended, JobProcess, children
from katax_cli.services.processes.tree import Reaper, Tree, processes
from tests.waiting import until

MARK = "KATAX_RUN_ID=test-run-{}"
Start = Callable[..., JobProcess]


@pytest.fixture
def mark() -> str:
    return MARK.format(os.urandom(8).hex())


@pytest.fixture
def start(tmp_path: Path, mark: str) -> Iterator[Start]:
    """Starts a job; whatever is left of its tree is killed after the test."""
    trees: list[Tree] = []

    def make(
        words: str | list[str], sink: Callable[[str, bytes], None] = lambda _name, _data: None
    ) -> JobProcess:
        name, _, value = mark.partition("=")
        process = JobProcess(
            words, folder=str(tmp_path), environ={**os.environ, name: value}, mark=mark, sink=sink
        )
        trees.append(Tree(process.pid, mark))
        return process

    yield make
    for tree in trees:
        tree.kill()


def wait_for(file: Path) -> str:
    while not (file.exists() and file.read_text().endswith("\n")):
        time.sleep(0.01)
    return file.read_text().strip()


def lives(pid: int) -> bool:
    return any(seen.pid == pid and seen.state not in "ZX" for seen in processes())


def test_exit_status(start: Start) -> None:
    assert start("exit 3").run(timeout=None, kill_after=1.0) == Ended(3)
    assert start(["true"]).run(timeout=10.0, kill_after=1.0) == Ended(0)
    assert start("kill -9 $$").run(timeout=None, kill_after=1.0) == Ended(128 + 9)


def test_a_program_has_an_identity_whatever_its_name(start: Start, tmp_path: Path) -> None:
    # Linux cuts names after 15 bytes, here within a character.
    script = tmp_path / "fourteen-bytesä"
    script.write_text("#!/bin/sh\necho ready > ready\nsleep 600\nexit 1\n")
    script.chmod(0o755)
    job = start([str(script)])
    wait_for(tmp_path / "ready")

    assert live_pid(daemon_id(job.pid)) == job.pid
    job.stop("seen", force=True)
    assert job.run(timeout=None, kill_after=1.0).stopped == "seen"


def test_both_outputs_arrive_as_they_are(start: Start) -> None:
    got: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    def sink(name: str, data: bytes) -> None:
        got[name] += data

    start("echo out; echo err >&2; printf '\\0\\377'", sink).run(timeout=None, kill_after=1.0)

    assert got == {"stdout": b"out\n\x00\xff", "stderr": b"err\n"}


def test_stdin_is_empty(start: Start) -> None:
    """A job that reads waits for nobody."""
    assert start("cat; exit 7").run(timeout=60.0, kill_after=1.0) == Ended(7)


def test_a_command_that_does_not_exist(start: Start) -> None:
    before = children()
    with pytest.raises(FileNotFoundError):
        start(["/nonexistent/program"])

    assert children() == before


def test_term_comes_first(start: Start, tmp_path: Path) -> None:
    """A job that ends on TERM within its grace is not killed."""
    job = start("trap 'exit 5' TERM; echo ready > ready; while :; do sleep 0.05; done")
    wait_for(tmp_path / "ready")

    assert job.run(timeout=0.3, kill_after=30.0) == Ended(5, "timed out after 0.3 s")


def test_kill_comes_when_term_is_ignored(start: Start, tmp_path: Path) -> None:
    job = start("trap '' TERM; echo ready > ready; while :; do sleep 0.05; done")
    wait_for(tmp_path / "ready")

    assert job.run(timeout=0.2, kill_after=0.2) == Ended(128 + signal.SIGKILL, "timed out after 0.2 s")


ESCAPES = {
    "a child that ignores TERM": "(trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > pid; sleep 600; :') & wait",
    "a session of its own": "setsid sh -c 'trap \"\" TERM; echo $$ > pid; sleep 600; :' & wait",
    "an orphan in a session of its own": (
        "(setsid sh -c 'trap \"\" TERM; echo $$ > pid; sleep 600; :' &) ; sleep 600"
    ),
    "a child without our environment": "env -i setsid sh -c 'trap \"\" TERM; echo $$ > pid; sleep 600; :' & wait",
}


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES.keys())
def test_nothing_of_the_tree_survives(start: Start, tmp_path: Path, escape: str) -> None:
    job = start(escape)

    def stop_when_escaped() -> None:
        wait_for(tmp_path / "pid")
        job.stop("replaced")

    threading.Thread(target=stop_when_escaped).start()

    ended = job.run(timeout=60.0, kill_after=0.3)

    assert ended.stopped == "replaced"
    assert not lives(int(wait_for(tmp_path / "pid")))


def test_killing_the_group_alone_would_not_do(start: Start, tmp_path: Path) -> None:
    """The bad twin: the escaped process survives a signal to the group."""
    job = start(ESCAPES["a session of its own"])
    escaped = int(wait_for(tmp_path / "pid"))

    os.killpg(job.pid, signal.SIGKILL)
    job.run(timeout=None, kill_after=1.0)

    assert lives(escaped)


def test_what_a_job_leaves_behind_by_itself_is_left_alone(start: Start, tmp_path: Path) -> None:
    """A background process is not waited for, though it holds the pipes, and not killed."""
    ended = start("sh -c 'echo $$ > pid; sleep 600; :' & while ! [ -s pid ]; do sleep 0.02; done").run(
        timeout=60.0, kill_after=1.0
    )

    assert ended == Ended(0)
    assert lives(int(wait_for(tmp_path / "pid")))


def test_force_is_immediate(start: Start) -> None:
    job = start("trap '' TERM; while :; do sleep 0.05; done")
    job.stop("forced", force=True)

    assert job.run(timeout=None, kill_after=600.0) == Ended(128 + signal.SIGKILL, "forced")


def test_stopping_what_has_ended_changes_nothing(start: Start) -> None:
    job = start("exit 2")

    assert job.run(timeout=None, kill_after=1.0) == Ended(2)
    job.stop("late")


def test_output_without_end_is_capped() -> None:
    captured = Captured()
    for number in range(2000):
        captured.add(b"%07d\n" % number * 100)

    assert captured.size == 2000 * 100 * 8
    assert captured.head.startswith("0000000\n")
    assert len(captured.head) == HEAD_BYTES
    assert captured.tail is not None
    assert captured.tail.endswith("0001999\n")
    assert len(captured.tail) == TAIL_BYTES


def test_short_output_has_no_tail() -> None:
    """Nothing is stored twice, and nothing that a database refuses."""
    captured = Captured()
    captured.add(b"a\0b\xff")

    assert (captured.head, captured.tail) == ("a\ufffdb\ufffd", None)


def test_200_megabytes_take_no_memory(start: Start) -> None:
    captured = Captured()

    ended = start("head -c 200000000 /dev/zero", lambda _name, data: captured.add(data)).run(
        timeout=100.0, kill_after=1.0
    )

    assert (ended, captured.size) == (Ended(0), 200_000_000)
    assert len(captured.head) + len(captured.tail or "") == HEAD_BYTES + TAIL_BYTES


def test_nobody_writes_while_the_reader_is_slow(start: Start, tmp_path: Path, mark: str) -> None:
    """Neither the job nor what left its group: their output would take memory without bound."""
    ready = threading.Event()
    tree = Tree(-1, mark)

    def slow(_name: str, _data: bytes) -> None:
        until(lambda: ready.is_set() or {seen.state for seen in tree.members()} == {"T"})
        ready.set()

    job = start("setsid yes & exec yes", slow)
    threading.Thread(target=lambda: job.stop("seen", force=ready.wait())).start()

    assert job.run(timeout=None, kill_after=60.0) == Ended(128 + signal.SIGKILL, "seen")
    assert tree.members() == []


REAPING = """
import os, subprocess, sys, time
from katax_cli.services.processes.tree import Reaper, become_subreaper, processes
assert become_subreaper()
own = subprocess.Popen(["true"])
subprocess.run(["sh", "-c", "(sleep 0.1; exit 4) & exit 0"], check=True)
while [seen.state for seen in processes() if seen.parent == os.getpid()] != ["Z", "Z"]:
    time.sleep(0.01)
reaper = Reaper()
print(reaper.reap({own.pid}), reaper.reap({own.pid}), reaper.reap({own.pid}), own.wait())
"""


def test_orphans_are_reaped_and_nobody_elses_children() -> None:
    """In a process of its own, which it changes for good: the orphan goes in the second round, ours stays."""
    done = subprocess.run([sys.executable, "-c", REAPING], capture_output=True, text=True, check=True)

    assert done.stdout == "0 1 0 0\n"


def test_a_reaper_without_zombies_looks_at_nothing() -> None:
    assert Reaper().reap(()) == 0
