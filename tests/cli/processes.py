"""Commands in a process of their own: for signals, pipes, terminals and memory."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

SECONDS = 60.0
"""A test that waits longer for something to happen has failed."""


def spawn(*words: str, **more: object) -> "subprocess.Popen[bytes]":
    """`katax WORDS…` with pipes, in a process group of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "katax_cli", *words], start_new_session=True, **{**options, **more}
    )


def eventually(true: Callable[[], bool]) -> bool:
    """Waits until it is true; False when it never becomes so."""
    give_up = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


def memory_of_children_kib(words: list[str], to: str) -> int:
    """The most memory that `katax WORDS… -o TO` held at any time."""
    probe = (
        "import resource, subprocess, sys;"
        "subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", probe, sys.executable, "-m", "katax_cli", *words, "-o", to]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    return int(done.stdout)
