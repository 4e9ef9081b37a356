"""The starter file works as it is, and so does what it has in comments."""

from __future__ import annotations

import re
import tomllib

from katax_cli.profiles.check import check_profile
from katax_cli.profiles.keys import PROFILE
from katax_cli.profiles.problems import Problems
from katax_cli.profiles.template import profile_template
from katax_cli.profiles.validate import read_table
from tests.profiles.conftest import Project


def test_it_loads_without_a_problem(project: Project) -> None:
    project.write("profiles/shop.toml", profile_template("shop"))
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
