"""Drivers get what they take out of a deferred module, and a program gets all of it."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
from threading import Barrier, Thread
from types import ModuleType
from katax_cli.core.deferred import defer

defer()
import psycopg
assert not {"asyncio.base_events", "email"} & sys.modules.keys(), "psycopg takes more than it did"
import redis
assert "asyncio.base_events" not in sys.modules, "redis-py takes more than it did"

import asyncio
from importlib import metadata

async def task():
    async with asyncio.Lock():
        return await asyncio.to_thread(lambda: 7)

answers, start = [], Barrier(8)
def work():
    start.wait()
    answers.append((asyncio.run(task()), asyncio.Task is asyncio.tasks.Task, metadata.metadata("psycopg")["Version"]))

threads = [Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert answers == [(7, True, psycopg.__version__)] * 8, answers
assert type(asyncio) is type(metadata) is ModuleType
for wrong in (lambda: asyncio.nothing, lambda: metadata.version("no-such-distribution")):
    try: wrong()
    except (AttributeError, metadata.PackageNotFoundError) as error: print(type(error).__name__)
"""


def test_a_deferred_module_is_whole_once_more_is_asked_for() -> None:
    ran = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)

    assert (ran.stderr, ran.stdout.split()) == ("", ["AttributeError", "PackageNotFoundError"])


def test_a_distribution_that_is_not_there_is_said_by_the_module_itself() -> None:
    program = (
        "from katax_cli.core.deferred import defer; defer()\n"
        "from importlib import metadata\n"
        "try: metadata.version('no-such-distribution')\n"
        "except metadata.PackageNotFoundError as error: print(error.name)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "no-such-distribution"
