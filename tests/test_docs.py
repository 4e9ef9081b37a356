"""Documentation, completions and the command tree say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from katax_cli.cli.completion import _FILES as COMPLETION_FILES
from katax_cli.cli.completion import script
from katax_cli.cli.exits import ExitCode
from katax_cli.cli.tree import Node, nodes
from tests.cli.reference import reference

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tree() -> list[Node]:
    return list(nodes())


def test_the_command_reference_is_up_to_date() -> None:
    """`make docs` writes it."""
    assert (ROOT / "docs" / "commands.md").read_text() == reference()


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
