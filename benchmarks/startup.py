"""Whole processes: what a command costs before and around its work, beside the least script that does the same."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness import compare, finish, server

KATAX = str(Path(sys.executable).with_name("katax"))
RUNS = 11

TYPER_APP = """
import typer
app = typer.Typer()

@app.command()
def main(name: str = "world") -> None:
    print(f"hello {name}")

app()
"""

REDIS_GET = """
import redis
client = redis.Redis.from_url({url!r})
print(client.get("katax:startup"))
"""

TYPER_PSYCOPG = """
import typer
import psycopg
app = typer.Typer()

@app.command()
def main(sql: str) -> None:
    with psycopg.connect({url!r}) as connection:
        for row in connection.execute(sql):
            print(*row)

app()
"""

PROFILE = """
role = "dev"

[connections.main]
type = "postgresql"
url = "{postgresql}"

[connections.cache]
type = "redis"
url = "{redis}"
"""


def main() -> int:
    """Five commands, each with its peer, in turn."""
    with server("postgresql") as postgresql, server("redis") as redis, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "profiles").mkdir()
        (folder / "profiles" / "bench.toml").write_text(PROFILE.format(postgresql=postgresql, redis=redis))
        least = _script(folder, "least.py", TYPER_APP)
        get = _script(folder, "get.py", REDIS_GET.format(url=redis))
        query = _script(folder, "query.py", TYPER_PSYCOPG.format(url=postgresql))
        run = _runner(folder)
        run([KATAX, "cache", "set", "katax:startup", "1"])()
        _compare("katax --version", run([KATAX, "--version"]), "Typer app", run(least), 1.25)
        _compare("katax --help", run([KATAX, "--help"]), "Typer app --help", run([*least, "--help"]), 1.3)
        of_one = run([KATAX, "db", "query", "--help"])
        _compare("katax db query --help", of_one, "Typer app --help", run([*least, "--help"]), 1.3)
        _compare(
            "katax cache get", run([KATAX, "cache", "get", "katax:startup"]), "redis-py script", run(get), 1.1
        )
        _compare(
            "katax db query 'select 1'",
            run([KATAX, "db", "query", "select 1"]),
            "Typer + psycopg script",
            run([*query, "select 1"]),
            1.4,
        )
    return finish()


def _compare(
    work: str, katax: Callable[[], object], peer: str, theirs: Callable[[], object], target: float
) -> None:
    compare(work, katax=katax, peers={peer: theirs}, target=target, runs=RUNS, warm_up=2)


def _script(folder: Path, name: str, text: str) -> list[str]:
    path = folder / name
    path.write_text(text)
    return [sys.executable, str(path)]


def _runner(folder: Path) -> Callable[[list[str]], Callable[[], object]]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}

    def runner(words: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run(
            words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True
        )

    return runner


if __name__ == "__main__":
    sys.exit(main())
