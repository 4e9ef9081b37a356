"""Ctrl-C, SIGTERM and readers that leave: the exit code, and nothing left running on the server."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.cli.harness import write_profile
from tests.cli.processes import eventually, spawn
from tests.promises.witness import mysql_connection
from tests.servers.fixtures import MakeFresh, Target
from tests.waiting import CONNECTING

FOREVER = {
    "postgresql": "select pg_sleep(600) /* forever */",
    "mysql": "select sleep(600) /* forever */",
}
ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
ENDS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}


@pytest.fixture(autouse=True)
def _terminals_hang_up() -> Iterator[None]:
    """Also for programs of a run under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def running(target: Target) -> Callable[[], int]:
    """Asks the server how many of our statements it is working on."""

    def ask() -> int:
        if target.engine == "postgresql":
            with psycopg.connect(target.url) as connection:
                row = connection.execute(
                    "select count(*) from pg_stat_activity "
                    "where query like '%forever%' and state = 'active' and pid <> pg_backend_pid()"
                    " and datname = current_database()"
                ).fetchone()
        else:
            with mysql_connection(target.url) as maria, maria.cursor() as cursor:
                cursor.execute(
                    "select count(*) from information_schema.processlist "
                    "where info like '%%sleep(600)%%' and id <> connection_id() and db = database()"
                )
                row = cursor.fetchone()
        assert row is not None
        return int(row[0])

    return ask


@pytest.mark.parametrize(
    ("engine", "connection", "sent"),
    [
        ("postgresql", "main", signal.SIGINT),
        ("postgresql", "*", signal.SIGTERM),
        ("postgresql", "main", signal.SIGHUP),
        ("mysql", "main", signal.SIGTERM),
        ("mysql", "*", signal.SIGINT),
    ],
)
def test_a_signal_ends_the_query_on_the_server(
    engine: str, connection: str, sent: signal.Signals, fresh: MakeFresh, tmp_path: Path
) -> None:
    """Each two of engine, way and signal meet; of SIGHUP, which a terminal that is closed sends, one is enough."""
    target = fresh(engine)
    write_profile(tmp_path, {"main": target.url})
    statements = running(target)

    with spawn("db", "query", "-c", connection, FOREVER[engine]) as process:
        assert eventually(lambda: statements() == 1)
        # A shell sends a hang-up on to its jobs, and the kernel sends one when the shell ends.
        for _ in range(2 if sent == signal.SIGHUP else 1):
            process.send_signal(sent)
        out, err = process.communicate(timeout=120)

    assert (process.returncode, out, err) == (ENDS[sent], b"", b"")
    assert eventually(lambda: statements() == 0)


@pytest.mark.parametrize("sent", ENDS, ids=lambda sent: sent.name)
def test_a_signal_ends_a_query_of_sqlite(sent: signal.Signals, tmp_path: Path) -> None:
    """It runs in the process itself; its journal shows that it has begun, and its end that it is gone."""
    file = tmp_path / "x.db"
    with sqlite3.connect(file) as database:
        database.execute("create table t (n)")
    write_profile(tmp_path, {"main": f"sqlite:///{file}"})
    script = f"begin immediate; insert into t values (1); insert into t {ENDLESS}"

    with spawn("db", "exec", script) as process:
        assert eventually(file.with_name("x.db-journal").exists)
        process.send_signal(sent)
        out, err = process.communicate(timeout=120)

    assert (process.returncode, out) == (ENDS[sent], b""), err
    assert not is_locked(file)
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("select count(*) from t").fetchone() == (0,)


def is_locked(file: Path) -> bool:
    database = sqlite3.connect(file, timeout=0)
    try:
        database.execute("begin immediate")
    except sqlite3.OperationalError:
        return True
    finally:
        database.close()
    return False


