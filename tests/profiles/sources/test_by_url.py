"""Connections by URL: their names, what their profile holds, and whose role they have."""

from __future__ import annotations

import pytest

from katax_cli.errors import ConfigError
from katax_cli.profiles.load import load_profile
from katax_cli.profiles.model.model import Profile
from katax_cli.profiles.sources.by_url import is_url, name_by_url
from tests.profiles.conftest import MAIN, Project

SECRET = "hunter2-is-a-secret"
URL = f"postgresql://app:{SECRET}@db/shop"


def load(project: Project, url: str, name: str | None = None, **variables: str) -> Profile:
    environ = {**project.environ, **variables}
    return load_profile(name, url=url, cwd=str(project.folder), environ=environ)


def test_names_say_server_and_database_and_nothing_secret() -> None:
    for url, name in {
        URL: "db/shop",
        f"postgres://app:{SECRET}@db:5433/shop?schema=x": "db:5433/shop",
        "postgresql+asyncpg://db/shop": "db/shop",
        "postgresql://": "localhost",
        f"mysql://db/x?password={SECRET}": "db/x",
        "mongodb+srv://cluster.example.com/app": "cluster.example.com/app",
        "rediss://:pw@cache/2": "cache/2",
        "unix:///run/redis.sock": "redis.sock",
        "sqlite:///data/app.db": "app.db",
        "sqlite::memory:": ":memory:",
        "env:STAGING_URL": "STAGING_URL",
    }.items():
        assert (is_url(url), name_by_url(url)) == (True, name)


def test_names_and_patterns_of_connections_are_no_urls() -> None:
    assert [word for word in ("main", "shard*", "a[12]?", "env", "redis", "a:b") if is_url(word)] == []


def test_what_is_wrong_with_a_url_is_said_without_quoting_it() -> None:
    for wrong in (
        f"postgre://app:{SECRET}@db",
        f"app:{SECRET}@db/x",
        f"postgresql:app:{SECRET}",
        "env:",
        "env:A-B",
    ):
        assert is_url(wrong)
        with pytest.raises(ConfigError) as error:
            name_by_url(wrong)
        assert SECRET not in str(error.value)


def test_without_a_name_it_is_the_only_connection_and_production(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN)
    project.write(
        "katax.toml",
        'default_profile = "dev"\n[migrate]\nconnection = "main"\ntable = "applied"\n[state]\nurl = "main"\n'
        '[cron.jobs.a]\nschedule = "@daily"\nsql = "select 1"\nconnection = "main"\n'
        '[connections.other]\nurl = "${env:UNSET}"\n',
    )
    for variables, role in (
        ({}, "prod"),
        ({"KATAX_PROFILE": "dev"}, "prod"),
        ({"KATAX_ROLE": "stage"}, "stage"),
    ):
        profile = load(project, URL, **variables)
        assert (profile.name, profile.role, profile.source, profile.explicit) == ("env", role, None, True)
        assert list(profile.connections) == ["db/shop"]
        assert (profile.migrate.table, profile.cron.jobs) == ("applied", {})


def test_a_named_profile_gives_its_role_and_keeps_its_connections(project: Project) -> None:
    file = project.write("profiles/dev.toml", MAIN)
    profile = load(project, URL, "dev", KATAX_ROLE="prod")
    assert (profile.name, profile.role, profile.source) == ("dev", "dev", file)
    assert sorted(profile.connections) == ["db/shop", "main"]

    project.write("profiles/frozen.toml", 'role = "frozen"\n')
    assert load(project, URL, "frozen").connections["db/shop"].read_only


def test_a_url_wins_over_a_connection_of_its_name(project: Project) -> None:
    project.write("profiles/dev.toml", 'role = "dev"\n[connections.MAIN_URL]\nurl = "sqlite:///a.db"\n')
    profile = load(project, "env:MAIN_URL", "dev", MAIN_URL="sqlite:///b.db")
    assert profile.connections["MAIN_URL"].path == str(project.folder / "b.db")


def test_a_variable_may_stand_in_the_projects_env_file_and_must_be_set(project: Project) -> None:
    project.write(".env", "STAGING_URL=mysql://db/x\n")
    project.write("katax.toml", "")
    assert load(project, "env:STAGING_URL").connections["STAGING_URL"].type == "mysql"
    with pytest.raises(ConfigError) as error:
        load(project, "env:OTHER_URL")
    assert str(error.value) == (
        "connections.OTHER_URL.url needs the environment variable OTHER_URL, which is not set; "
        "set it or write it into .env"
    )
