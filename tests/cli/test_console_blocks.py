"""The console blocks of README.md and of docs: every command runs, and answers on a terminal as it stands there.

A block has lines `$ COMMAND`, and below each what a terminal of 80 columns shows. What differs from run to run is made
equal by the patterns of `VARIES`. `UPDATE_GOLDEN=1 pytest tests/cli/test_console_blocks.py` writes the answers into
the pages; the diff is the review.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.harness import katax, write_profile
from tests.cli.terminal import at_terminal
from tests.cli.test_examples import parse
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, Target
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WIDTH = 80
VARIES = {
    "where a long line goes on": (re.compile(r"\n +"), " "),
    "a duration or an age": (re.compile(r"\b\d+(\.\d+)? (ms|s|min|h|d)\b( \d+ (s|min|h)\b)?"), "# ms"),
    "a size": (re.compile(r"\b\d+(\.\d+)? (B|kB|MB)(?!\w)"), "# B"),
    "a version": (re.compile(r"\b\d+\.\d+\.\d+\b"), "#.#.#"),
    "the name of a backup": (re.compile(r"main-\d{8}T\d{6}Z-[0-9a-f]{6}"), "main-#"),
    "a moment in a name": (re.compile(r"(?<=_)\d{8}T\d{6}Z"), "#"),
    "lines under columns": (re.compile(r"-{2,}"), "--"),
    "blanks between columns": (re.compile(r" +"), " "),
}


class Command(NamedTuple):
    line: str
    shown: str

    @property
    def typed(self) -> str | None:
        """What is answered to its question."""
        answer = re.search(r"\[y/N\] (\w)$", self.shown, re.MULTILINE)
        return answer and answer[1]


def blocks(page: Path) -> list[list[Command]]:
    """The console blocks of a page as commands with their outputs."""
    found = re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [
        [Command(*command) for command in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]
        for block in found
    ]


def comparable(text: str) -> list[str]:
    # What was typed stands in the page alone.
    text = re.sub(r"(?<=\[y/N\] )\w\n", "", text)
    for pattern, instead in VARIES.values():
        text = pattern.sub(instead, text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def answer(command: Command) -> str:
    """What a terminal shows of a command, which reads what stands before ` | `; a shell runs other programs."""
    before, _, own = command.line.rpartition(" | ")
    program, *words = shlex.split(own)
    if program != "katax":
        done = subprocess.run(["sh", "-c", command.line], capture_output=True, text=True, check=True)
        return done.stderr + done.stdout
    if before:
        written = subprocess.run(["sh", "-c", before], capture_output=True, check=True).stdout
        piped = katax(*words, stdin=written)
        return piped.err + piped.out
    ended = at_terminal(*words, typed=command.typed, width=WIDTH)
    return re.sub(r"\[y/N\] ", rf"[y/N] {command.typed}\n", ended.err) + ended.out


def sqlite_project(folder: Path, *, role: str = "dev", name: str = "dev", **more: str) -> None:
    write_profile(folder, {"main": "sqlite:///app.db", **more}, name=name, role=role)
    (folder / "katax.toml").write_text(f'default_profile = "{name}"\n')


def run_sql(*words: str) -> None:
    done = katax("db", "exec", *words)
    assert done.code == 0, done.err


class World(NamedTuple):
    """Where the commands of a page run."""

    folder: Path
    postgresql: Callable[[], Target]


Renames = dict[str, str]
"""A name on the page → the one of this run."""


def of_the_readme(_: World) -> Renames:
    """Where nothing is configured."""
    return {}


def of_seeds(world: World) -> Renames:
    sqlite_project(world.folder)
    run_sql("create table users (id integer primary key, name text)")
    return {}


def of_transfer(world: World) -> Renames:
    write_profile(world.folder, {"main": "sqlite:///review.db"}, name="review")
    sqlite_project(world.folder, copy="sqlite:///copy.db")
    run_sql("-p", "review", "create table orders (id integer primary key, user_id integer)")
    run_sql(
        "create table users (id integer primary key, name text); insert into users values (1, 'Ada'), (2, 'Bob'); "
        "create table orders (id integer primary key, user_id integer, total numeric); "
        "insert into orders values (1, 1, 12.5), (2, 2, 3)"
    )
    return {}


def of_writes(world: World) -> Renames:
    sqlite_project(world.folder, name="shop")
    run_sql(
        "create table users (id integer primary key, name text, plan text, trial_ends text); insert into users values "
        "(7, 'Ada', 'trial', '2025-12-01'), (8, 'Cleo', 'paid', null), (9, 'Bob', 'trial', '2025-12-31')"
    )
    sqlite_project(world.folder, name="shop", role="prod")
    return {}


def of_backups(world: World) -> Renames:
    target = world.postgresql()
    extra = f'[backup]\ntools = "{target.server.tools}"\n'
    write_profile(world.folder, {"main": target.url}, name="dev", extra=extra)
    (world.folder / "katax.toml").write_text('default_profile = "dev"\n')
    run_sql(
        "create table users (id int primary key, name text); insert into users values (1, 'Ada'), (2, 'Bob'); "
        "create table orders (id int primary key, total numeric); insert into orders values (1, 12.5)"
    )
    return {"app_production": target.url.rpartition("/")[2]}


WORLDS: dict[str, Callable[[World], Renames]] = {
    "README.md": of_the_readme,
    "backup.md": of_backups,
    "seeds.md": of_seeds,
    "shell.md": of_transfer,
    "transfer.md": of_transfer,
    "writes.md": of_writes,
}


@pytest.fixture
def world(tmp_path: Path, fresh: MakeFresh, postgresql: Server) -> Iterator[World]:
    """An empty folder; the server that the built-in profile starts is ended."""
    yield World(tmp_path, lambda: fresh(postgresql))
    katax("local", "stop")


def test_every_page_with_console_blocks_has_its_world() -> None:
    assert {page.name for page in PAGES if blocks(page)} == set(WORLDS)
    commands = [command for page in PAGES for block in blocks(page) for command in block]
    assert len(commands) > 30
    # A block whose lines do not begin with `$` would not be run.
    found = [line for page in PAGES for line in page.read_text().splitlines() if line.startswith("$ ")]
    assert [command.line for command in commands] == [line.removeprefix("$ ") for line in found]


@pytest.mark.parametrize("name", WORLDS)
def test_a_page_shows_what_is_answered(name: str, world: World) -> None:
    page = next(page for page in PAGES if page.name == name)
    renames = {"/srv/app": str(world.folder)} | WORLDS[name](world)

    for command in (command for block in blocks(page) for command in block):
        if command.line == "katax health":
            # A busy machine may be slow to answer once, which is told.
            until(lambda command=command: comparable(answer(command)) == comparable(command.shown))  # type: ignore[misc]
            continue
        seen = answer(command._replace(line=_replaced(command.line, renames)))
        # Names of backups are found anew in each answer, so that a later command means the one that was made.
        pattern, _ = VARIES["the name of a backup"]
        renames |= zip(pattern.findall(command.shown), pattern.findall(seen), strict=False)
        seen = _replaced(seen, {real: shown for shown, real in renames.items()})
        if os.environ.get("UPDATE_GOLDEN"):
            _write(page, command, seen)
        else:
            assert comparable(seen) == comparable(command.shown), command.line


def _replaced(text: str, names: Renames) -> str:
    for name, instead in names.items():
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", instead, text)
    return text


def _write(page: Path, command: Command, seen: str) -> None:
    """Writes an answer where it differs; a command that stands twice on a page is written at its first place."""
    if comparable(seen) != comparable(command.shown):
        text, was = page.read_text(), f"$ {command.line}\n{command.shown}"
        assert was in text
        page.write_text(text.replace(was, f"$ {command.line}\n{seen}", 1))


def test_the_commands_of_other_blocks_parse() -> None:
    """Examples without answers, in blocks of the shell: their words and options are known."""
    lines = [
        line
        for page in PAGES
        for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    commands = [part for line in lines for part in line.split("; ") if part.startswith("katax ")]
    assert len(commands) > 20
    for command in commands:
        parse(shlex.split(command, comments=True)[1:])
