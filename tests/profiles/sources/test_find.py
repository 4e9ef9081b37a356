"""Which profile is meant, and where it is looked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import katax_cli
from katax_cli.errors import ConfigError, UnknownProfile, UntrustedFile
from katax_cli.profiles.load import list_profiles
from katax_cli.profiles.sources.home import upward
from tests.profiles.conftest import MAIN, Project, make_foreign


def test_without_configuration_local_is_used(project: Project) -> None:
    profile = project.load()
    assert (profile.name, profile.role, profile.explicit, profile.source) == ("local", "dev", False, None)
    assert profile.folder == str(project.folder)
    assert profile.connections["main"].path == str(project.folder / ".katax" / "main.db")
    assert profile.connections["cache"].embedded
    assert profile.connections["cache"].type == "redis"
    assert profile.notes == ()


def test_local_said_aloud_is_explicit_and_silent(project: Project) -> None:
    assert (project.load("local").explicit, project.load("local").notes) == (True, ())
    assert project.load(KATAX_PROFILE="local").explicit
    project.write("katax.toml", 'default_profile = "local"\n')
    assert (project.load().explicit, project.load().notes) == (True, ())


def test_the_option_beats_the_variable_beats_the_default_beats_the_only_one(project: Project) -> None:
    for name in ("a", "b", "c"):
        project.write(f"profiles/{name}.toml", MAIN)
    project.write("katax.toml", 'default_profile = "c"\n')
    assert project.load().name == "c"
    assert project.load(KATAX_PROFILE="b").name == "b"
    assert project.load("a", KATAX_PROFILE="b").name == "a"
    assert project.load().explicit


def test_the_only_one_is_used_before_env(project: Project) -> None:
    project.write("profiles/only.toml", MAIN)
    profile = project.load(DATABASE_URL="sqlite::memory:")
    assert (profile.name, profile.explicit) == ("only", False)


def test_several_and_none_chosen_names_them(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN)
    project.write_user("profiles/prod.toml", MAIN)
    with pytest.raises(ConfigError) as error:
        project.load(DATABASE_URL="sqlite::memory:")
    assert str(error.value) == (
        "several profiles and none chosen: dev, prod; "
        "choose with --profile, KATAX_PROFILE or default_profile in katax.toml"
    )


def test_an_unknown_profile_names_the_nearest(project: Project) -> None:
    project.write("profiles/prod.toml", MAIN)
    project.write("katax.toml", '[profiles.dev]\nrole = "dev"\n')
    with pytest.raises(UnknownProfile) as error:
        project.load("prdo")
    assert (
        str(error.value) == "no profile named 'prdo'; did you mean 'prod'? known profiles: dev, prod, local"
    )


@pytest.mark.parametrize("name", ["../project/profiles/dev", "profiles/dev", "."])
def test_a_name_is_no_path(project: Project, name: str) -> None:
    project.write("profiles/dev.toml", MAIN)
    with pytest.raises(UnknownProfile):
        project.load(name)


def test_the_nearest_folder_upward_is_the_project(project: Project) -> None:
    project.write("katax.toml", '[profiles.outer]\nrole = "dev"\n')
    project.write("inner/profiles/inner.toml", MAIN)
    (project.folder / "inner" / "deep" / "deeper").mkdir(parents=True)
    profile = project.load(at="inner/deep/deeper")
    assert (profile.name, profile.folder) == ("inner", str(project.folder / "inner"))
    assert profile.connections["main"].path == str(project.folder / "inner" / "app.db")


def test_a_profiles_folder_of_another_program_is_no_project(project: Project) -> None:
    project.write("katax.toml", '[profiles.outer]\nrole = "dev"\n')
    project.write("inner/profiles/eslint.toml", 'rules = "all"\n')
    project.write("inner/profiles/notes.md", "[connections.main]\n")
    assert project.load(at="inner").folder == str(project.folder)


def test_the_search_stops_at_the_home_folder(project: Project) -> None:
    (project.home.parent / "katax.toml").write_text('default_profile = "local"\n')
    assert project.load().notes == ()
    (project.home / "katax.toml").write_text('default_profile = "local"\n')
    assert project.load().folder == str(project.home)


def test_a_project_profile_hides_the_users_of_the_same_name(project: Project) -> None:
    own = project.write("profiles/dev.toml", MAIN)
    project.write_user("profiles/dev.toml", 'role = "prod"\n')
    assert project.load().source == own


def test_the_users_folder_follows_xdg(project: Project) -> None:
    elsewhere = project.home / "elsewhere"
    path = elsewhere / "katax" / "katax.toml"
    path.parent.mkdir(parents=True)
    path.write_text('[profiles.mine]\nrole = "stage"\n')
    profile = project.load(XDG_CONFIG_HOME=str(elsewhere))
    assert (profile.name, profile.role, profile.source) == ("mine", "stage", str(path))
    assert profile.folder == str(project.folder)


def test_the_users_default_profile_counts_after_the_projects(project: Project) -> None:
    project.write("profiles/a.toml", MAIN)
    project.write("profiles/b.toml", MAIN)
    project.write_user("katax.toml", 'default_profile = "a"\n')
    assert project.load().name == "a"
    project.write("katax.toml", 'default_profile = "b"\n')
    assert project.load().name == "b"


def test_a_profile_in_two_places_of_one_folder_is_refused(project: Project) -> None:
    first = project.write("profiles/dev.toml", MAIN)
    second = project.write("katax.toml", '\n[profiles.dev]\nrole = "dev"\n')
    with pytest.raises(ConfigError) as error:
        project.load("dev")
    assert str(error.value) == f"profile 'dev' is defined twice: {first} and {second}:2; keep one"


def test_foreign_files_are_ignored_and_said(project: Project) -> None:
    path = project.write("profiles/dev.toml", MAIN)
    reason = make_foreign(path)
    assert project.load().notes == (f"ignored {path}: {reason}",)


def test_a_foreign_katax_toml_does_not_hide_the_project_above(project: Project) -> None:
    project.write("katax.toml", '[profiles.outer]\nrole = "dev"\n')
    inner = project.write("inner/katax.toml", 'default_profile = "evil"\n')
    reason = make_foreign(inner)
    profile = project.load(at="inner")
    assert (profile.name, profile.notes) == ("outer", (f"ignored {inner}: {reason}",))


def test_world_writable_is_enough_to_be_foreign(project: Project) -> None:
    path = project.write("profiles/dev.toml", MAIN)
    Path(path).chmod(0o646)
    assert project.load().name == "local"
    Path(path).chmod(0o664)
    assert project.load().name == "dev"


@pytest.mark.parametrize("file", ["profiles/dev.toml", "katax.toml"])
def test_a_foreign_file_that_was_asked_for_is_refused(project: Project, file: str) -> None:
    text = MAIN if file.startswith("profiles") else '[profiles.dev]\nrole = "dev"\n'
    path = project.write(file, text)
    reason = make_foreign(path)
    with pytest.raises(UntrustedFile) as error:
        project.load("dev")
    assert str(error.value) == f"refused: {path} is not used: {reason}"


def test_a_fifo_does_not_hang_the_search(project: Project) -> None:
    os.mkfifo(project.folder / "katax.toml", 0o600)
    assert project.load().name == "local"


def test_the_search_stays_on_its_file_system(project: Project) -> None:
    assert list(upward("/proc", project.environ)) == ["/proc"]


def test_a_folder_that_is_gone(project: Project) -> None:
    code = (
        "import os; os.rmdir(os.getcwd())\nfrom katax_cli.profiles.load import load_profile\nload_profile()"
    )
    gone = project.folder / "gone"
    gone.mkdir()
    package = str(Path(katax_cli.__file__ or "").parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=gone,
        env={**project.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == (
        "katax_cli.errors.ConfigError: the current folder does not exist any more; change to another one"
    )


def test_the_list_says_what_is_chosen_and_what_does_not_load(project: Project) -> None:
    good = project.write("profiles/good.toml", MAIN)
    bad = project.write("profiles/bad.toml", 'role = "dev"\n[connections.main\n')
    entries = list_profiles(
        cwd=str(project.folder), environ={**project.environ, "KATAX_PROFILE": "good", "REDIS_URL": "embedded"}
    )
    assert [(entry.name, entry.source, entry.role, entry.chosen) for entry in entries] == [
        ("bad", None, None, False),
        ("good", good, "dev", True),
        ("env", None, "prod", False),
        ("local", None, "dev", False),
    ]
    assert entries[0].problem == (
        f"{bad}:2:18: not valid TOML: expected ']' at the end of a table declaration"
    )
    assert entries[1].problem is None


def test_names_are_listed_without_parsing(project: Project) -> None:
    project.write("profiles/broken.toml", "role = \n[connections")
    project.write("profiles/fine.toml", MAIN)
    assert project.load("fine").name == "fine"


@pytest.mark.parametrize(
    ("variables", "role"),
    [
        (
            {"DATABASE_URL": "postgresql://app@localhost/app"},
            "prod",
        ),  # tunnels and cloud proxies are loopback
        ({"DATABASE_URL": "sqlite:///x.db", "REDIS_URL": "embedded"}, "prod"),
        ({"DATABASE_URL": "postgresql://app@db.example.com/app"}, "prod"),
        ({"DATABASE_URL": "postgresql://app@db/app", "KATAX_ROLE": "stage"}, "stage"),
    ],
)
def test_the_role_of_env(project: Project, variables: dict[str, str], role: str) -> None:
    profile = project.load(**variables)
    assert (profile.name, profile.role, profile.explicit, profile.source) == ("env", role, True, None)
    assert profile.notes == ()


def test_the_connections_of_env(project: Project) -> None:
    profile = project.load(
        "env",
        DATABASE_URL="postgres://app:s3cret@db/app",
        REDIS_URL="redis://cache/2",
        MYSQL_URL="mysql://my/app",
        MONGODB_URL="mongodb://mongo/app",
    )
    assert [(each.name, each.type) for each in profile.connections.values()] == [
        ("main", "postgresql"),
        ("cache", "redis"),
        ("mysql", "mysql"),
        ("mongodb", "mongodb"),
    ]
    assert profile.explicit


def test_a_wrong_role_in_the_environment(project: Project) -> None:
    with pytest.raises(ConfigError) as error:
        project.load(DATABASE_URL="sqlite::memory:", KATAX_ROLE="production")
    assert str(error.value) == "KATAX_ROLE is 'production', expected dev, stage, prod or frozen"


def test_env_without_variables(project: Project) -> None:
    with pytest.raises(ConfigError) as error:
        project.load("env", DATABASE_URL="")
    assert str(error.value) == (
        "profile 'env' needs one of the variables DATABASE_URL, REDIS_URL, MYSQL_URL, MONGODB_URL"
    )


def test_urls_of_dotenv_make_env_and_say_where_they_stand(project: Project) -> None:
    file = project.write(
        ".env", "# ours\nexport DATABASE_URL='sqlite:///a.db'\nKATAX_ROLE=dev\nREDIS_URL=embedded\n"
    )
    profile = project.load(REDIS_URL="redis://cache")

    assert (profile.name, profile.role, profile.explicit) == ("env", "dev", False)
    assert profile.notes == (f"profile 'env' uses DATABASE_URL from {file}:2",)
    assert profile.connection("main").path == str(project.folder / "a.db")
    assert profile.connection("cache").host == "cache"
    assert project.load("env").explicit
    assert "DATABASE_URL" not in os.environ


def test_dotenv_chooses_no_profile_and_gives_way_to_one(project: Project) -> None:
    project.write(".env", "DATABASE_URL=sqlite::memory:\nKATAX_PROFILE=local\n")
    assert project.load().name == "env"
    project.write("profiles/good.toml", MAIN)
    assert (project.load().name, project.load().notes) == ("good", ())


def test_an_ignored_dotenv_is_named_where_its_value_is_missed(project: Project) -> None:
    file = project.write(".env", "DATABASE_URL=sqlite::memory:\nSECRET=x\n")
    reason = make_foreign(file)
    with pytest.raises(ConfigError) as error:
        project.load("env")
    assert str(error.value).endswith(f"MONGODB_URL; ignored {file}: {reason}")
    project.write("profiles/good.toml", f'{MAIN}password = "${{env:SECRET}}"\n')
    with pytest.raises(ConfigError) as error:
        project.load("good")
    assert str(error.value).endswith(f"set it or write it into .env; ignored {file}: {reason}")
