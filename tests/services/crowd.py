"""Many processes that do the same at the same moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_START = """
import sys
def all_at_once():
    print("ready", flush=True)
    sys.stdin.readline()
"""


def crowd(script: str, *args: str, processes: int) -> list[str]:
    """Runs a Python script in so many processes; each calls `all_at_once()` when it is ready, and gets `args`.

    Returns what each printed after that; a process that fails, fails the test.
    """
    words = [sys.executable, "-c", _START + script, *args]
    running = [
        subprocess.Popen(words, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(processes)
    ]
    try:
        assert [each.stdout.readline() for each in running if each.stdout] == ["ready\n"] * processes
        for each in running:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        printed = [each.communicate()[0] for each in running]
        assert [each.returncode for each in running] == [0] * processes
        return printed
    finally:
        for each in running:
            each.kill()
            each.communicate()
