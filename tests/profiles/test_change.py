"""Files that `profile use` and `profile add` write, and that nothing else in them changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from katax_cli.errors import ConfigError, UnknownProfile
from katax_cli.profiles.change import add_profile, default_file, plan_profile, use_profile
from katax_cli.profiles.check import check_profile
from katax_cli.profiles.model.model import Profile
from tests.profiles.conftest import MAIN, Project

SECRET = "hunter2-is@a/secret"
URL = "postgresql://app:hunter2-is%40a%2Fsecret@db:5433/shop?sslmode=require"


def use(project: Project, name: str) -> str:
    file = default_file(name, cwd=str(project.folder), environ=project.environ)
    use_profile(name, file)
    return file


def add(project: Project, name: str, url: str, **variables: str) -> Profile:
    environ = {**project.environ, **variables}
    add_profile(plan_profile(name, url, "stage", cwd=str(project.folder), environ=environ))
    return project.load(name, **variables)


def test_the_default_is_written_and_all_other_lines_stay(project: Project) -> None:
    for name in ("dev", "stage"):
        project.write(f"profiles/{name}.toml", MAIN)
    assert use(project, "dev") == str(project.folder / "katax.toml")
    assert project.load().name == "dev"
    text = '# ours\ndefault_profile = "dev" # for now\n\n[migrate]\ntable = "default_profile" # not this\n'
    file = Path(project.write("katax.toml", text))
    file.chmod(0o600)
    use(project, "stage")
    assert file.read_text() == text.replace('"dev" # for', '"stage"  # for')
    assert file.stat().st_mode & 0o777 == 0o600
    project.write("katax.toml", "# ours\n[migrate]\ntable = 'a'\n")
    use(project, "local")
    assert (project.load().name, project.load().explicit) == ("local", True)
    assert (
        project.folder / "katax.toml"
    ).read_text() == "default_profile = \"local\"\n# ours\n[migrate]\ntable = 'a'\n"


def test_a_name_that_is_no_profile_changes_nothing(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN)
    with pytest.raises(UnknownProfile):
        use(project, "dve")
    assert not (project.folder / "katax.toml").exists()
    project.write("katax.toml", "not toml")
    with pytest.raises(ConfigError):
        use(project, "dev")
    assert (project.folder / "katax.toml").read_text() == "not toml"


def test_without_a_project_the_users_default_is_written(project: Project) -> None:
    project.write_user("profiles/mine.toml", MAIN)
    assert use(project, "mine") == str(project.user / "katax.toml")
    assert project.load().name == "mine"


def test_the_password_of_an_added_profile_is_kept_apart(project: Project) -> None:
    profile = add(project, "shop", URL)
    settings = profile.connections["main"]
    assert (profile.role, settings.address, settings.user, settings.database) == (
        "stage",
        "db:5433",
        "app",
        "shop",
    )
    assert settings.password is not None
    assert settings.password.reveal() == SECRET
    written = {file: file.read_text() for file in project.folder.rglob("*") if file.is_file()}
    holding = [file for file, text in written.items() if "hunter2" in text]
    assert [file.relative_to(project.folder).as_posix() for file in holding] == [".katax/passwords/shop"]
    assert holding[0].stat().st_mode & 0o777 == 0o600
    assert (project.folder / ".katax/.gitignore").read_text() == "*\n"
    assert check_profile("shop", cwd=str(project.folder), environ=project.environ) == []


def test_kinds_of_urls(project: Project) -> None:
    assert list(add(project, "a", "redis://:pw@cache/0").connections) == ["cache"]
    assert add(project, "b", "sqlite:///b.db").connections["main"].path == str(project.folder / "b.db")
    profile = add(project, "c", "env:SHOP_URL", SHOP_URL=URL)
    assert profile.connections["main"].address == "db:5433"
    assert "hunter2" not in (project.folder / "profiles/c.toml").read_text()


def test_what_cannot_be_added_writes_nothing_and_quotes_nothing(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN)
    before = sorted(project.home.rglob("*"))
    for name, url, message in (
        ("dev", URL, "profile 'dev' is there already"),
        ("local", URL, "profile 'local' is built in"),
        ("../x", URL, "is no name for a profile"),
        ("shop", f"postgre://app:{SECRET}@db", "the url has the unknown scheme"),
        ("shop", f"app:{SECRET}", "the url is no URL"),
        ("shop", f"postgresql://db/x?sslpassword={SECRET}&password=x", "a secret in its parameters"),
        ("shop", "env:NOPE", "the environment variable NOPE is not set"),
    ):
        with pytest.raises(ConfigError) as error:
            add(project, name, url)
        assert message in str(error.value)
        assert SECRET not in str(error.value)
    assert sorted(project.home.rglob("*")) == before
