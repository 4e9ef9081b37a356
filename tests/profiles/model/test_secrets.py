"""Passwords are fetched late, from where the profile says, and never show."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from katax_cli.core.settings import Secret
from katax_cli.errors import ConfigError, Refused
from katax_cli.profiles.model import secrets
from katax_cli.profiles.sources.trust import approve
from tests.profiles.conftest import Project

SECRET = "hunter2-is-a-secret"
URL = 'url = "postgresql://app@db/x"\n'


def password_of(project: Project, toml: str, **variables: str) -> Secret:
    secret = project.connection(URL + toml, **variables).connections["main"].password
    assert secret is not None
    return secret


def users_password(project: Project, toml: str) -> Secret:
    project.write_user("profiles/mine.toml", f'role = "dev"\n[connections.main]\n{URL}{toml}\n')
    secret = project.load("mine").connections["main"].password
    assert secret is not None
    return secret


def failure_of(secret: Secret) -> str:
    with pytest.raises(ConfigError) as error:
        secret.reveal()
    return str(error.value)


@pytest.mark.parametrize(
    ("command", "password"),
    [
        ("'echo two words'", "two words"),
        ("'printf %s $((1 + 1))'", "2"),
        ("['printf', '%s', '$((1 + 1))']", "$((1 + 1))"),
        ("'printf \"a\\n\\n\"'", "a\n"),
        ("'pwd'", "{folder}"),
        ("'cat; echo x'", "x"),
    ],
)
def test_a_users_command_runs_without_approval(project: Project, command: str, password: str) -> None:
    expected = password.replace("{folder}", str(project.folder))
    assert users_password(project, f"password_command = {command}").reveal() == expected


def test_a_command_runs_late_and_once(project: Project) -> None:
    log = project.folder / "log"
    secret = users_password(project, f"password_command = 'echo run >> {log}; echo pw'")
    assert not log.exists()
    assert [secret.reveal(), secret.reveal()] == ["pw", "pw"]
    assert log.read_text() == "run\n"


def test_the_command_of_a_project_needs_an_approval(project: Project) -> None:
    mark = project.folder / "mark"
    toml = f"password_command = 'touch {mark}; echo pw'"
    file = str(project.folder / "profiles" / "dev.toml")
    secret = password_of(project, toml)
    with pytest.raises(Refused) as error:
        secret.reveal()
    assert str(error.value) == (
        f"refused: password_command of 'main' of {file} was not approved; "
        f"read it, then run: katax profile trust {file}"
    )
    assert not mark.exists()
    approve(file, environ=project.environ)
    assert secret.reveal() == "pw"


def test_a_shared_command_needs_its_own_files_approval(project: Project) -> None:
    file = project.write("katax.toml", f"[connections.main]\n{URL}password_command = 'echo pw'\n")
    project.write_user("profiles/mine.toml", 'role = "prod"\n')
    secret = project.load("mine").connections["main"].password
    assert secret is not None
    with pytest.raises(Refused) as error:
        secret.reveal()
    assert file in str(error.value)


def test_a_command_that_fails_shows_its_stderr_and_not_its_stdout(project: Project) -> None:
    secret = users_password(project, f"password_command = 'echo {SECRET}; echo vault is sealed >&2; exit 3'")
    assert failure_of(secret) == "password_command of 'main' failed with status 3: vault is sealed"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("'exit 1'", "password_command of 'main' failed with status 1: it wrote nothing to stderr"),
        ("'true'", "password_command of 'main' printed nothing"),
        ("['/no/such/program']", "password_command of 'main' cannot be run: No such file or directory"),
        ("'printf \"\\\\377\"'", "password_command of 'main' printed something that is not UTF-8"),
    ],
)
def test_what_a_command_can_do_wrong(project: Project, command: str, message: str) -> None:
    assert failure_of(users_password(project, f"password_command = {command}")) == message


def test_a_command_that_hangs_is_ended(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "COMMAND_TIMEOUT", 0.2)
    secret = users_password(project, "password_command = 'sleep 60'")
    assert failure_of(secret) == "password_command of 'main' took longer than 0.2 s"


def test_a_password_file_starts_in_the_project_folder(project: Project) -> None:
    path = Path(project.write("secrets/db", "pw\n"))
    path.chmod(0o600)
    assert password_of(project, "password_file = 'secrets/db'").reveal() == "pw"
    assert password_of(project, f"password_file = '{path}'").reveal() == "pw"
    assert project.load().notes == ()


def test_a_password_file_that_everyone_can_read_is_said(project: Project) -> None:
    path = project.write("db", "pw")
    password_of(project, "password_file = 'db'")
    assert project.load().notes == (
        f"password_file of 'main' is readable by everyone; run: chmod 600 {path}",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "{path} cannot be read: No such file or directory"), ("\n", "holds nothing")],
)
def test_what_can_be_wrong_with_a_password_file(project: Project, content: str | None, message: str) -> None:
    if content is not None:
        project.write("db", content)
    said = failure_of(password_of(project, "password_file = 'db'"))
    expected = message.replace("{path}", str(project.folder / "db"))
    assert said.replace("'main': ", "'main' ") == f"password_file of 'main' {expected}"


def test_without_the_keyring_package_it_is_said_how_to_get_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    assert failure_of(password_of(project, "keyring = 'katax/app'")) == (
        "keyring of 'main' needs the keyring package: pip install 'katax[keyring]'"
    )


class InMemory(KeyringBackend):
    """A backend as keyring's plug-ins are; the machine's own is not touched."""

    priority = 1.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._passwords: dict[tuple[str, str], str] = {}

    def set_password(self, service: str, username: str, password: str) -> None:
        self._passwords[service, username] = password

    def get_password(self, service: str, username: str) -> str | None:
        if service == "locked":
            raise KeyringLocked("say the word")
        return self._passwords.get((service, username))


@pytest.fixture
def in_memory_keyring() -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(InMemory())
    keyring.set_password("my/katax", "app", "pw")
    yield
    keyring.set_keyring(before)


@pytest.mark.usefixtures("in_memory_keyring")
def test_the_keyring(project: Project) -> None:
    assert password_of(project, "keyring = 'my/katax/app'").reveal() == "pw"
    said = failure_of(password_of(project, "keyring = 'katax/app'"))
    assert said == "keyring of 'main': the keyring has no password for 'app' of 'katax'"
    said = failure_of(password_of(project, "keyring = 'locked/app'"))
    assert said == "keyring of 'main': the keyring cannot be used: say the word"


@pytest.mark.parametrize("entry", ["katax", "/app", "katax/"])
def test_a_keyring_entry_has_two_parts(project: Project, entry: str) -> None:
    said = failure_of(password_of(project, f"keyring = '{entry}'"))
    assert said == f"keyring of 'main' is {entry!r}, expected 'service/user'"


@pytest.mark.parametrize(
    ("text", "value"), [("env:TOKEN", "from-env"), ("file:token", "from-file"), ("plain", "plain")]
)
def test_tokens_of_servers(project: Project, text: str, value: str) -> None:
    project.write("token", "from-file\n")
    project.write(
        "profiles/dev.toml", f'role = "dev"\nconnections = {{}}\n[ws.chat]\nauth_token = "{text}"\n'
    )
    token = project.load(TOKEN="from-env").ws["chat"].auth_token
    assert token is not None
    assert token.reveal() == value


def test_a_token_whose_variable_is_missing(project: Project) -> None:
    project.write(
        "profiles/dev.toml", 'role = "dev"\nconnections = {}\n[ws.chat]\nadmin_token = "env:TOKEN"\n'
    )
    token = project.load().ws["chat"].admin_token
    assert token is not None
    assert failure_of(token) == (
        "admin_token of ws 'chat' needs the environment variable TOKEN, which is not set"
    )


def test_no_secret_of_a_profile_shows(project: Project) -> None:
    project.write(".env", f"FROM_DOTENV={SECRET}\n")
    project.write(
        "profiles/dev.toml",
        f"""
role = "dev"
[connections.a]
url = "postgresql://app:{SECRET}@db/x?sslpassword={SECRET}"
pooler = "transaction"
direct_url = "postgresql://app:{SECRET}@direct/x"
replicas = ["postgresql://app:{SECRET}@replica/x"]
[connections.b]
url = "redis://:${{env:FROM_DOTENV}}@cache/0"
[connections.c]
type = "mysql"
password = "${{env:FROM_ENVIRONMENT}}"
[state]
url = "mysql://app:{SECRET}@state/x"
[ws.chat]
auth_token = "{SECRET}"
[cron.jobs.a]
schedule = "@daily"
command = "true"
""",
    )
    profile = project.load(FROM_ENVIRONMENT=SECRET)
    first = profile.connections["a"].password
    assert first is not None
    assert first.reveal() == SECRET
    for text in (
        repr(profile),
        str(profile),
        repr(vars(profile)),
        repr(profile.layers),
        f"{first} {first!r}",
    ):
        assert SECRET not in text
    with pytest.raises(TypeError):
        pickle.dumps(profile)
    with pytest.raises(TypeError):
        copy.copy(first)
