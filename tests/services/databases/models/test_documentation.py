"""The examples of docs/models.md run, in order, as one program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import cast

from katax_cli import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.services.databases.models.people import create_tables
from tests.services.profiles import profile

PAGE = Path(__file__).parents[4] / "docs" / "models.md"


def test_the_examples_run(tmp_path: Path) -> None:
    """In a process of their own: their models have the tables of those here."""
    with Runtime(profile(tmp_path, {"main": f"sqlite:///{tmp_path}/docs.db"})) as runtime:
        create_tables(cast(SqlDatabase, runtime.database("main")))
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(examples)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "- 0\nMath 1\n"
    assert len(examples) == 4
