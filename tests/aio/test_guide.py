"""The examples of docs/async.md do what the guide says: the first as a program, the others inside its `main`."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
from inspect import iscoroutine
from pathlib import Path

import pytest

from tests.aio.conftest import MakeKatax
from tests.services.runtimes import write_profile

GUIDE = Path(__file__).parents[2] / "docs" / "async.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def test_the_program(tmp_path: Path, postgresql_url: str) -> None:
    write_profile(tmp_path, main=postgresql_url)
    root = str(GUIDE.parents[1])
    run = subprocess.run(
        [sys.executable, "-c", blocks()[0]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.stdout, run.returncode) == ("[{'greeting': 'hello'}]\n", 0), run.stderr


async def test_the_examples(
    make_katax: MakeKatax, postgresql_url: str, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with make_katax(main=postgresql_url, cache=redis_url) as katax:
        names = {"katax": katax, "asyncio": asyncio}
        for block in blocks()[1:]:
            code = compile(block, str(GUIDE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            answer = eval(code, names)
            if iscoroutine(answer):
                await answer
    assert "fencing token" in capsys.readouterr().out
