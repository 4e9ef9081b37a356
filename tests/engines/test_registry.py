from __future__ import annotations

import subprocess
import sys

SIX_THREADS = """
from threading import Barrier, Thread

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines import registry

settings = ConnectionSettings(name="cache", type="redis", host="127.0.0.1", port=1)
together = Barrier(6)


def load(table):
    together.wait()
    loaded.append(registry.load(settings, table))


loaded = []
threads = [Thread(target=load, args=((registry.ENGINES, registry.AWAITED)[n % 2],)) for n in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(loaded))
"""


def test_threads_and_tasks_may_begin_with_an_engine_at_the_same_moment() -> None:
    """redis-py's modules import each other in circles: begun at two of them at once, they fail."""
    run = subprocess.run([sys.executable, "-c", SIX_THREADS], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("6\n", "")
