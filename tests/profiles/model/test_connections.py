"""A connection's keys, what they exclude, and what replicas and direct_url inherit."""

from __future__ import annotations

import pytest

from katax_cli.core.settings import ConnectionSettings, PoolSettings, TlsSettings
from katax_cli.errors import ConfigError
from tests.profiles.conftest import Project


def test_single_keys_instead_of_a_url(project: Project) -> None:
    profile = project.connection(
        'type = "postgresql"\nhost = "db"\nport = 5433\nuser = "app"\ndatabase = "shop"\npassword = "pw"'
    )
    main = profile.connections["main"]
    assert main == ConnectionSettings(
        name="main",
        type="postgresql",
        host="db",
        port=5433,
        nodes=(("db", 5433),),
        user="app",
        database="shop",
    )
    assert main.password is not None
    assert main.password.reveal() == "pw"


@pytest.mark.parametrize(
    ("toml", "host", "port", "socket", "path"),
    [
        ('type = "redis"', "localhost", 6379, None, None),
        ('type = "mongodb"\nport = 1', "localhost", 1, None, None),
        ('type = "postgresql"\nsocket = "/run/postgresql"', None, 5432, "/run/postgresql", None),
        ('type = "mysql"\nsocket = "my.sock"', None, None, "{folder}/my.sock", None),
        ('type = "sqlite"\ndatabase = "app.db"', None, None, None, "{folder}/app.db"),
        ('type = "sqlite"\ndatabase = ":memory:"', None, None, None, ":memory:"),
    ],
)
def test_where_single_keys_lead(
    project: Project, toml: str, host: str | None, port: int | None, socket: str | None, path: str | None
) -> None:
    main = project.connection(toml).connections["main"]
    expected = [text and text.replace("{folder}", str(project.folder)) for text in (socket, path)]
    assert [main.host, main.port, main.socket, main.path] == [host, port, *expected]


def test_every_other_key(project: Project) -> None:
    main = project.connection(
        'url = "postgresql://db/x"\nconnect_timeout = "250ms"\nstatement_timeout = "5m"\nread_only = true\n'
        'pooler = "transaction"\npool = { min = 1, max = 2, timeout = 1, idle_timeout = "1m", max_lifetime = "1h" }\n'
        'tls = { mode = "verify-full", ca = "certs/ca.pem", cert = "/c.pem", key = "k.pem" }'
    ).connections["main"]
    assert (main.connect_timeout, main.statement_timeout, main.read_only) == (0.25, 300.0, True)
    assert main.pooler == "transaction"
    assert main.pool == PoolSettings(min=1, max=2, timeout=1.0, idle_timeout=60.0, max_lifetime=3600.0)
    folder = project.folder
    assert main.tls == TlsSettings("verify-full", f"{folder}/certs/ca.pem", "/c.pem", f"{folder}/k.pem")


def test_a_tls_table_beats_the_url(project: Project) -> None:
    main = project.connection('url = "postgresql://db/x?sslmode=disable"\ntls = { mode = "require" }')
    assert main.connections["main"].tls == TlsSettings("require")


@pytest.mark.parametrize(("role", "read_only"), [("frozen", True), ("prod", False)])
def test_frozen_makes_every_connection_read_only(project: Project, role: str, read_only: bool) -> None:
    profile = project.connection(
        'url = "postgresql://db/x"\npooler = "transaction"\ndirect_url = "postgresql://direct/x"', role=role
    )
    main = profile.connections["main"]
    assert main.direct is not None
    assert (main.read_only, main.direct.read_only) == (read_only, read_only)


