"""The starter file works as it is, and so does what it has in comments."""

from __future__ import annotations

import re
import tomllib

import pytest

from katax_cli.errors import ConfigError
from katax_cli.profiles.check import check_profile
from katax_cli.profiles.model.keys import PROFILE
from katax_cli.profiles.model.problems import Problems
from katax_cli.profiles.model.validate import read_table
from katax_cli.profiles.template import profile_template, write_template
from tests.profiles.conftest import Project


def test_it_loads_without_a_problem(project: Project) -> None:
    path = write_template(str(project.folder), "shop")
    assert path == str(project.folder / "profiles" / "shop.toml")
    profile = project.load()
    assert (profile.name, profile.role) == ("shop", "dev")
    assert profile.connections["main"].path == str(project.folder / "shop.db")
    assert check_profile(cwd=str(project.folder), environ=project.environ) == []


def test_what_is_in_comments_is_right_too() -> None:
    text = profile_template("shop").replace("\n[connections.main]", "\n[connections.first]")
    uncommented = re.sub(r"(?m)^# (?=\[|\w+ = )", "", text)
    problems = Problems([])
    table = read_table(tomllib.loads(uncommented), PROFILE, (), problems)
    assert problems.found == []
    assert set(table["connections"]) == {"first", "main", "cache"}
    assert table["cron"]["jobs"]["cleanup"]["schedule"] == "0 3 * * *"


def test_a_file_that_is_there_is_kept(project: Project) -> None:
    path = project.write("profiles/shop.toml", "mine")
    with pytest.raises(ConfigError) as error:
        write_template(str(project.folder), "shop")
    assert str(error.value) == f"{path} exists; choose another name or edit it"
    assert (project.folder / "profiles" / "shop.toml").read_text() == "mine"


@pytest.mark.parametrize("name", ["../shop", "a/b", "", ".", "a b"])
def test_a_name_is_a_file_name(project: Project, name: str) -> None:
    with pytest.raises(ConfigError) as error:
        write_template(str(project.folder), name)
    assert str(error.value) == f"{name!r} is no name for a profile; use letters, digits, - and _"
    assert list(project.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["local", "env"])
def test_a_built_in_name_is_refused(project: Project, name: str) -> None:
    with pytest.raises(ConfigError) as error:
        write_template(str(project.folder), name)
    assert str(error.value) == f"profile {name!r} is built in; choose another name"


def test_where_it_cannot_be_written(project: Project) -> None:
    project.write("profiles", "a file")
    with pytest.raises(ConfigError) as error:
        write_template(str(project.folder / "profiles"), "shop")
    path = project.folder / "profiles" / "profiles" / "shop.toml"
    assert str(error.value) == f"{path} cannot be written: Not a directory"
