"""From a signal to the end of a real process, judged by its exit status and by what the servers still see."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

import pytest

from katax_cli import Database
from katax_cli.services.program.container import Katax
from tests.servers.fixtures import MakeFresh
from tests.services.runtimes import patient
from tests.waiting import patiently

TIMEOUT = 60.0


class Program(Protocol):
    """Starts a program that says `ready`; it is killed after the test if it still runs."""

    def __call__(self, code: str, *words: str) -> subprocess.Popen[str]: ...


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with ExitStack() as stack:

        def start(code: str, *words: str) -> subprocess.Popen[str]:
            script = tmp_path / "program.py"
            script.write_text(code)
            process = subprocess.Popen(
                [sys.executable, str(script), *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env={
                    "PATH": "/usr/bin:/bin",
                    "HOME": str(tmp_path),
                    "PYTHONPATH": str(Path(__file__).parents[3]),
                },
            )
            stack.enter_context(process)
            stack.callback(_kill_all, process.pid)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()
            return process

        yield start


def _kill_all(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def ended(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str, str]:
    """Sends the signal and returns exit status and what was written."""
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT)
    return process.returncode, out, err


WAITING = """
import sys, threading
from katax_cli import Katax, register_shutdown_handlers
katax = Katax("local")
for number, url in enumerate(sys.argv[1:]):
    katax.database(f"db{number}", connection={"url": url, "connect_timeout": 60}).connect()
register_shutdown_handlers(katax)
katax.on_shutdown(lambda: print("hook", flush=True))
print("ready", flush=True)
threading.Event().wait()
"""


def sessions(database: Database) -> int:
    """How many sessions of other katax processes the server sees."""
    kind = database.settings.type
    if kind == "redis":
        listed = database.redis("CLIENT", "LIST").decode().splitlines()  # type: ignore[attr-defined]
        return sum("name=katax" in line for line in listed) - 1
    sql = {
        "postgresql": "select count(*) as n from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()",
        "mysql": "select count(*) as n from information_schema.processlist"
        " where db = database() and id <> connection_id()",
    }[kind]
    count: int = database.query(sql)[0]["n"]  # type: ignore[attr-defined]
    return count


def eventually(reached: Callable[[], bool]) -> bool:
    """Servers notice a hang-up a moment later."""
    deadline = time.monotonic() + TIMEOUT
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_signal_runs_the_hooks_and_leaves_nothing_on_any_server(program: Program, fresh: MakeFresh) -> None:
    urls = [fresh("postgresql").url, fresh("mysql").url, fresh("redis").url]
    process = program(WAITING, *urls)
    with Katax("local") as observer:
        databases = [observer.database(f"db{n}", connection=patient(url)) for n, url in enumerate(urls)]
        before = [sessions(database) for database in databases]

        code, out, err = ended(process)

        assert all(count >= 1 for count in before)
        assert (code, out, err) == (0, "hook\n", "")
        for database, count in zip(databases, before, strict=True):
            assert eventually(lambda: sessions(database) <= count - 1), database  # noqa: B023


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_usual_signals_end_the_process_cleanly(program: Program, number: int, sqlite_url: str) -> None:
    assert ended(program(WAITING, sqlite_url), number) == (0, "hook\n", "")


def test_the_main_threads_query_ends_before_its_pool_is_closed(program: Program, postgresql_url: str) -> None:
    """The next one meets a closed pool; that is the end of the program, not its failure."""
    process = program(
        """
import sys
from katax_cli import Katax, register_shutdown_handlers
katax = Katax("local")
db = katax.database(connection={"url": sys.argv[1], "connect_timeout": 60})
db.execute("create table seen (n int)")
register_shutdown_handlers(katax)
print("ready", flush=True)
while True:
    with db.transaction() as transaction:
        transaction.execute("insert into seen select 1 from pg_sleep(0.5)")
    print("written", flush=True)
""",
        postgresql_url,
    )

    code, out, err = ended(process)

    with Katax("local") as observer:
        rows = observer.database(connection=patient(postgresql_url)).query("select n from seen")
    assert code == 0
    assert "Traceback" not in err
    # The end may come between the COMMIT and the word of it.
    assert len(rows) - out.count("written") in (0, 1)
    assert rows


def test_a_worker_finishes_its_work(program: Program, postgresql_url: str) -> None:
    process = program(
        """
import sys, threading
from katax_cli import Katax, register_shutdown_handlers
katax = Katax("local")
db = katax.database(connection={"url": sys.argv[1], "connect_timeout": 60})
db.connect()
register_shutdown_handlers(katax)
def work():
    with db.transaction() as transaction:
        print("ready", flush=True)
        transaction.execute("select pg_sleep(1)")
    print("worked", flush=True)
