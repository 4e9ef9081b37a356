"""What `from katax_cli import …` offers: all of it there, typed, and none of it loaded before it is used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import katax_cli

SOURCE = Path(katax_cli.__file__)
PUBLIC: dict[str, str] = katax_cli._PUBLIC
DRIVERS = {
    "psycopg",
    "pymysql",
    "sqlite3",
    "pymongo",
    "bson",
    "redis",
    "sqlalchemy",
    "typer",
    "rich",
    "textual",
}


def declared_for_type_checkers() -> dict[str, str]:
    """The imports under TYPE_CHECKING: name → module."""
    block = next(node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    return {
        alias.asname or alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(katax_cli, name) is getattr(import_module(PUBLIC[name]), name)


def test_type_checkers_see_the_same_names() -> None:
    assert declared_for_type_checkers() == PUBLIC


def test_they_are_listed() -> None:
    assert set(PUBLIC) <= set(dir(katax_cli))
    everything: dict[str, object] = {}
    exec("from katax_cli import *", everything)
    assert set(PUBLIC) == set(everything) - {"__builtins__"}


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'katax_cli' has no attribute 'Kataks'"):
        katax_cli.Kataks  # noqa: B018


def test_no_public_name_loads_a_driver() -> None:
    code = (
        "import sys, json, katax_cli\n"
        "loaded = {}\n"
        "for name in katax_cli._PUBLIC:\n"
        "    before = set(sys.modules)\n"
        "    getattr(katax_cli, name)\n"
        "    loaded[name] = sorted({m.partition('.')[0] for m in set(sys.modules) - before})\n"
        "print(json.dumps(loaded))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded: dict[str, list[str]] = json.loads(done.stdout)
    # Models are SQLAlchemy's; the first of their names loads it, and no driver.
    assert {name: sorted(DRIVERS & set(mods)) for name, mods in loaded.items() if DRIVERS & set(mods)} == {
        "Column": ["sqlalchemy"]
    }


def test_a_container_loads_no_driver_before_it_is_used(tmp_path: Path) -> None:
    code = (
        "import sys; from katax_cli import Katax; katax = Katax('local')\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={"PYTHONPATH": str(SOURCE.parents[1]), "HOME": str(tmp_path)},
    )  # fmt: skip

    assert set(ast.literal_eval(done.stdout)) & DRIVERS == set()
