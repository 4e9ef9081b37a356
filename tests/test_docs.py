"""Documentation, completions and the command tree say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from katax_cli.cli.completion.commands import _FILES as COMPLETION_FILES
from katax_cli.cli.completion.commands import script
from katax_cli.cli.completion.tree import Node, nodes
from katax_cli.cli.manual.pages import pages
from katax_cli.cli.shell.exits import ExitCode
from tests.cli.reference import reference

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tree() -> list[Node]:
    return list(nodes())


def test_the_command_reference_is_up_to_date() -> None:
    """`make docs` writes it."""
    assert (ROOT / "docs" / "commands.md").read_text() == reference()


def test_the_manual_pages_are_up_to_date() -> None:
    """`make docs` writes them."""
    assert {file.name: file.read_text() for file in (ROOT / "man").iterdir()} == pages()


@pytest.mark.parametrize("shell", sorted(COMPLETION_FILES))
def test_completions_are_up_to_date(shell: str) -> None:
    """`make completions` writes them."""
    assert (ROOT / "completions" / COMPLETION_FILES[shell]).read_text() == script(shell)


@pytest.mark.parametrize("shell", sorted(COMPLETION_FILES))
def test_completions_know_every_command(shell: str, tree: list[Node]) -> None:
    text = script(shell)

    assert [" ".join(node.path) for node in tree if " ".join(node.path) not in text] == []


def test_every_command_has_help(tree: list[Node]) -> None:
    """One sentence each, and a text for every option."""
    assert [node.path for node in tree if node.path and not node.summary] == []
    assert [(node.path, word) for node in tree for word, text in node.options if not text] == []


def test_every_group_is_in_the_readme(tree: list[Node]) -> None:
    readme = (ROOT / "README.md").read_text()

    assert [
        node.path[0] for node in tree if len(node.path) == 1 and f"katax {node.path[0]}" not in readme
    ] == []


def test_every_exit_code_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()

    assert [code for code in ExitCode if f"| {code.value} |" not in readme] == []


def test_the_changelog_has_unreleased_changes() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()

    assert "\n- " in text.partition("## Unreleased")[2]


PROMISES = tuple(range(1, 22))
ENGINES = {"PostgreSQL", "MySQL", "SQLite", "MongoDB", "Redis"}


@pytest.fixture(scope="module")
def promises() -> dict[int, str]:
    """Number → all that docs/promises.md says under it."""
    text = (ROOT / "docs" / "promises.md").read_text()
    sections = re.split(r"^## (?=\d+\. )", text, flags=re.MULTILINE)[1:]
    return {int(section.partition(".")[0]): section for section in sections}


def test_every_promise_has_its_section(promises: dict[int, str]) -> None:
    assert tuple(promises) == PROMISES


def test_every_test_of_a_promise_exists(promises: dict[int, str]) -> None:
    named = {file for section in promises.values() for file in re.findall(r"`(tests/[^`]+)`", section)}

    assert named
    assert sorted(file for file in named if not (ROOT / file).is_file()) == []


@pytest.mark.parametrize("number", PROMISES)
def test_a_promise_says_for_each_engine_how_it_is_tested(number: int, promises: dict[int, str]) -> None:
    """One row for each, alone or with others, and a test in the section; or it says that there is nothing yet."""
    section = promises[number]
    if "\nNot yet: " in section:
        return
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    engines = [name for row in rows for name in row[0].split(", ")]

    assert "`tests/" in section
    assert sorted(engines) == sorted(ENGINES) or engines == ["all"]
    assert [row for row in rows if row[1].split(";")[0] not in ("real", "emulated", "unrun", "n/a")] == []


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_promises_can_be_found(page: str) -> None:
    assert "promises.md)" in (ROOT / page).read_text()
