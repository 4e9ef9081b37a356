"""What `profile trust` approves: this command in this file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from katax_cli.errors import ConfigError, UntrustedFile
from katax_cli.profiles.sources.ownership import trusted
from katax_cli.profiles.sources.trust import approve, approved
from tests.profiles.conftest import Project, make_foreign

TEXT = """
role = "dev"
[connections.a]
password_command = "pass show a"
[connections.b]
password_command = ["pass", "show", "b c"]
[connections.c]
password = "x"
"""


def store(project: Project) -> Path:
    return project.home / ".local" / "state" / "katax" / "trust.json"


def test_the_commands_of_a_file_are_approved_and_returned(project: Project) -> None:
    file = project.write("profiles/dev.toml", TEXT)
    assert not approved(file, "pass show a", project.environ)
    assert approve(file, environ=project.environ) == ["pass show a", "pass show 'b c'"]
    assert approved(file, "pass show a", project.environ)
    assert approved(file, ["pass", "show", "b c"], project.environ)


def test_katax_toml_has_commands_in_two_depths(project: Project) -> None:
    file = project.write(
        "katax.toml",
        '[connections.a]\npassword_command = "one"\n[profiles.p.connections.b]\npassword_command = "two"\n',
    )
    assert approve(file, environ=project.environ) == ["one", "two"]


@pytest.mark.parametrize("command", ["pass show a ", "pass show b", ["pass show a"]])
def test_another_command_is_not_approved(project: Project, command: str | list[str]) -> None:
    file = project.write("profiles/dev.toml", TEXT)
    approve(file, environ=project.environ)
    assert not approved(file, command, project.environ)


def test_the_same_command_in_another_file_is_not_approved(project: Project) -> None:
    file = project.write("profiles/dev.toml", TEXT)
    other = project.write("profiles/other.toml", TEXT)
    approve(file, environ=project.environ)
    assert not approved(other, "pass show a", project.environ)


def test_approving_again_forgets_what_is_gone_and_keeps_other_files(project: Project) -> None:
    file = project.write("profiles/dev.toml", TEXT)
    other = project.write("profiles/other.toml", TEXT)
    approve(file, environ=project.environ)
    approve(other, environ=project.environ)
    project.write("profiles/dev.toml", TEXT.replace("pass show a", "pass show z"))
    approve(file, environ=project.environ)
    assert not approved(file, "pass show a", project.environ)
    assert approved(file, "pass show z", project.environ)
    assert approved(other, "pass show a", project.environ)


def test_the_store_is_private_and_holds_no_command(project: Project) -> None:
    file = project.write("profiles/dev.toml", TEXT)
    approve(file, environ=project.environ)
    assert store(project).stat().st_mode & 0o777 == 0o600
    assert store(project).parent.stat().st_mode & 0o777 == 0o700
    assert "pass" not in store(project).read_text()
    assert set(json.loads(store(project).read_text()).values()) == {file}
    assert [each.name for each in store(project).parent.iterdir()] == ["trust.json"]


def test_the_store_follows_xdg(project: Project, tmp_path: Path) -> None:
    file = project.write("profiles/dev.toml", TEXT)
    environ = {**project.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    approve(file, environ=environ)
    assert (tmp_path / "state" / "katax" / "trust.json").exists()
    assert approved(file, "pass show a", environ)
    assert not approved(file, "pass show a", project.environ)


@pytest.mark.parametrize("content", ["", "[1, 2]", "{"])
def test_a_broken_store_approves_nothing(project: Project, content: str) -> None:
    file = project.write("profiles/dev.toml", TEXT)
    approve(file, environ=project.environ)
    store(project).write_text(content)
    assert not approved(file, "pass show a", project.environ)
    approve(file, environ=project.environ)
    assert approved(file, "pass show a", project.environ)


def test_a_foreign_store_approves_nothing(project: Project) -> None:
    file = project.write("profiles/dev.toml", TEXT)
    approve(file, environ=project.environ)
    make_foreign(str(store(project)))
    assert not approved(file, "pass show a", project.environ)


def test_a_foreign_file_is_not_approved(project: Project) -> None:
    file = project.write("profiles/dev.toml", TEXT)
    reason = make_foreign(file)
    assert not trusted(file)
    with pytest.raises(UntrustedFile) as error:
        approve(file, environ=project.environ)
    assert str(error.value) == f"refused: {file} is not used: {reason}"


def test_a_file_that_is_not_there(project: Project) -> None:
    file = str(project.folder / "none.toml")
    assert not trusted(file)
    with pytest.raises(ConfigError) as error:
        approve(file, environ=project.environ)
    assert str(error.value) == (f"no file at {file}; 'katax profile list' shows where profiles are read from")
