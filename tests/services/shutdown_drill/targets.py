"""Programs to be drilled, one that stops well and those that do not: `python targets.py KIND URL [PORT]`."""

from __future__ import annotations

import http.server
import itertools
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

stop = threading.Event()
_woken, _waker = os.pipe()


def main(kind: str, url: str, port: str = "0") -> int:
    if kind == "slow-to-start":
        time.sleep(600.0)
    os.set_blocking(_waker, False)
    signal.set_wakeup_fd(_waker)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return KINDS[kind](url, int(port))


def until_stopped() -> None:
    """Waits for the signal. One that another thread took, as it may after a stop, ends no wait for a lock."""
    select.select([_woken], [], [])


def connect(url: str) -> Any:
    """A connection in autocommit mode whose `execute` runs a statement and returns a cursor."""
    if not url.startswith("postgresql"):
        return _Mysql(url)
    import psycopg

    return psycopg.connect(url, autocommit=True)


class _Mysql:
    def __init__(self, url: str) -> None:
        import pymysql

        at = urlsplit(url)
        self._connection = pymysql.connect(
            host=at.hostname,
            port=at.port or 3306,
            user=at.username,
            password=at.password or "",
            database=at.path[1:],
            autocommit=True,
        )

    def execute(self, sql: str) -> Any:
        cursor = self._connection.cursor()
        cursor.execute(sql.replace("pg_sleep", "sleep"))
        return cursor

    def close(self) -> None:
        self._connection.close()


@contextmanager
def transaction(connection: Any) -> Iterator[None]:
    connection.execute("begin")
    connection.execute("insert into work values (1)")
    yield
    connection.execute("commit")


def good(url: str, _port: int) -> int:
    """Finishes the transaction that it is in, closes, and ends."""
    connection = connect(url)
    while not stop.is_set():
        with transaction(connection):
            until_stopped()
            time.sleep(0.1)
    connection.close()
    return 0


def wrong_code(url: str, port: int) -> int:
    return good(url, port) + 3


def ignores(url: str, _port: int) -> int:
    connection = connect(url)
    while True:
        connection.execute("select 1")
        time.sleep(0.05)


def drops_work(url: str, _port: int) -> int:
    """Rolls back what it was doing."""
    connection = connect(url)
    connection.execute("begin")
    connection.execute("insert into work values (1)")
    until_stopped()
    connection.execute("rollback")
    connection.close()
    return 0


def rude(url: str, _port: int) -> int:
    """Ends without closing its connection."""
    connection = connect(url)
    connection.execute("select 1")
    until_stopped()
    os._exit(0)


def _ends_while(url: str, *statements: str) -> int:
    """The server works on for a program that is gone."""
    connection = connect(url)

    def run() -> None:
        for statement in statements:
            connection.execute(statement)

    threading.Thread(target=run, daemon=True).start()
    with closing(connect(url)) as watcher:
        # A signal that comes early does not end it before the server has the last of them.
        while not watcher.execute(_running(url)).fetchone()[0]:
            time.sleep(0.01)
    until_stopped()
    os._exit(0)


def _running(url: str) -> str:
    """The number of sleeping statements in this database."""
    if url.startswith("mysql"):
        return "select count(*) from information_schema.processlist where db = database() and info like '%sleep(20)'"
    return (
        "select count(*) from pg_stat_activity where datname = current_database() and query like '%sleep(20)'"
        " and state = 'active'"
    )


def leaks_session(url: str, _port: int) -> int:
    return _ends_while(url, "select pg_sleep(20)")


def leaves_transaction(url: str, _port: int) -> int:
    return _ends_while(url, "begin", "insert into work values (1)", "select pg_sleep(20)")


def leaves_lock(url: str, _port: int) -> int:
    lock = "get_lock('katax-drill', 0)" if url.startswith("mysql") else "pg_advisory_lock(4711)"
    return _ends_while(url, f"select {lock}", "select pg_sleep(20)")


def leaves_child(url: str, _port: int) -> int:
    """Its child is in a session of its own and does not hear of the end."""
    words = [sys.executable, "-m", __spec__.name, "holds", url]
    child = subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE)
    _until_it_holds(child)
    connection = connect(url)
    until_stopped()
    connection.close()
    return 0 if child.poll() is None else 1


def _until_it_holds(child: subprocess.Popen[bytes]) -> None:
    assert child.stdout is not None
    child.stdout.readline()


def loses_child(url: str, port: int) -> int:
    """Its child cleared its environment, left the session and lost its parent."""
    leave = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"
    holds = (sys.executable, "-m", __spec__.name, "holds", url)
    environ = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    leaver = subprocess.Popen((sys.executable, "-c", leave, *holds), env=environ, stdout=subprocess.PIPE)
    leaver.wait()
    _until_it_holds(leaver)
    return good(url, port)


