"""Help in all its ways: what is folded, what is unfolded, and what a group without a command shows."""

from __future__ import annotations

import pytest

from katax_cli import __version__
from katax_cli.cli import app
from katax_cli.cli.shell.help import SHARED_LINE
from tests.cli.harness import katax


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    done = katax(*words)
    assert (done.code, done.err) == (0, "")
    return capsys.readouterr().out or done.out


def test_help_is_asked_for_in_four_ways(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("db",), ("db", "query"), ("health",), ("health", "serve"), ("shutdown-test",)):
        asked = shown(capsys, *words, "--help")
        assert asked.startswith(f"Usage: {' '.join(('katax', *words))} ")
        assert [shown(capsys, *words, "-h"), shown(capsys, "help", *words)] == [asked, asked]
        assert [line for line in asked.splitlines() if len(line) > 80 and not line.startswith("  --")] == []
    assert shown(capsys, "db") == shown(capsys, "db", "--help")


def test_shared_options_are_one_line_until_more_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    folded = shown(capsys, "cache", "get", "-h")
    assert SHARED_LINE in folded
    assert "--log-format" not in folded
    assert "\n  --raw " in folded
    options = shown(capsys, "options")
    for words in (
        ("cache", "get", "-h", "-v"),
        ("cache", "get", "--verbose", "--help"),
        ("help", "-v", "cache", "get"),
    ):
        unfolded = shown(capsys, *words)
        assert SHARED_LINE not in unfolded
        assert options.rstrip() in unfolded
    assert "--log-format console|json" in options


def test_a_group_shows_the_options_of_the_command_that_runs_without_a_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    health = shown(capsys, "health", "-h")
    assert health.startswith(
        "Usage: katax health [OPTIONS] [CONN]...\n       katax health COMMAND [ARGS]...\n"
    )
    assert "--watch" in health
    assert "\n  serve " in health
    assert "COMMAND" not in shown(capsys, "dashboard", "-h")


def test_arguments_are_named_as_usage_lines_name_them(capsys: pytest.CaptureFixture[str]) -> None:
    for words, usage in {
        ("cron", "add"): "NAME SCHEDULE [-- CMD...]",
        ("cache", "del"): "KEY...",
        ("db", "query"): "[SQL] [ARG]...",
        ("lock", "run"): "NAME -- CMD...",
    }.items():
        assert shown(capsys, *words, "-h").startswith(f"Usage: katax {' '.join(words)} [OPTIONS] {usage}\n")
    assert "<" not in shown(capsys, "cron", "add", "-h")


def test_every_group_stands_in_one_panel() -> None:
    assert sorted(name for names in app.PANELS.values() for name in names) == sorted(app.COMMANDS)


def test_a_command_that_is_none_is_named() -> None:
    done = katax("help", "db", "qeury")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("katax: no command named 'qeury'; did you mean 'query'? nearest of ")
    assert "did you mean 'scan'?" in katax("help", "cache", "keys").err
    assert katax("help", "db", "query", "x").code == 2


def test_the_version() -> None:
    assert katax("version").out == f"katax {__version__}\n"
    assert katax("version", "-f", "json").json == {"version": __version__}
