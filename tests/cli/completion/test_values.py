"""What may stand at a place of the line, and that a name from elsewhere is never more than text."""

from __future__ import annotations

from pathlib import Path

import pytest

from katax_cli.cli import app
from katax_cli.cli.completion.line import OPTIONS, POSITIONS, TypedLine, kind_at
from katax_cli.cli.completion.values import values
from tests.cli.harness import katax, registered, write_profile

EXTRA = '[cron.jobs.nightly]\nschedule = "@daily"\ncommand = "true"\n[ws.chat]\nport = 0\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_profile(tmp_path, {"main": "sqlite:///x.db", "mine": "sqlite:///y.db"}, name="dev", extra=EXTRA)
    write_profile(tmp_path, {"cache": "redis://localhost:1/0"}, name="demo")
    (tmp_path / "katax.toml").write_text('default_profile = "dev"\n')
    for folder in ("migrations", "seeds"):
        (tmp_path / folder).mkdir()
    (tmp_path / "migrations/001_users.sql").write_text("-- UP\nselect 1;\n-- DOWN\nselect 1;\n")
    (tmp_path / "seeds/countries.sql").write_text("select 1;\n")
    return tmp_path


def test_kinds_of_places() -> None:
    for line, kind in {
        "db describe ": "tables",
        "db -c main -f json describe ": "tables",
        "-p dev db insert users ": "assignments",
        "db insert users a=1 ": "assignments",
        "db describe users ": None,
        "db describe --": None,
        "db select users --columns ": "columns",
        "db query --timeout ": None,
        "health ": "connections",
        "health check a ": "connections",
        "cache del a ": "keys",
        "cache get a ": None,
        "migrate up --to ": "versions",
        "cron export --to ": None,
        "": None,
    }.items():
        words = line.split(" ")
        assert kind_at(TypedLine(tuple(words[:-1]), words[-1])) == kind, line


def test_every_place_is_one_of_a_command_or_an_option() -> None:
    known = set(app.COMMANDS)
    for group in app.COMMANDS:
        known |= {words for words, _ in registered(group)}
    assert sorted(set(POSITIONS) - known) == []
    options = {opt for group in app.COMMANDS for opt in _options(group)}
    assert (
        sorted(
            set(OPTIONS)
            - options
            - {"-p", "-c", "-f", "--profile", "--connection", "--format", "--log-level", "--log-format"}
        )
        == []
    )


def _options(group: str) -> set[str]:
    built = [command.build() for _, command in registered(group)]
    return {opt for command in built for param in command.params for opt in param.opts}


def test_values_of_files(project: Path) -> None:
    for line, found in {
        "-p ": ["demo", "dev", "local"],
        "-p de": ["demo", "dev"],
        "-c m": ["main", "mine"],
        "-p demo db ping -c ": ["cache"],
        "health mi": ["mine"],
        "db query -f ": ["csv", "json"],
        "health -f n": ["nagios"],
        "cron run nig": ["nightly"],
        "migrate run ": ["001_users.sql"],
        "migrate down --to ": ["001"],
        "seed run ": ["countries.sql"],
        "ws emit --name ": ["chat"],
        "completion show z": ["zsh"],
        "-p nope db ping -c ": [],
    }.items():
        assert values(line.split(" "))[: len(found)] == found, line


def test_a_tab_makes_no_file_and_starts_no_server(project: Path) -> None:
    before = sorted(project.rglob("*"))
    for line in ("db describe ", "-p local cache get ", "-p local db describe ", "-p demo cache get "):
        assert values(line.split(" ")) == []
    assert sorted(project.rglob("*")) == before


def test_names_that_a_shell_reads_as_more_are_left_out(project: Path) -> None:
    for number, name in enumerate(("$(touch pwned)", "`id`", "a b", "a;b", "ünïcode", "plain-1.2")):
        (project / f"migrations/{number + 100}_{name}.sql").write_text(
            "-- UP\nselect 1;\n-- DOWN\nselect 1;\n"
        )
    done = katax("completion", "values", "--", "migrate", "run", "10")
    assert (done.code, done.err) == (0, "")
    assert done.out == "105_plain-1.2.sql\n"
