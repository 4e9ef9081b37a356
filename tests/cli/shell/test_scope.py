"""What a command works on: the connections that its options mean."""

from pathlib import Path

import pytest
from typer import Context

from katax_cli.cli.app import COMMANDS
from tests.cli.harness import katax, registered, write_profile


def test_commands_for_one_connection_refuse_a_pattern_that_matches_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same words in every group, and before anything is asked or opened."""
    sqlite = {name: f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "other")}
    redis = dict.fromkeys(("first", "second"), "redis://127.0.0.1:1/0")
    write_profile(tmp_path, sqlite | redis)
    monkeypatch.chdir(tmp_path)
    for pattern, names, words in (
        ("o*", "one, other", ("db", "describe", "t")),
        ("o*", "one, other", ("db", "insert", "t", "a=1")),
        ("o*", "one, other", ("db", "drop")),
        ("o*", "one, other", ("migrate", "repair")),
        ("o*", "one, other", ("migrate", "plan")),
        ("*s*", "first, second", ("lock", "release", "l")),
        ("*s*", "first, second", ("cache", "get", "k")),
        ("*s*", "first, second", ("cache", "import", "-", "--dry-run")),
        ("*s*", "first, second", ("session", "get", "s")),
        ("*s*", "first, second", ("limit", "reset", "k")),
    ):
        command = " ".join(words[:2])
        done = katax(*words, "-p", "test", "-c", pattern)
        expected = f"katax: {pattern!r} matches {names}; {command!r} works on one connection\n"
        assert (done.code, done.stdout, done.err) == (2, b"", expected), words
    assert not list(tmp_path.glob("*.db"))


def test_a_pattern_of_another_type_says_which_types_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profile(tmp_path, {"one": f"sqlite:///{tmp_path}/one.db", "first": "redis://127.0.0.1:1/0"})
    monkeypatch.chdir(tmp_path)
    done = katax("cache", "get", "k", "-p", "test", "-c", "one")
    assert done.code == 2
    assert done.err == "katax: sqlite has no Redis commands; 'cache get' works on redis\n"


def test_no_argument_of_a_command_has_the_name_of_a_shared_option() -> None:
    """It would take the option's place: `health -c main` would check every connection."""
    for group in COMMANDS:
        for _, command in registered(group):
            built = command.build()
            names = [param.name for param in built.get_params(Context(built, **built.context_settings))]
            assert len(names) == len(set(names)), command.name
