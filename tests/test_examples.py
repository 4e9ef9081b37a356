"""The programs and the projects of examples/; the applications are tested under tests/integrations."""

from __future__ import annotations

import runpy
import threading
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from shutil import copytree

import pytest

from katax_cli import Katax, TestDatabase
from tests.cli.harness import katax
from tests.servers.server import Server
from tests.waiting import until

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_worker_does_each_job_once(postgresql: Server) -> None:
    worker = runpy.run_path(str(EXAMPLES / "worker.py"))
    with TestDatabase.create("postgresql", url=postgresql.url) as main:
        main.execute("create table jobs (id int primary key, payload text, done timestamptz)")
        main.execute("insert into jobs select n, 'job' from generate_series(1, 20) as n")
        ended = threading.Event()
        workers = [threading.Thread(target=worker["work"], args=(main, ended)) for _ in range(2)]
        for thread in workers:
            thread.start()
        try:
            while main.scalar("select count(*) from jobs where done is null"):
                assert any(thread.is_alive() for thread in workers)
        finally:
            ended.set()
            for thread in workers:
                thread.join()


def test_the_batch_may_be_run_again() -> None:
    batch = runpy.run_path(str(EXAMPLES / "batch.py"))
    with TestDatabase.create() as main:
        main.execute("create table orders (customer text, amount int)")
        main.execute("create table totals (customer text primary key, amount int)")
        main.execute_many("insert into orders values ($1, $2)", [("ada", 3), ("bob", 4), ("ada", 5)])
        assert [batch["run"](main), batch["run"](main)] == [2, 2]
        assert main.query("select * from totals order by customer") == [
            {"customer": "ada", "amount": 8},
            {"customer": "bob", "amount": 4},
        ]


@pytest.fixture
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of the example, as somebody copies it, and the working directory."""
    copytree(EXAMPLES / request.param, tmp_path, dirs_exist_ok=True)
    return tmp_path


def done(*words: str) -> str:
    """What a command prints that succeeds."""
    ended = katax(*words)
    assert ended.code == 0, ended.err
    return ended.out


@pytest.mark.parametrize("copied", ["cron"], indirect=True)
def test_the_jobs_run_by_the_scheduler_and_inside_a_program(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done("cron", "check")
    done("cron", "run", "prepare")
    carts = "insert into carts (made_at) values (datetime('now')), (datetime('now', '-8 days'))"
    done("db", "exec", carts)
    assert "1 carts removed" in done("cron", "run", "carts")
    assert "%" in done("cron", "run", "disk")
    done("cron", "run", "vacuum")
    monkeypatch.syspath_prepend(str(copied))
    done("db", "exec", carts)
    inside = runpy.run_path("inside.py")
    with Katax() as program:
        inside["schedule"](program)
        program.cron_run("carts")
        main = program.database("main", type="sqlite")
        until(lambda: main.scalar("select count(*) from carts") == 2)


@pytest.mark.parametrize("copied", ["migrations"], indirect=True)
def test_the_migrations_go_up_hold_and_go_down(copied: Path) -> None:
    done("migrate", "up")
    done("seed", "run")
    done("migrate", "verify")
    sql = "select email, amount from orders join customers on customers.id = customer order by orders.id"
    assert katax("db", "query", sql, "-f", "json").json == [
        {"email": "ada@example.com", "amount": 30},
        {"email": "bob@example.com", "amount": 12},
    ]
    done("migrate", "down", "--to", "0", "-y")


@pytest.mark.parametrize("copied", ["alerts"], indirect=True)
def test_each_change_of_health_is_told_once(copied: Path) -> None:
    """A message that could not be sent is sent with the next check; a busy machine may make changes of its own."""
    alerts = runpy.run_path("alerts.py")
    told: list[str] = []
    outages = [OSError("the chat is away")]

    def send(text: str) -> None:
        if outages:
            raise outages.pop()
        told.append(text.partition(":")[0])

    file = copied / "shop.db"
    with Katax() as program:
        monitor = alerts["watched"](program.database("main", type="sqlite"), send, interval=0.05)
        try:
            until(lambda: monitor.get_last_check() is not None)
            until(lambda: is_folder_now(file))
            until(lambda: told and told[-1] == "main is unhealthy")
            file.rmdir()
            until(lambda: told[-1] == "main is healthy")
        finally:
            monitor.stop()
    assert not outages
    assert [text for text, next_one in pairwise(told) if text == next_one] == []


def is_folder_now(file: Path) -> bool:
    """True once a folder is in its place; a check of the monitor may make the file anew in between."""
    file.unlink(missing_ok=True)
    with suppress(FileExistsError):
        file.mkdir()
    return file.is_dir()


@pytest.mark.parametrize("copied", ["alerts"], indirect=True)
def test_the_job_that_asks_for_health_fails_with_an_unhealthy_database(copied: Path) -> None:
    profile = copied / "profiles" / "dev.toml"
    profile.write_text(profile.read_text().replace("_ms = ", "_ms = 60"))
    done("cron", "check")
    done("cron", "run", "health")
    (copied / "shop.db").unlink(missing_ok=True)
    (copied / "shop.db").mkdir()
    assert katax("cron", "run", "health").code == 3


@pytest.mark.parametrize("copied", ["backups"], indirect=True)
def test_backups_are_made_drilled_and_pruned(copied: Path) -> None:
    done("db", "exec", "create table orders (id integer primary key); insert into orders default values")
    done("cron", "run", "backup")
    assert backup_check() == "degraded"
    done("cron", "run", "drill")
    done("cron", "run", "prune")
    assert [row["state"] for row in katax("db", "backups", "list", "-f", "json").json] == ["complete"]
    assert backup_check() == "healthy"


def backup_check() -> str:
    checks = katax("health", "-f", "json").json["connections"]["main"]["checks"]
    return str({check["name"]: check["status"] for check in checks}["backup"])


def test_every_example_is_in_the_table() -> None:
    table = (EXAMPLES / "README.md").read_text()
    names = {path.name for path in EXAMPLES.iterdir() if not path.name.startswith((".", "__"))}

    assert [name for name in names - {"README.md"} if f"({name})" not in table] == []