def test_what_direct_and_replicas_inherit(project: Project) -> None:
    main = project.connection(
        'url = "postgresql://app:pw@pooler:6432/x"\npooler = "transaction"\nconnect_timeout = 9\n'
        'tls = { mode = "require" }\n'
        'direct_url = "postgresql://app@server:5432"\n'
        'replicas = ["postgresql://replica", "postgresql://reader@r2/y?sslmode=disable"]'
    ).connections["main"]
    direct = main.direct
    assert direct is not None
    assert (direct.name, direct.host, direct.port, direct.database, direct.pooler) == (
        "main/direct",
        "server",
        5432,
        "x",
        None,
    )
    assert direct.nodes == (("server", 5432),)
    assert direct.connect_timeout == 9
    assert direct.password is main.password
    first, second = main.replicas
    assert (first.name, first.user, first.password, first.read_only) == (
        "main/replica-1",
        "app",
        main.password,
        True,
    )
    assert first.tls == TlsSettings("require")
    # A password is sent to its own user only.
    assert (second.user, second.password, second.database) == ("reader", None, "y")
    assert second.tls == TlsSettings("disable")


@pytest.mark.parametrize(
    ("toml", "key", "message"),
    [
        ('url = "postgresql://db"\nhost = "x"', "", "has both url and host; keep one"),
        ('type = "mysql"\nurl = "postgresql://db"', ".type", "is 'mysql', but the url is one of postgresql"),
        ('host = "db"', "", "has neither url nor type; write one of them"),
        (
            'type = "sqlite"',
            "",
            "has no database; write url = 'sqlite:///file.db' or database = 'file.db'",
        ),
        ('type = "mysql"\nport = 0', ".port", "is 0, expected 1 to 65535"),
        ('type = "mysql"\nport = 65536', ".port", "is 65536, expected 1 to 65535"),
        ('type = "mysql"\nsocket = "/s"\nhost = "h"', "", "has both socket and host; keep one"),
        (
            'type = "redis"\ndatabase = "x"',
            ".database",
            "is not a number, which is what Redis databases are called",
        ),
        (
            'url = "postgresql://a:b@db"\npassword = "c"',
            "",
            "has a password in its url and another one; keep one",
        ),
        (
            'url = "postgresql://db"\npassword = "c"\npassword_file = "f"',
            "",
            "has both password and password_file; keep one",
        ),
        ('url = "postgresql://db"\nprefix = "x:"', ".prefix", "means nothing to postgresql; it is for redis"),
        (
            'url = "redis://db"\npooler = "transaction"',
            ".pooler",
            "means nothing to redis; it is for postgresql, mysql",
        ),
        (
            'url = "sqlite:x.db"\ntls = { mode = "require" }',
            ".tls",
            "means nothing to sqlite; it is for postgresql, mysql, mongodb, redis",
        ),
        (
            'url = "postgresql://db"\nreplicas = ["mysql://db"]',
            ".replicas",
            "is a url of mysql, but the connection is one of postgresql",
        ),
        (
            'url = "postgresql://db"\npool = { max = 0 }',
            ".pool",
            "max is 0, expected at least 1",
        ),
        (
            'url = "postgresql://db"\ndirect_url = "db:5432"',
            ".direct_url",
            "is no URL",
        ),
    ],
)
def test_contradictions(project: Project, toml: str, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        project.connection(toml)
    file = project.folder / "profiles" / "dev.toml"
    where, _, said = str(error.value).partition(": ")
    assert where.rpartition(":")[0] == str(file)
    assert said.startswith(f"connections.main{key} {message}")


def test_ssh_leads_to_one_server(project: Project) -> None:
    made = project.connection('url = "postgresql://app@db/x"\nssh = "user@jump"').connections["main"]
    assert (made.ssh, made.address) == ("user@jump", "db:5432")
    for toml, reason in {
        'url = "sqlite:///x.db"\nssh = "jump"': "leads to one server",
        'url = "embedded"\nssh = "jump"': "leads to one server",
        'url = "postgresql://a,b/x"\nssh = "jump"': "leads to one server",
        'url = "mongodb+srv://a/x"\nssh = "jump"': "leads to one server",
        'url = "redis://a"\nssh = "-oProxyCommand=touch pwned"': "is no destination",
        'url = "redis://a"\nssh = "jump touch"': "is no destination",
        'url = "redis://a"\nssh = ""': "is no destination",
    }.items():
        with pytest.raises(ConfigError) as error:
            project.connection(toml)
        assert f"connections.main.ssh {reason}" in str(error.value)
