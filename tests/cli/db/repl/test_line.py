"""The line: texts of several lines, history and completion, on prompt_toolkit's own pipe."""

import io
from pathlib import Path

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from katax_cli.cli.db.repl.line import InputLine
from katax_cli.cli.db.repl.suggestions import Suggestion
from katax_cli.core.sql import ends_statement


def read(keys: str, history: Path, times: int = 1) -> list[str]:
    """What so many readings return for these keys."""
    with create_pipe_input() as pipe:
        line = InputLine(
            history=str(history),
            whole=lambda text: ends_statement(text, "postgresql"),
            suggest=lambda _before, _after: Suggestion(["customers"], 2),
            language="postgresql",
            stream=io.StringIO(),
            color=True,
            input=pipe,
            output=DummyOutput(),
        )
        pipe.send_text(keys)
        return [line.read([("role", "test/main (dev)"), ("", "=> ")]) for _ in range(times)]


def test_enter_ends_what_is_whole(tmp_path: Path) -> None:
    assert read("select 1,\r2 -- ;\r;\r", tmp_path / "h") == ["select 1,\n2 -- ;\n;"]
    assert read("\r", tmp_path / "h") == [""]


def test_ctrl_c_and_ctrl_d_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        read("select\x03", tmp_path / "h")
    with pytest.raises(EOFError):
        read("\x04", tmp_path / "h")


def test_history_holds_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "h"

    read("select 1;\ralter user ada password 'hush';\r", file, 2)

    assert "select 1;" in file.read_text()
    assert "hush" not in file.read_text()
    assert read("\x1b[A\r", file) == ["select 1;"]
