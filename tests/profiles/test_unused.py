"""Variables that are set and not read."""

from __future__ import annotations

from katax_cli.profiles.load import load_profile
from katax_cli.profiles.unused import unused_note
from tests.profiles.conftest import MAIN, Project


def note(project: Project, **variables: str) -> str | None:
    environ = {**project.environ, **variables}
    return unused_note(load_profile(cwd=str(project.folder), environ=environ), environ=environ)


def test_urls_and_the_role_of_the_environment_are_named_when_a_profile_does_not_read_them(
    project: Project,
) -> None:
    project.write("profiles/dev.toml", MAIN)
    assert note(project) is None
    assert note(project, DATABASE_URL="sqlite:x") == "DATABASE_URL is set; profile 'dev' is used"
    assert note(project, REDIS_URL="redis://", KATAX_ROLE="prod", DATABASE_URL="sqlite:x") == (
        "DATABASE_URL, REDIS_URL and KATAX_ROLE are set; profile 'dev' is used"
    )
    project.write(".env", "MONGODB_URL=mongodb://db/x\n")
    assert note(project) == "MONGODB_URL is set; profile 'dev' is used"


def test_what_is_read_is_not_named(project: Project) -> None:
    assert note(project, DATABASE_URL="sqlite:x", KATAX_ROLE="dev") is None
    project.write("profiles/dev.toml", 'role = "dev"\n[connections.main]\nurl = "${env:DATABASE_URL}"\n')
    assert note(project, DATABASE_URL="sqlite:x") is None
