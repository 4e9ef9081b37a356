"""What a fresh interpreter has loaded: the static contracts cannot see an import that is allowed but costly."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from katax_cli.cli.app import COMMANDS
from katax_cli.engines.registry import ENGINES

DRIVERS = {
    "postgresql": {"psycopg"},
    "mysql": {"pymysql"},
    "sqlite": {"sqlite3"},
    "mongodb": {"pymongo", "bson"},
    "redis": {"redis"},
}
HEAVY = (
    set().union(*DRIVERS.values())
    | {"textual", "rich", "sqlalchemy", "croniter", "asyncio", "dotenv"}
    | {"socketio", "engineio", "uvicorn", "websockets"}
)


def loaded_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `code`."""
    script = f"import sys\n{code}\nimport json\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_imports_nothing() -> None:
    """`import katax_cli` loads no module beyond its own and what the interpreter has anyway."""
    script = (
        "import sys; before = set(sys.modules); import katax_cli; print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['__future__', 'katax_cli']"


def test_what_tasks_use_loads_no_driver_and_only_that_loads_greenlet() -> None:
    everything = set().union(*DRIVERS.values())

    assert loaded_after("import katax_cli.aio") & (everything | {"greenlet"}) == {"greenlet"}
    assert "greenlet" not in loaded_after("from katax_cli import Katax, SqlDatabase, RedisDatabase")


def test_version_and_every_help_load_no_driver() -> None:
    """One after the other in one interpreter: what each has loaded stays."""
    helps = [["--version"], ["--help"], *([group, "--help"] for group in sorted(COMMANDS))]
    code = f"from katax_cli.cli import app\nfor words in {helps!r}: assert app.main(words) == 0, words"

    assert loaded_after(code) & HEAVY == set()


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_an_engine_loads_only_its_own_driver(engine: str) -> None:
    """Loading one engine imports its driver and no other engine's."""
    code = (
        "from katax_cli.core.settings import ConnectionSettings\n"
        "from katax_cli.engines.registry import load\n"
        f"load(ConnectionSettings(name='x', type={engine!r}, host='h', path='x.db'))"
    )

    loaded = loaded_after(code)

    assert DRIVERS[engine] <= loaded
    assert loaded & (HEAVY - {"asyncio"} - DRIVERS[engine]) == set()


def test_listing_engines_loads_none() -> None:
    loaded = loaded_after("from katax_cli.engines.registry import ENGINES; sorted(ENGINES)")

    assert loaded & HEAVY == set()


def test_a_tab_loads_neither_the_command_tree_nor_a_driver() -> None:
    """Names of a server come from a cache, which a process of its own fills."""
    code = "from katax_cli.cli.completion.values import values; values(['katax', 'db', 'describe', ''])"

    assert loaded_after(code) & (HEAVY | {"typer", "subprocess", "socket"}) == set()
