"""Many processes that do the same at the same moment.

    python -m tests.services.crowd PROCESSES SCRIPT ARGS…

One process imports what the script imports and forks the others: a start of Python for each would take longer than
all that a test does.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]


def crowd(script: str, *args: str, processes: int) -> list[str]:
    """Runs a Python script in so many processes; each calls `all_at_once()` when it is ready, and gets `args`.

    Returns what each printed; a process that fails, fails the test.
    """
    words = [sys.executable, "-m", "tests.services.crowd", str(processes), script, *args]
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    printed: list[str] = json.loads(done.stdout)
    return printed


class Gate:
    """Where the forked processes gather until all are there."""

    def __init__(self) -> None:
        self._arrivals, self._arrive = os.pipe()
        self._wait, self._open = os.pipe()

    def pass_together(self) -> None:
        """In a forked process: says that it is there, and waits until the gate opens."""
        os.write(self._arrive, b".")
        os.read(self._wait, 1)

    def leave_to_parent(self) -> None:
        """In a forked process: lets go of the end that only the parent may keep."""
        os.close(self._open)

    def open(self, processes: int) -> None:
        """In the parent: opens it when all have arrived, or have ended before they did."""
        os.close(self._arrive)
        while processes and (arrived := os.read(self._arrivals, processes)):
            processes -= len(arrived)
        os.close(self._open)


def main(processes: int, script: str) -> int:
    syntax = ast.parse(script)
    imports: list[ast.stmt] = [node for node in syntax.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), "<imports>", "exec"), {})
    gate = Gate()
    with TemporaryDirectory() as folder:
        outputs = [Path(folder) / str(number) for number in range(processes)]
        children = [_fork(syntax, gate, output) for output in outputs]
        gate.open(processes)
        statuses = [os.waitpid(child, 0)[1] for child in children]
        sys.stdout.write(json.dumps([output.read_text() for output in outputs]))
    return int(any(statuses))


def _fork(syntax: ast.Module, gate: Gate, output: Path) -> int:
    if child := os.fork():
        return child
    status = 1
    try:
        gate.leave_to_parent()
        with output.open("w") as sys.stdout:
            exec(compile(syntax, "<crowd>", "exec"), {"sys": sys, "all_at_once": gate.pass_together})
        status = 0
    except BaseException:  # noqa: BLE001 - the boundary of this process
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv.pop(1)), sys.argv.pop(1)))
