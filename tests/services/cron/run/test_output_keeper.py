"""The files of jobs stay bounded when nobody reads them, and what is left of them is read without a hole."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from katax_cli.services.cron.run import output_keeper
from katax_cli.services.cron.run.output_keeper import (
    KEPT,
    LARGEST,
    LIMIT,
    OutputKeeper,
    is_written,
    keep_all,
    trim,
)
from katax_cli.services.cron.run.outputs import new_outputs, read_all
from katax_cli.services.cron.run.process import JobProcess
from katax_cli.services.processes.tree import processes
from tests.waiting import SECONDS, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

FLOOD = "setsid sh -c 'echo $$ > pid; exec yes' & until [ -s pid ]; do :; done"
"""A job that ends at once and leaves a process in a session of its own, which writes without an end."""
KILLED = f"""
import os, signal
from katax_cli.services.cron.run import output_keeper
from katax_cli.services.cron.run.process import JobProcess
job = JobProcess({FLOOD + "; sleep 600"!r}, folder=".", environ=dict(os.environ), mark="A=1", sink=print)
while not os.path.exists("pid") or not open("pid").read().strip():
    pass
print(output_keeper.keeper.pid, job.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def keeper() -> Iterator[OutputKeeper]:
    made = OutputKeeper()
    with closing(made):
        yield made


def is_bounded(flood: int) -> bool:
    """Much was written, and little of it is there."""
    status = Path(f"/proc/{flood}/fd/1").stat()
    return status.st_size > 8 * LIMIT and status.st_blocks * 512 <= LIMIT


def test_a_process_that_a_run_left_behind_may_write_without_end(tmp_path: Path) -> None:
    job = JobProcess(FLOOD, folder=str(tmp_path), environ=dict(os.environ), mark="A=1", sink=lambda *_: None)
    try:
        assert job.run(timeout=None, kill_after=1.0).succeeded
        flood = int((tmp_path / "pid").read_text())

        until(lambda: is_bounded(flood))
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_job_whose_daemon_was_killed_may_write_without_end_and_nothing_stays(tmp_path: Path) -> None:
    daemon = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, stdout=subprocess.PIPE, check=False)
    flood = int((tmp_path / "pid").read_text())
    keeping, leader = map(int, daemon.stdout.split())
    try:
        assert daemon.returncode == -signal.SIGKILL
        until(lambda: is_bounded(flood))
    finally:
        os.kill(flood, signal.SIGKILL)
        os.killpg(leader, signal.SIGKILL)

    # Its parent is dead, and the one that has it now may not ask for its status.
    until(lambda: not any(process.pid == keeping and process.state not in "ZX" for process in processes()))


def test_what_was_dropped_is_left_out_of_what_is_read() -> None:
    [output] = new_outputs("stdout")
    readable = os.open(f"/proc/self/fd/{output.fd}", os.O_RDONLY)
    wrote = b"a" * KEPT + b"x" * (LIMIT + KEPT) + b"z" * KEPT
    with open(output.fd, "ab", buffering=0, closefd=False) as file:
        file.write(wrote)
    chunks: list[bytes] = []

    assert trim(readable)
    assert not trim(readable)
    assert read_all([output], lambda _, data: chunks.append(data))
    read = b"".join(chunks)
    assert read.startswith(b"a" * KEPT)
    assert read.endswith(b"z" * KEPT)
    assert len(read) < 3 * KEPT
    assert b"\0" not in read
    assert is_written(readable)
    output.close()
    os.close(readable)


def test_a_file_is_kept_until_its_last_writer_ended() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    [output] = new_outputs("stdout")
    readable = os.open(f"/proc/self/fd/{output.fd}", os.O_RDONLY)
    with theirs:
        thread = threading.Thread(target=keep_all, args=(theirs,))
        thread.start()
        with ours:
            socket.send_fds(ours, [b"inode123"], [readable])
            ours.shutdown(socket.SHUT_WR)
            assert ours.recv(1) == b"s"
            assert thread.is_alive()
            assert is_written(readable)
            output.close()
            thread.join(60.0)
            assert not thread.is_alive()
    os.close(readable)


def test_a_keeper_that_was_killed_is_replaced_and_ends_when_there_is_nothing_to_keep(
    keeper: OutputKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_keeper, "_ANSWER_SECONDS", SECONDS)
    [output] = new_outputs("stdout")
    keeper.keep(output.fd)
    first = keeper.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: Path(f"/proc/{first}/stat").read_text().split()[2] == "Z")
    keeper.keep(output.fd)
    second = keeper.pid

    assert second not in (None, first)
    output.close()
    keeper.close()
    assert not Path(f"/proc/{second}").exists()


def test_a_keeper_that_is_stopped_holds_nothing_up(keeper: OutputKeeper) -> None:
    [output] = new_outputs("stdout")
    keeper.keep(output.fd)
    first = keeper.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    try:
        while keeper.pid == first:
            keeper.keep(output.fd)
    finally:
        output.close()
        os.kill(first, signal.SIGCONT)


def test_what_came_while_the_reader_was_kept_from_running_is_bounded_too() -> None:
    [output] = new_outputs("stdout")
    block = b"x" * 2**20
    with open(output.fd, "ab", buffering=0, closefd=False) as file:
        file.write(b"a" * KEPT)
        for _ in range(LARGEST // len(block) + 8):
            file.write(block)
        file.write(b"z" * KEPT)
    until(lambda: os.fstat(output.fd).st_blocks * 512 <= LIMIT)
    chunks: list[bytes] = []
    read_all([output], lambda _name, data: chunks.append(data))
    assert b"".join(chunks) == b"a" * KEPT + b"z" * KEPT
    output.close()
