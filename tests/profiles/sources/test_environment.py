"""`${env:NAME}` and `.env`."""

from __future__ import annotations

import os

import pytest

from katax_cli.errors import ConfigError
from katax_cli.profiles.sources.environment import variables
from tests.profiles.conftest import MAIN, Project, make_foreign

SECRET = "hunter2-is-a-secret"


def password_of(project: Project, **variables: str) -> str | None:
    profile = project.connection('url = "postgresql://db/x"\npassword = "${env:KATAX_PW}"', **variables)
    secret = profile.connections["main"].password
    return secret.reveal() if secret else None


def test_the_environment_first_then_dotenv(project: Project) -> None:
    project.write(".env", "KATAX_PW=from-file\n")
    assert password_of(project) == "from-file"
    assert password_of(project, KATAX_PW="from-environment") == "from-environment"
    assert "KATAX_PW" not in os.environ


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("KATAX_PW='a${HOME}b'", "a${HOME}b"),
        ('KATAX_PW="a${HOME}b"', "a${HOME}b"),
        ("KATAX_PW=a$b", "a$b"),
        ("KATAX_PW='a #b'", "a #b"),
        ("export KATAX_PW=x=y", "x=y"),
        ("KATAX_PW=", ""),
    ],
)
def test_dotenv_values_are_taken_as_they_are(project: Project, line: str, value: str) -> None:
    project.write(".env", f"OTHER=1\n{line}\n")
    assert password_of(project) == value


def test_dotenv_is_read_from_the_project_folder(project: Project) -> None:
    project.write(".env", "KATAX_PW=x\n")
    project.write("sub/.env", "KATAX_PW=y\n")
    project.write(
        "profiles/dev.toml", 'role = "dev"\n[connections.main]\nurl = "redis://:${env:KATAX_PW}@h/0"\n'
    )
    secret = project.load(at="sub").connections["main"].password
    assert secret is not None
    assert secret.reveal() == "x"


def test_a_missing_variable_is_named_with_file_line_and_key(project: Project) -> None:
    project.write(".env", "OTHER=x\nKATAX_PW\n")
    with pytest.raises(ConfigError) as error:
        password_of(project)
    assert str(error.value) == (
        f"{project.folder}/profiles/dev.toml:4: connections.main.password needs the environment variable "
        "KATAX_PW, which is not set; set it or write it into .env"
    )


def test_a_reference_without_end(project: Project) -> None:
    with pytest.raises(ConfigError) as error:
        project.connection('url = "postgresql://${env:HOST/x"')
    assert "connections.main.url needs the environment variable HOST/x, which is not set" in str(error.value)


def test_a_foreign_dotenv_is_ignored_and_said(project: Project) -> None:
    reason = make_foreign(project.write(".env", "HOST=db\n"))
    with pytest.raises(ConfigError):
        project.connection('url = "postgresql://${env:HOST}/x"')
    profile = project.connection(
        'url = "postgresql://${env:HOST}/x"\nuser = "x"'.partition("\nuser")[0], HOST="h"
    )
    assert profile.notes == ()
    project.write("profiles/dev.toml", MAIN + 'prefix = "${env:HOST}"\n')
    with pytest.raises(ConfigError) as error:
        project.load()
    assert "needs the environment variable HOST" in str(error.value)
    assert reason


def test_numbers_and_booleans_come_from_the_environment_too(project: Project) -> None:
    main = project.connection(
        'type = "postgresql"\nport = "${env:PORT}"\nread_only = "${env:RO}"\nconnect_timeout = "${env:T}s"\n'
        'pool = { max = "${env:MAX}" }',
        PORT="5433",
        RO="True",
        T="7",
        MAX="3",
    ).connections["main"]
    assert (main.port, main.read_only, main.connect_timeout, main.pool.max) == (5433, True, 7.0, 3)


def test_numbers_of_policies_come_from_the_environment_too(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN + '[retry]\nmultiplier = "${env:M}"\n')
    assert project.load(M="1.5").retry.multiplier == 1.5
    with pytest.raises(ConfigError) as error:
        project.load(M=SECRET)
    assert str(error.value).endswith("retry.multiplier is text from the environment, expected a number")


@pytest.mark.parametrize(
    "toml",
    [
        'type = "${env:X}"',
        'type = "postgresql"\nport = "${env:X}"',
        'type = "postgresql"\nread_only = "${env:X}"',
        'type = "postgresql"\nconnect_timeout = "${env:X}"',
        'url = "${env:X}"',
        'url = "postgresql://db:${env:X}"',
        'url = "postgresql://a/b@${env:X}"',
        'url = "redis://db/${env:X}"',
        'url = "postgresql://db/x?sslmode=${env:X}"',
        'type = "redis"\ndatabase = "${env:X}"',
        'url = "redis://db"\nkeyring = "${env:X}"\npassword = "x"',
    ],
)
def test_no_message_quotes_a_variables_value(project: Project, toml: str) -> None:
    with pytest.raises(ConfigError) as error:
        project.connection(toml, X=SECRET)
    assert SECRET not in str(error.value)
    assert SECRET not in repr(error.value)


def test_values_are_not_substituted_again(project: Project) -> None:
    assert password_of(project, KATAX_PW="${env:OTHER}", OTHER="no") == "${env:OTHER}"


def test_the_names_in_a_string() -> None:
    assert variables("${env:A}:${env:B}@x") == ["A", "B"]
    assert variables("none") == []