threading.Thread(target=work).start()
threading.Event().wait()
""",
        postgresql_url,
    )

    assert ended(process)[:2] == (0, "worked\n")


HANGING = """
import sys, threading
from katax_cli import Katax, register_shutdown_handlers
katax = Katax("local")
katax.database(connection={"url": sys.argv[1], "connect_timeout": 60}).connect()
@katax.on_shutdown
def flush():
    print("flushing", flush=True)
    threading.Event().wait()
register_shutdown_handlers(katax, timeout=float(sys.argv[2]))
print("ready", flush=True)
threading.Event().wait()
"""


def test_a_hook_over_the_deadline_is_left_behind_and_named(program: Program, postgresql_url: str) -> None:
    def is_named(seconds: float) -> bool:
        code, out, err = ended(program(HANGING, postgresql_url, str(seconds)))
        assert (code, out) == (1, "flushing\n")
        assert re.search(r"shutdown incomplete after \d+\.\d s: hook flush did not finish", err)
        # A busy machine may close no connection in what is left of so little time.
        return err.endswith("hook flush did not finish\n")

    patiently(is_named, shortest=1.0)
    with Katax("local") as observer:
        database = observer.database(connection=patient(postgresql_url))
        assert eventually(lambda: sessions(database) == 0)


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_leaves_at_once(
    program: Program, sqlite_url: str, number: signal.Signals, expected: int
) -> None:
    process = program(HANGING, sqlite_url, "600")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "flushing\n"

    code, _, err = ended(process, number)

    assert code == expected
    assert err == f"forced by a second {number.name}; left behind: hook flush\n"


def test_a_second_signal_that_does_not_wake_the_main_thread_ends_it_too(program: Program) -> None:
    """As when it arrives while the main thread is about to wait for a lock: handlers run on that thread only."""
    process = program(
        """
import signal, threading
from katax_cli import Katax, register_shutdown_handlers
katax = Katax("local")
began = threading.Event()
@katax.on_shutdown
def flush():
    began.set()
    threading.Event().wait()
register_shutdown_handlers(katax, timeout=600.0)
print("ready", flush=True)
began.wait()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
threading.Timer(0.2, print, ["flushing"], {"flush": True}).start()
threading.Event().wait()
"""
    )
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "flushing\n"

    code, _, err = ended(process)

    assert (code, err) == (143, "forced by a second SIGTERM; left behind: hook flush\n")


def test_reraise_ends_the_process_by_the_signal_itself(program: Program, sqlite_url: str) -> None:
    code = WAITING.replace("handlers(katax)", "handlers(katax, reraise=True)")

    assert ended(program(code, sqlite_url)) == (-signal.SIGTERM, "hook\n", "")


def test_exit_handlers_and_finally_blocks_still_run(program: Program) -> None:
    process = program(
        """
import atexit, threading
from katax_cli import register_shutdown_handlers
atexit.register(lambda: print("atexit", flush=True))
register_shutdown_handlers([])
print("ready", flush=True)
try:
    threading.Event().wait()
finally:
    print("finally", flush=True)
"""
    )

    assert ended(process) == (0, "finally\natexit\n", "")


def test_a_second_signal_also_cuts_what_the_program_does_at_its_end(program: Program) -> None:
    process = program(
        """
import threading, time
from katax_cli import register_shutdown_handlers
register_shutdown_handlers([])
print("ready", flush=True)
try:
    threading.Event().wait()
finally:
    print("finally", flush=True)
    time.sleep(600)
"""
    )
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "finally\n"

    code, _, err = ended(process)

    assert code == 143
    assert err == "forced by a second SIGTERM; left behind: nothing\n"


def test_a_call_that_comes_late_is_no_second_signal(program: Program) -> None:
    """The shutdown calls the main thread away until it leaves; on a busy machine its last call may take its time."""
    process = program(
        """
import hashlib, signal, time
from katax_cli import register_shutdown_handlers
call = signal.pthread_kill
def late(*words):
    time.sleep(0.5)
    call(*words)
signal.pthread_kill = late
register_shutdown_handlers([])
print("ready", flush=True)
try:
    while True:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000)  # the main thread hears nothing meanwhile
finally:
    time.sleep(1)
    print("finally", flush=True)
"""
    )

    assert ended(process) == (0, "finally\n", "")


def test_a_main_thread_that_ends_by_itself_waits_for_the_shutdown(program: Program) -> None:
    process = program(
        """
