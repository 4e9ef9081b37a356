"""Runs the benchmark scripts here, each in an interpreter of its own, and prints one table of all results.

They are in benchmarks/results.json too, from which docs/performance.md and its chart are written anew.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import perf_counter

import report
from harness import RESULTS, recorded, table

FOLDER = Path(__file__).parent
NOT_SCRIPTS = {"harness.py", "machine.py", "report.py", "run.py"}
BY_NAME = {"growth"}
"""Scripts that run only when they are named: this one takes as long as half of the others, and has docs/scale.md."""


def main(names: list[str]) -> int:
    """All scripts but those of BY_NAME, or those named; 1 when one failed or missed a target."""
    scripts = sorted(path for path in FOLDER.glob("*.py") if path.name not in NOT_SCRIPTS)
    chosen = [path for path in scripts if path.stem in (names or {path.stem} - BY_NAME)]
    if not names:
        RESULTS.unlink(missing_ok=True)
    started = perf_counter()
    failed = [path.stem for path in chosen if _run(path)]
    print(f"\n{table(recorded())}")
    report.main()
    print(f"{len(chosen)} scripts in {(perf_counter() - started) / 60:.1f} minutes")
    if failed:
        print(f"\nfailed or missed a target: {', '.join(failed)}")
    return int(bool(failed))


def _run(script: Path) -> int:
    print(f"\n== {script.stem}", flush=True)
    started = perf_counter()
    code = subprocess.run([sys.executable, str(script)], check=False).returncode
    print(f"{script.stem}: {perf_counter() - started:.0f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
