"""Programs of tests that are killed in their middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def ended(program: str, *words: str, kill_after: int | None = None) -> int:
    """The exit code of a Python program; it is killed once it has written so many lines."""
    command = [sys.executable, "-c", program, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as run:
        assert run.stdout is not None
        for _ in range(kill_after or 0):
            run.stdout.readline()
        if kill_after is not None:
            os.kill(run.pid, signal.SIGKILL)
        run.stdout.read()
    return run.returncode
