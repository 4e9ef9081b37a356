"""Every value with its origin, and no secret."""

from __future__ import annotations

import pytest

from katax_cli.profiles.model.keys import CONNECTION, Key
from katax_cli.profiles.show import KeyOrigin, masked, origins
from tests.profiles.conftest import Project

SECRET = "hunter2-is-a-secret"


def test_what_was_written_then_the_defaults(project: Project) -> None:
    katax = project.write("katax.toml", "[retry]\nattempts = 4\ntotal = 9.0\n")
    file = project.write(
        "profiles/dev.toml",
        'role = "dev"\n[connections.main]\nurl = "postgresql://app@${env:HOST}/x"\npassword = "${env:PW}"\n'
        "pool = { max = 3 }\n[retry]\ntotal = 5.0\n",
    )
    dotenv = project.write(".env", f"PW={SECRET}\nHOST=ignored\n")
    environ = {**project.environ, "HOST": "db"}
    rows = {row.key: row for row in origins(project.load(HOST="db"), environ=environ)}
    main = "connections.main"
    assert rows["role"] == KeyOrigin("role", "dev", f"{file}:1")
    assert rows[f"{main}.url"] == KeyOrigin(
        f"{main}.url", "postgresql://app@${env:HOST}/x", f"{file}:3 (HOST from environment)"
    )
    assert rows[f"{main}.password"] == KeyOrigin(
        f"{main}.password", "${env:PW}", f"{file}:4 (PW from {dotenv})"
    )
    assert rows[f"{main}.pool.max"] == KeyOrigin(f"{main}.pool.max", 3, f"{file}:5")
    assert rows[f"{main}.pool.min"] == KeyOrigin(f"{main}.pool.min", 0, "default")
    assert rows[f"{main}.connect_timeout"] == KeyOrigin(f"{main}.connect_timeout", 2.0, "default")
    assert rows["retry.attempts"] == KeyOrigin("retry.attempts", 4, f"{katax}:2")
    assert rows["retry.total"] == KeyOrigin("retry.total", 5.0, f"{file}:7")
    assert rows["retry.initial"] == KeyOrigin("retry.initial", 1.0, "default")
    assert rows["state.url"] == KeyOrigin("state.url", f"sqlite:{project.folder}/.katax/state.db", "default")
    assert rows["logging.queries"] == KeyOrigin("logging.queries", "all", "default")


def test_each_key_is_listed_once(project: Project) -> None:
    project.write(
        "profiles/dev.toml",
        'role = "dev"\n[connections.main]\nurl = "embedded"\nread_only = true\n[state]\nurl = "sqlite:s.db"\n'
        "[ws.chat]\nport = 1\n[cron]\nhistory = 5\n",
    )
    keys = [row.key for row in origins(project.load(), environ=project.environ)]
    assert len(keys) == len(set(keys))
    assert "ws.chat.path" in keys


def test_what_is_built_in(project: Project) -> None:
    rows = {row.key: row for row in origins(project.load("local"), environ=project.environ)}
    assert rows["connections.cache.url"] == KeyOrigin("connections.cache.url", "embedded", "built in")
    profile = project.load("env", REDIS_URL=f"redis://:{SECRET}@h/0")
    rows = {row.key: row for row in origins(profile, environ={"REDIS_URL": "x"})}
    assert rows["connections.cache.url"].value == "${env:REDIS_URL}"
    assert rows["connections.cache.url"].origin == "built in (REDIS_URL from environment)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (SECRET, "***"),
        ("${env:X}", "${env:X}"),
        ("${env:X}more", "***"),
        ("a${env:X}", "***"),
        ("${env:X}}", "***"),
    ],
)
def test_a_password_is_shown_only_as_a_reference(text: str, shown: str) -> None:
    assert masked("password", CONNECTION["password"], text) == shown


def test_tokens_are_shown_only_as_references() -> None:
    token = Key("secret", "")
    shown = [masked("auth_token", token, text) for text in ("env:X", "file:x", SECRET)]
    assert shown == ["env:X", "file:x", "***"]


def test_no_secret_is_shown(project: Project) -> None:
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
type = "mysql"
password = "{SECRET}"
[state]
url = "mysql://app:{SECRET}@state/x"
[ws.chat]
auth_token = "{SECRET}"
admin_token = "{SECRET}"
[cron.jobs.a]
schedule = "@daily"
command = "true"
ping_url = "https://user:{SECRET}@hc.example"
""",
    )
    assert SECRET not in str(origins(project.load(), environ=project.environ))