def holds(url: str, _port: int) -> int:
    connection = connect(url)
    connection.execute("select 1")
    sys.stdout.write("connected\n")
    sys.stdout.flush()
    time.sleep(300)
    connection.close()
    return 0


def migrates(url: str, _port: int) -> int:
    """Waits in the middle of DDL until it is stopped."""
    connection = connect(url)
    time.sleep(0.3)
    connection.execute("begin")
    connection.execute("alter table work add column more int")
    until_stopped()
    connection.execute("commit")
    connection.close()
    return 0


def deaf_in_queries(url: str, _port: int) -> int:
    """Answers a signal only between statements, and gives none of them up."""
    connection = connect(url)
    while not stop.is_set():
        connection.execute("select 1")
        time.sleep(0.02)
    connection.execute("select 'the last'")
    connection.close()
    return 0


def breaks(url: str, _port: int) -> int:
    """Takes it for granted that its server is there."""
    try:
        connection = connect(url)
    finally:
        # Only then, also when that failed: it does not end before the signal.
        until_stopped()
    connection.execute("select 1")
    return 0


def gives_up(url: str, _port: int) -> int:
    """Its statements run beside; whatever became of them it ends."""

    def run() -> None:
        connection = connect(url)
        while not stop.is_set():
            connection.execute("select 1")
            time.sleep(0.02)
        connection.close()

    threading.Thread(target=run, daemon=True).start()
    until_stopped()
    time.sleep(0.2)
    return 0


def slow(url: str, _port: int) -> int:
    """Drains for long; the second signal ends it."""

    def drain(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        stop.set()

    signal.signal(signal.SIGTERM, drain)
    connection = connect(url)
    until_stopped()
    time.sleep(600)
    connection.close()
    return 0


def _redis(url: str) -> Any:
    import redis

    return redis.Redis.from_url(url)


def clean_redis(url: str, _port: int) -> int:
    """Takes a lock and gives it back."""
    client = _redis(url)
    client.set("lock:job", "1")
    client.set("cache:answer", "42")
    until_stopped()
    client.delete("lock:job")
    client.close()
    return 0


def leaves_key(url: str, _port: int) -> int:
    client = _redis(url)
    client.set("lock:job", "1")
    client.set("cache:answer", "42")
    until_stopped()
    client.close()
    return 0


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers after a while."""

    def do_GET(self) -> None:
        time.sleep(0.2)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None: ...


class _Counting(_Handler):
    """Counts its answers."""

    answers = itertools.count(1)
    answered = 0

    def do_GET(self) -> None:
        super().do_GET()
        _Counting.answered = next(self.answers)


class _Stopping(_Handler):
    """Answers the first request and no other."""

    first = threading.Lock()

    def do_GET(self) -> None:
        if self.first.acquire(blocking=False):
            super().do_GET()
        else:
            threading.Event().wait()


def _serve(port: int, handler: type[_Handler] = _Handler) -> http.server.ThreadingHTTPServer:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


def serves(url: str, port: int) -> int:
    """Stops taking requests, answers those it has, and ends."""
    connection = connect(url)
    server = _serve(port)
    server.daemon_threads = False
    until_stopped()
    server.shutdown()
    # What the kernel has accepted is in flight too.
    while select.select([server], [], [], 0)[0]:
        server.handle_request()
    server.server_close()
    connection.close()
    return 0


def drops_requests(url: str, port: int) -> int:
    """Ends while requests wait for their answer."""
    connection = connect(url)
    _serve(port, _Stopping)
    until_stopped()
    connection.close()
    os._exit(0)


def goes_on_serving(url: str, port: int) -> int:
    """Takes work for more than a second after it was told to stop, until some came so late."""
    connection = connect(url)
    server = _serve(port, _Counting)
    until_stopped()
    time.sleep(1.2)
    # Three workers ask: of so many requests one was begun after the answer to another of these.
    late = _Counting.answered + 4
    while _Counting.answered < late:
        time.sleep(0.02)
    server.shutdown()
    server.server_close()
    connection.close()
    return 0


KINDS: dict[str, Callable[[str, int], int]] = {
    work.__name__.replace("_", "-"): work
    for work in (
        good,
        wrong_code,
        ignores,
        drops_work,
        rude,
        leaks_session,
        leaves_transaction,
        leaves_lock,
        leaves_child,
        loses_child,
        holds,
        migrates,
        deaf_in_queries,
        breaks,
        gives_up,
        slow,
        clean_redis,
        leaves_key,
        serves,
        drops_requests,
        goes_on_serving,
    )
}

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
