"""Everything that is wrong or risky, at once, each with file, line and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from katax_cli.errors import UnknownProfile, UntrustedFile
from katax_cli.profiles.check import check_profile
from katax_cli.profiles.model.problems import Problem
from katax_cli.profiles.sources.trust import approve
from tests.profiles.conftest import MAIN, Project, make_foreign


def check(project: Project, name: str | None = None, **variables: str) -> list[Problem]:
    return check_profile(name, cwd=str(project.folder), environ={**project.environ, **variables})


def lines(problems: list[Problem]) -> list[str]:
    return [f"{problem.level}: {problem}" for problem in problems]


def test_nothing_is_wrong(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN)
    assert check(project) == []


def test_every_problem_at_once(project: Project) -> None:
    file = project.write(
        "profiles/dev.toml",
        """role = "dev"
[connections.main]
url = "postgres:/db"
prot = 1
[connections.cache]
url = "redis://${env:HOST}"
[retry]
attempts = "x"
[health]
degraded_ms = 0
""",
    )
    assert lines(check(project)) == [
        f"error: {file}:6: connections.cache.url needs the environment variable HOST, which is not set; "
        "set it or write it into .env",
        f"error: {file}:4: unknown key 'prot' in [connections.main]; did you mean 'port'?",
        f"error: {file}:8: retry.attempts is 'x', expected a whole number",
        f"error: {file}:3: connections.main.url has no '//' after 'postgres', expected postgres://host/…",
        f"error: {file}:9: [health]: health degraded_ms is 0, "
        "expected more than 0 and at most unhealthy_ms (500)",
    ]


def test_a_problem_has_its_parts(project: Project) -> None:
    file = project.write("profiles/dev.toml", MAIN + "prot = 1\n")
    assert check(project) == [
        Problem(
            file,
            4,
            "connections.main.prot",
            "unknown key 'prot' in [connections.main]",
            "did you mean 'port'?",
            "error",
        )
    ]


def test_broken_toml_is_a_problem(project: Project) -> None:
    file = project.write("profiles/dev.toml", MAIN + "x\n")
    assert lines(check(project, "dev")) == [
        f"error: {file}:4:2: not valid TOML: expected '=' after a key in a key/value pair"
    ]


def test_what_was_asked_for_and_is_not_there_raises(project: Project) -> None:
    with pytest.raises(UnknownProfile):
        check(project, "dev")
    make_foreign(project.write("profiles/dev.toml", MAIN))
    with pytest.raises(UntrustedFile):
        check(project, "dev")


def test_ignored_files_are_warnings(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN)
    other = project.write("profiles/other.toml", MAIN)
    reason = make_foreign(other)
    dotenv = project.write(".env", "A=x")
    make_foreign(dotenv)
    assert lines(check(project)) == [
        f"warning: {other}: ignored, {reason}",
        f"warning: {dotenv}: ignored, {reason}",
    ]
    assert check(project)[0].file == other
    project.write("profiles/dev.toml", MAIN.replace("app.db", "${env:A}"))
    assert len([line for line in lines(check(project)) if ": ignored, " in line]) == 2


def test_password_files(project: Project) -> None:
    file = project.write(
        "profiles/dev.toml",
        'role = "dev"\n[connections.a]\ntype = "mysql"\npassword_file = "a"\n'
        '[connections.b]\ntype = "mysql"\npassword_file = "b"\n[connections.c]\ntype = "mysql"\npassword_file = "c"\n',
    )
    open_file = project.write("a", "x")
    Path(project.write("b", "x")).chmod(0o600)
    assert lines(check(project)) == [
        f"warning: {file}:4: connections.a.password_file: {open_file} is readable by everyone; "
        f"run: chmod 600 {open_file}",
        f"error: {file}:10: connections.c.password_file: no file at {project.folder}/c; create it",
    ]


def test_certificates(project: Project) -> None:
    project.write("there.pem", "")
    file = project.write(
        "profiles/dev.toml",
        'role = "dev"\n[connections.main]\ntype = "mysql"\n'
        '[connections.main.tls]\nmode = "verify-ca"\nca = "there.pem"\nkey = "gone.pem"\n',
    )
    assert lines(check(project)) == [
        f"error: {file}:7: connections.main.tls.key: no file at {project.folder}/gone.pem; "
        "paths start in the project folder"
    ]


def test_unapproved_commands(project: Project) -> None:
    text = 'role = "dev"\n[connections.main]\ntype = "mysql"\npassword_command = "echo x"\n'
    file = project.write("profiles/dev.toml", text)
    assert lines(check(project)) == [
        f"warning: {file}:4: connections.main.password_command was not approved and will not run; "
        f"read it, then run: katax profile trust {file}"
    ]
    approve(file, environ=project.environ)
    assert check(project) == []
    project.write_user("profiles/mine.toml", text)
    assert check(project, "mine") == []


CLEAR = """
[connections.a]
type = "mysql"
password = "{pw}"
[connections.b]
url = "redis://:{pw}@cache/0"
[connections.c]
url = "postgresql://app@db/x"
[ws.chat]
auth_token = "{token}"
"""


@pytest.mark.parametrize("role", ["prod", "frozen"])
def test_secrets_in_the_clear_in_a_project(project: Project, role: str) -> None:
    text = f'role = "{role}"' + CLEAR.format(pw="hunter2", token="hunter2")
    file = project.write("profiles/dev.toml", text)
    remedy = "write '${env:NAME}', or use password_command, password_file or keyring"
    assert lines(check(project)) == [
        f"warning: {file}:4: connections.a.password holds a secret in the clear; {remedy}",
        f"warning: {file}:6: connections.b.url holds a secret in the clear; {remedy}",
        f"warning: {file}:10: ws.chat.auth_token holds a secret in the clear; {remedy}",
    ]
    project.write_user("profiles/mine.toml", text)
    assert check(project, "mine") == []


def test_references_and_dev_are_fine(project: Project) -> None:
    project.write("profiles/dev.toml", 'role = "prod"' + CLEAR.format(pw="${env:PW}", token="env:PW"))
    assert check(project, PW="x") == []
    project.write("profiles/dev.toml", 'role = "dev"' + CLEAR.format(pw="hunter2", token="hunter2"))
    assert check(project) == []


def test_local_is_reserved(project: Project) -> None:
    file = project.write("profiles/local.toml", MAIN)
    katax = project.write("katax.toml", 'default_profile = "dev"\n[profiles.local]\nrole = "dev"\n')
    project.write("profiles/dev.toml", MAIN)
    said = "profile 'local' is built in, this one is never used; give it another name"
    assert lines(check(project)) == [f"error: {file}:1: {said}", f"error: {katax}:2: {said}"]


def test_doubtful_values_of_dotenv(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN)
    path = project.write(
        ".env",
        "# comment ${A} #\nGOOD=x\n\nCUT=pass #word\nQUOTED='pass #word'\nexport OTHER=a${HOME}\n"
        "SINGLE='a${HOME}'\nNOTHING\nbro ken\n",
    )
    said = "which katax keeps and other readers of .env replace; avoid it"
    assert lines(check(project)) == [
        f"warning: {path}:4: CUT is cut at ' #'; put quotes around the whole value if the rest belongs to it",
        f"warning: {path}:6: OTHER contains '${{', {said}",
        f"warning: {path}:7: SINGLE contains '${{', {said}",
        f"error: {path}:9: not a line of NAME=value; write NAME=value",
    ]
