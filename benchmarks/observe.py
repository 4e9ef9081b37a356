"""What it costs to see every call, and to ask whether an operator keeps everybody off; beside the promised limits.

Both are work of the processor alone, so its time is what counts, not that of a busy machine.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from statistics import median
from timeit import repeat

from harness import finish, row

from katax_cli.services.calls.events import Events
from katax_cli.services.calls.observer import Observer, QueryLogging
from katax_cli.services.runtime.decisions import HostCopy, OperatorDecision

SQL = "SELECT id, name FROM users WHERE id = $1"
CALLS = 100_000
RUNS = 7
# Where a single command asks: the command line is imported, the decisions are not.
ASK = """
import sys, time
import katax_cli.cli.app, katax_cli.cli.shell.invocation, katax_cli.services.runtime.runtime
home = sys.argv[1]
began = time.process_time()
from katax_cli.services.runtime.decisions import HostCopy
assert HostCopy(home, "dev").refusal("main") is not None
print(time.process_time() - began)
"""


def main() -> int:
    row(
        "see a call, nobody listens",
        katax_seconds=_seen_call(),
        peer_name="promised",
        peer_seconds=2e-6,
    )
    row(
        "first ask for an operator's decision",
        katax_seconds=median(_asked() for _ in range(RUNS)),
        peer_name="promised",
        peer_seconds=3e-3,
    )
    return finish()


def _seen_call() -> float:
    observer = Observer("main", Events(), redacted=str.upper, fingerprint=str.upper)
    observer.set_log(QueryLogging(slow=logging.WARNING, slow_ms=60_000))

    def call() -> None:
        with observer.watch(SQL):
            pass

    return median(repeat(call, timer=time.process_time, number=CALLS, repeat=RUNS)) / CALLS


def _asked() -> float:
    now = time.time()
    with tempfile.TemporaryDirectory() as home:
        HostCopy(home, "dev").write([OperatorDecision("1", "main", "trip", now, now + 3600, "why", "me")])
        done = subprocess.run([sys.executable, "-c", ASK, home], capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
