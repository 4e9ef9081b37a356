"""Long output and the pager, on a real terminal."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from katax_cli.cli.display.pager import pager_command
from tests.cli.harness import write_profile
from tests.cli.pseudo_terminal import Terminal

ROWS = "with recursive n(i) as (select 1 union all select i + 1 from n where i < {}) select i from n"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[object]:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    opened: list[Terminal] = []

    def run(*words: str) -> tuple[int, str]:
        terminal = Terminal(*words, columns=60, lines=10)
        opened.append(terminal)
        code = terminal.exit_code()
        return code, re.sub(r"\x1b\[\d*m", "", terminal.seen.decode()).replace("\r\n", "\n")

    yield run
    for terminal in opened:
        terminal.close()


def test_long_output_goes_through_the_pager(
    run: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(run)
    monkeypatch.setenv("PAGER", "sed 's/^/> /'")

    assert run("db", "query", ROWS.format(3)) == (0, "i\n-\n1\n2\n3\n")
    code, shown = run("db", "query", ROWS.format(50))
    assert (code, shown.splitlines()[:3], shown.splitlines()[-1]) == (0, [">  i", "> --", ">  1"], "> 50")
    assert "> " not in run("db", "query", ROWS.format(50), "--no-pager")[1]
    assert "> " not in run("db", "query", ROWS.format(50), "-f", "csv")[1]
    assert run("db", "query", ROWS.format(50), "-o", "out")[1] == ""
    assert len((tmp_path / "out").read_text().splitlines()) == 52


def test_nothing_is_lost_without_a_pager_or_after_an_error(
    run: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(run)
    monkeypatch.setenv("PAGER", "no-such-pager-anywhere")
    code, shown = run("db", "query", ROWS.format(50))
    assert (code, shown.splitlines()[-1]) == (0, "50")

    monkeypatch.setenv("PAGER", "sed 's/^/> /'")
    code, shown = run("db", "exec", f"{ROWS.format(50)}; nonsense")
    assert (code, "> " in shown) == (1, False)
    assert "\n50\n" in shown


def test_which_pager(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, command in (("", None), ("cat", None), ("most -s", "most -s")):
        monkeypatch.setenv("PAGER", said)
        assert pager_command() == command
