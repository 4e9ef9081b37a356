"""The worker and the batch of examples/; the applications are tested under tests/integrations."""

from __future__ import annotations

import runpy
import threading
from pathlib import Path

from katax_cli import TestDatabase
from tests.servers.server import Server

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