import threading, time
from katax_cli import register_shutdown_handlers
main_ended = threading.Event()
def slow():
    main_ended.wait()
    time.sleep(1)
    print("closed", flush=True)
controller = register_shutdown_handlers([], on_shutdown=slow)
print("ready", flush=True)
while not controller.is_shutting_down():
    time.sleep(0.01)
print("main ended", flush=True)
main_ended.set()
"""
    )

    assert ended(process) == (0, "main ended\nclosed\n", "")


def test_a_thread_that_never_ends_is_cut_off_and_named(program: Program) -> None:
    code = """
import sys, threading
from katax_cli import register_shutdown_handlers
threading.Thread(target=threading.Event().wait, name="forever").start()
register_shutdown_handlers([], timeout=float(sys.argv[1]))
print("ready", flush=True)
threading.Event().wait()
"""

    def is_named(seconds: float) -> bool:
        found = ended(program(code, str(seconds)))
        if "MainThread" in found[2]:
            return False  # a busy machine took as long to end the main thread
        assert found == (0, "", "left behind at exit: forever\n")
        return True

    patiently(is_named, shortest=0.5)


def test_other_errors_of_the_main_thread_keep_their_traceback(program: Program) -> None:
    process = program(
        """
import sys, threading, time
from katax_cli import register_shutdown_handlers
told = threading.Event()
def tell(*words):
    sys.__excepthook__(*words)
    told.set()
sys.excepthook = tell
controller = register_shutdown_handlers([], on_shutdown=told.wait)
print("ready", flush=True)
while not controller.is_shutting_down():
    time.sleep(0.01)
raise ValueError("mine")
"""
    )

    code, _, err = ended(process)

    assert code == 1
    assert err.endswith("ValueError: mine\n")


def test_a_forked_child_dies_of_the_signal(program: Program) -> None:
    process = program(
        """
import os, signal, threading, time, warnings
from katax_cli import register_shutdown_handlers
register_shutdown_handlers([])
# Python 3.12 says so of every program with a thread, such as the one that waits for signals.
warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork", DeprecationWarning)
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.write(writing, b"x")
    while True:
        time.sleep(0.05)
os.read(reading, 1)
os.kill(child, signal.SIGTERM)
_, status = os.waitpid(child, 0)
print("ready" if os.waitstatus_to_exitcode(status) == -signal.SIGTERM else status, flush=True)
threading.Event().wait()
"""
    )

    assert ended(process) == (0, "", "")


SERVER = """
import asyncio, os, socket, sys
import uvicorn
from katax_cli import Katax, register_shutdown_handlers

katax = Katax("local")
seen = []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                hook = lambda: print("first hook", katax.db("main").closed, flush=True)
                register_shutdown_handlers(katax, on_shutdown=hook)
                register_shutdown_handlers([], on_shutdown=lambda: print("second hook", flush=True))
                print("ready", flush=True)
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                print("lifespan ends", flush=True)
                return
    print("in flight", flush=True)
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    rows = await asyncio.to_thread(katax.database("main").query, "select 7 as n")
    print("answered", flush=True)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
    await send({"type": "http.response.body", "body": str(rows[0]["n"]).encode()})

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
with open("port", "w") as file:
    file.write(str(listener.getsockname()[1]))
os.chdir(os.path.dirname(os.path.abspath(__file__)))
uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listener])
print("server ended", flush=True)
"""


def test_a_server_drains_before_anything_is_closed(program: Program, tmp_path: Path) -> None:
    process = program(SERVER)
    port = int((tmp_path / "port").read_text())
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert process.stdout is not None
        assert process.stdout.readline() == "in flight\n"
        process.send_signal(signal.SIGTERM)
        refused_by = time.monotonic() + TIMEOUT
        while time.monotonic() < refused_by:
            with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), TIMEOUT):
                continue
            break
        (tmp_path / "go").touch()
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    out, err = process.communicate(timeout=TIMEOUT)

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"7")
    assert (out.splitlines(), err) == (
        ["answered", "lifespan ends", "server ended", "first hook False", "second hook"],
        "",
    )
    assert process.returncode == 0


def test_a_second_registration_joins_the_first(program: Program) -> None:
    process = program(
        """
import signal, threading
from katax_cli import Katax, register_shutdown_handlers

register_shutdown_handlers(Katax("local"), on_shutdown=lambda: print("one", flush=True))
register_shutdown_handlers([], on_shutdown=lambda: print("two", flush=True), signals=[signal.SIGTERM, signal.SIGUSR1])
print("ready", flush=True)
threading.Event().wait()
"""
    )

    assert ended(process, signal.SIGUSR1) == (0, "one\ntwo\n", "")