def test_a_signal_ends_waiting_for_a_server(deaf_port: int, tmp_path: Path) -> None:
    """Nobody waits for a connect that cannot be interrupted."""
    write_profile(tmp_path, {"main": f"postgresql://a:b@127.0.0.1:{deaf_port}/x"}, extra="")
    profile = tmp_path / "profiles" / "test.toml"
    profile.write_text(
        profile.read_text().replace(f"connect_timeout = {CONNECTING}", "connect_timeout = 600.0")
    )

    with spawn("db", "ping", "--timeout", "10m") as process:
        assert eventually(lambda: _threads(process.pid) > 1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)

    assert (process.returncode, err) == (130, b"")


def _threads(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task")
    return len(list(tasks.iterdir())) if tasks.exists() else 0


NUMBERS = {
    "postgresql": "select generate_series(1, 3000000) as n",
    "mysql": "select seq as n from seq_1_to_3000000",
    "sqlite": "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000000) select i as n from n",
}


@pytest.mark.parametrize(
    ("engine", "format"), [("postgresql", "csv"), ("mysql", "table"), ("sqlite", "json")]
)
def test_a_reader_that_leaves_ends_the_command_quietly(
    engine: str, format: str, fresh: MakeFresh, tmp_path: Path
) -> None:
    """`| head -1`: the first line, no complaint, and a query that is over on the server too.

    Engines and formats know nothing of each other.
    """
    write_profile(tmp_path, {"main": fresh(engine).url})
    words = ["db", "query", NUMBERS[engine], "-f", format]

    with spawn(*words) as process:
        assert process.stdout
        assert process.stderr
        first = process.stdout.readline()
        process.stdout.close()
        complaint = process.stderr.read()
        assert process.wait(timeout=120) == 0

    assert first.strip() in (b"n", b"[")
    assert complaint == b""


def test_a_pipeline_of_a_shell(tmp_path: Path) -> None:
    """The exit status of each part, as bash's PIPESTATUS says it."""
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    line = f'{sys.executable} -m katax_cli db query "{NUMBERS["sqlite"]}" -f csv | head -1; echo "${{PIPESTATUS[@]}}"'

    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("n\n0 0\n", "")


LOADING = """
import signal, sys
_, module, number, *words = sys.argv

class Raises:
    def __del__(self):
        signal.raise_signal(abs(int(number)))

class Finder:
    def find_spec(name, path, target=None):
        if name == module:
            # Below 0 it is raised in a finalizer, which drops it.
            Raises() if int(number) < 0 else signal.raise_signal(int(number))

sys.meta_path.insert(0, Finder)
from katax_cli.__main__ import main
sys.argv[1:] = words
main()
"""


def test_a_signal_while_the_program_is_being_loaded(tmp_path: Path) -> None:
    """When a library, a command or its engine is imported, in a finalizer, and while the error of another is told."""
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    for module, number, words in (
        ("typer", signal.SIGINT, ("--help",)),
        ("katax_cli.cli.db.commands", signal.SIGINT, ("db", "ping")),
        ("katax_cli.engines.sqlite", -signal.SIGINT, ("db", "query", ENDLESS)),
        ("katax_cli.engines.sqlite", -signal.SIGTERM, ("db", "query", ENDLESS)),
        ("katax_cli.core.text.redact", signal.SIGTERM, ("nope",)),
    ):
        line = [sys.executable, "-c", LOADING, module, str(int(number)), *words]
        done = subprocess.run(line, capture_output=True, check=False, timeout=120)
        told = (done.returncode, done.stdout, done.stderr)
        # What a finalizer dropped comes again after a moment, on a slow machine in an import, which may make another
        # error of it: of an endless query the end is what counts.
        comes_again = number < 0 and done.returncode != 0 and done.stdout == b""
        assert comes_again or told == (128 + abs(number), b"", b""), (module, number, told)


def test_a_stream_that_the_caller_closed_is_no_stream(tmp_path: Path) -> None:
    """Neither a traceback, nor output in the database that would be opened under the stream's number."""
    write_profile(tmp_path, {"main": "sqlite:///main.db"})
    line = f"{sys.executable} -m katax_cli db exec 'create table t (n integer)' <&- >&-"

    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    with closing(sqlite3.connect(tmp_path / "main.db")) as connection:
        assert connection.execute("select count(*) from t").fetchone() == (0,)
