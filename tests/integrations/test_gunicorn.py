"""gunicorn: what was opened before the fork is the parent's, each worker has connections of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.web import WebServer, serving
from tests.services.runtimes import CALM, patient, write_profile
from tests.waiting import until

PRELOADED = """
import os
from katax_cli import Katax
from {example} import app

# Opened in the parent, before it forks.
with_pool = Katax()
with_pool.database("main").execute("create table if not exists orders (id bigint primary key, item text not null)")
PARENT = with_pool.database("main").scalar("select pg_backend_pid()")
"""
FLASK = """
from flask import jsonify

@app.get("/who")
def who():
    own = with_pool.database("main").scalar("select pg_backend_pid()")
    return jsonify(process=os.getpid(), own=own, parent=PARENT)
"""
FASTAPI = """
@app.get("/who")
def who():
    own = with_pool.database("main").scalar("select pg_backend_pid()")
    return {"process": os.getpid(), "own": own, "parent": PARENT}
"""


@contextlib.contextmanager
def gunicorn(folder: Path, port: int, *words: str) -> Iterator[WebServer]:
    address = f"127.0.0.1:{port}"
    command = ["gunicorn", "preloaded:app", "--preload", "-w", "2", "-b", address, *words]
    with serving([*command, "--pythonpath", str(folder)], folder, f"http://{address}") as server:
        yield server


def workers(server: WebServer) -> dict[int, set[int]]:
    """The backends that each worker used, once both have answered."""
    backends: dict[int, set[int]] = {}

    def both() -> bool:
        answer = server.web.get("/who", headers={"Connection": "close"}).json()
        assert answer["own"] != answer["parent"], "a connection of the parent is used in its child"
        backends.setdefault(answer["process"], set()).add(answer["own"])
        return len(backends) == 2

    until(both)
    return backends


@pytest.mark.parametrize(
    ("example", "route", "words"),
    [
        ("flask_app", FLASK, ["--threads", "4"]),
        ("fastapi_app", FASTAPI, ["-k", "uvicorn.workers.UvicornWorker"]),
    ],
)
def test_preloaded_workers_share_no_connection(
    tmp_path: Path,
    postgresql_url: str,
    redis_url: str,
    closed_port: int,
    example: str,
    route: str,
    words: list[str],
) -> None:
    write_profile(tmp_path, CALM, main=patient(postgresql_url), redis=patient(redis_url))
    (tmp_path / "preloaded.py").write_text(PRELOADED.format(example=example) + route)

    with gunicorn(tmp_path, closed_port, *words) as server:
        backends = workers(server)
        assert set.intersection(*backends.values()) == set()
        orders = [server.web.post("/orders", json={"id": number, "item": "tea"}) for number in range(20)]
        assert [answer.status_code for answer in orders] == [201] * 20
        assert server.look("/orders/7").json() == {"id": 7, "item": "tea"}
        assert server.look("/orders/70").status_code == 404
        until(lambda: server.web.get("/ready").json()["ready"])
        assert server.terminate() == 0
