"""Runs every benchmark script here in an interpreter of its own and prints one table of all results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness import RESULTS, recorded, table

FOLDER = Path(__file__).parent
NOT_SCRIPTS = {"harness.py", "run.py"}


def main(names: list[str]) -> int:
    """All scripts, or those named; 1 when one failed or missed a target."""
    scripts = sorted(path for path in FOLDER.glob("*.py") if path.name not in NOT_SCRIPTS)
    chosen = [path for path in scripts if not names or path.stem in names]
    if not names:
        RESULTS.unlink(missing_ok=True)
    failed = [path.stem for path in chosen if _run(path)]
    print(f"\n{table(recorded())}")
    if failed:
        print(f"\nfailed or missed a target: {', '.join(failed)}")
    return int(bool(failed))


def _run(script: Path) -> int:
    print(f"\n== {script.stem}", flush=True)
    return subprocess.run([sys.executable, str(script)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
