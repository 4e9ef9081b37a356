"""The console blocks of README.md: every command runs, and answers on a terminal as it stands there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.harness import katax
from tests.cli.terminal import at_terminal
from tests.waiting import until

README = Path(__file__).parents[2] / "README.md"
WIDTH = 80
# Of other machines and moments: durations, versions, the folder.
_VARIES = (
    (re.compile(r"\d+(\.\d+)? (ms|s)\b"), "# ms"),
    (re.compile(r"\b\d+\.\d+\.\d+\b"), "#.#.#"),
    (re.compile(r"\S+/\.katax/redis"), "/.katax/redis"),
    (re.compile(r"-{2,}"), "--"),
    (re.compile(r" +"), " "),
)


def blocks() -> list[list[tuple[str, str]]]:
    """The console blocks as commands with their outputs."""
    found = re.findall(r"^```console\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    return [
        [(line, output) for line, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]
        for block in found
    ]


def comparable(text: str) -> list[str]:
    # What was typed stands in the page alone.
    text = text.replace("[y/N] n\n", "[y/N] ")
    lines = [line for line in text.splitlines() if line.strip()]
    for pattern, instead in _VARIES:
        lines = [pattern.sub(instead, line).strip() for line in lines]
    return lines


@pytest.fixture(autouse=True)
def empty_folder() -> Iterator[None]:
    """Where nothing is configured; the server that is started is ended."""
    yield
    katax("local", "stop")


def test_the_readme_shows_what_is_answered() -> None:
    commands = [command for block in blocks() for command in block]

    assert len(commands) >= 7
    for line, shown in commands:
        program, *words = shlex.split(line)
        assert program == "katax"
        if words == ["health"]:
            # A busy machine may be slow to answer once, which is told.
            until(lambda words=words, shown=shown: answer(words) == comparable(shown))  # type: ignore[misc]
        else:
            assert answer(words) == comparable(shown), line


def answer(words: list[str]) -> list[str]:
    """What a terminal shows of a command, to whose question the answer is no."""
    done = at_terminal(*words, typed="n", width=WIDTH)
    return comparable(done.err + done.out)
