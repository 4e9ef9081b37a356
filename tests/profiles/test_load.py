"""Merging, validation, and what the tables become. Every message names file, line and key."""

# Tables of one case a line are read across.
# ruff: noqa: E501

from __future__ import annotations

import subprocess
import sys

import pytest

from katax_cli.errors import ConfigError, UnknownConnection
from katax_cli.profiles.model.model import (
    BackupSettings,
    BreakerSettings,
    CronSettings,
    HealthSettings,
    LoggingSettings,
    MigrateSettings,
    RetrySettings,
    SeedSettings,
    ShutdownSettings,
    WsSettings,
)
from tests.profiles.conftest import MAIN, Project


def test_the_defaults(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN.replace('"dev"', '"stage"'))
    profile = project.load()
    folder = str(project.folder)
    assert profile.retry == RetrySettings(attempts=3, initial=1.0, max=10.0, multiplier=2.0, total=45.0)
    assert profile.breaker == BreakerSettings(
        window=10.0, rate=0.5, min_calls=10, probe=0.5, probe_max=5.0, half_open_calls=1, half_open_max=30.0
    )
    assert profile.health == HealthSettings(degraded_ms=100, unhealthy_ms=500, interval=30.0)
    assert profile.logging == LoggingSettings("info", "console", "slow", 100.0, "redacted")
    assert profile.shutdown == ShutdownSettings(30.0)
    assert profile.migrate == MigrateSettings("main", f"{folder}/migrations", "katax_migrations", 15.0)
    assert profile.seed == SeedSettings(f"{folder}/seeds")
    assert profile.backup == BackupSettings(f"{folder}/backups")
    assert (profile.state.connection.type, profile.state.connection.path, profile.state.name) == (
        "sqlite",
        f"{folder}/.katax/state.db",
        None,
    )
    assert profile.cron == CronSettings(
        timezone=None, history=30 * 86400.0, allow_dynamic_commands=False, jobs={}
    )
    assert (profile.ws, profile.connection_retry, profile.connection_breaker) == ({}, {}, {})
    assert (profile.retry_set, profile.explicit, profile.notes) == (False, False, ())


def test_dev_logs_all_statements_unless_told(project: Project) -> None:
    assert project.connection('url = "embedded"').logging.queries == "all"
    project.write("katax.toml", '[logging]\nqueries = "off"\n')
    assert project.load().logging.queries == "off"


def test_every_table(project: Project) -> None:
    project.write(
        "profiles/dev.toml",
        MAIN
        + """
[connections.cache]
url = "embedded"
retry = { attempts = 7 }
breaker = { failures = 2, reset = "1m" }
[retry]
attempts = 2
initial = "100ms"
[breaker]
window = 10.0
rate = 0.5
min_calls = 4
[health]
degraded_ms = 50
interval = "5s"
[logging]
level = "debug"
query_params = "plain"
[shutdown]
timeout = "1m"
[migrate]
connection = "main"
directory = "db/up"
[seed]
directory = "/seeds"
[state]
url = "postgresql://state/x"
[cron]
timezone = "Europe/Madrid"
history = "90d"
allow_dynamic_commands = true
[ws.chat]
port = 4000
redis = "cache"
cors = ["https://example.com"]
""",
    )
    profile = project.load()
    assert profile.retry == RetrySettings(attempts=2, initial=0.1)
    assert profile.retry_set
    assert profile.connection_retry == {"cache": RetrySettings(attempts=7, initial=0.1)}
    assert profile.breaker == BreakerSettings(window=10.0, rate=0.5, min_calls=4)
    assert profile.connection_breaker["cache"] == BreakerSettings(
        failures=2, reset=60.0, window=10.0, rate=0.5, min_calls=4
    )
    assert profile.health == HealthSettings(degraded_ms=50, interval=5.0)
    assert profile.logging == LoggingSettings(level="debug", queries="all", query_params="plain")
    assert profile.shutdown.timeout == 60.0
    assert profile.migrate.directory == str(project.folder / "db" / "up")
    assert profile.seed.directory == "/seeds"
    assert profile.state.connection.host == "state"
    assert profile.cron == CronSettings("Europe/Madrid", 90 * 86400.0, allow_dynamic_commands=True)
    assert profile.ws == {
        "chat": WsSettings("chat", port=4000, redis="cache", cors=("https://example.com",)),
    }


def test_overrides_hold_for_the_other_addresses_too(project: Project) -> None:
    profile = project.connection(
        'url = "postgresql://db/x"\npooler = "transaction"\nretry = { attempts = 7 }\n'
        'direct_url = "postgresql://direct"\nreplicas = ["postgresql://replica"]'
    )
    assert profile.connection_retry == dict.fromkeys(
        ("main", "main/direct", "main/replica-1"), RetrySettings(attempts=7)
    )
    assert profile.connection_retry_set == {"main", "main/direct", "main/replica-1"}


def test_a_connections_retry_without_attempts_sets_none(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN + "[connections.main.retry]\ntotal = 10\n")
    profile = project.load()
    assert (profile.connection_retry["main"].total, profile.connection_retry_set) == (10.0, frozenset())


def test_retry_without_attempts_is_not_set(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN + "[retry]\ntotal = 10\n")
    profile = project.load()
    assert (profile.retry.total, profile.retry_set) == (10.0, False)


def test_jobs_keep_what_was_written(project: Project) -> None:
    project.write(
        "profiles/dev.toml",
        MAIN
        + """
[cron.jobs.a]
schedule = "0 0 * * *"
command = ["python", "-m", "app"]
enabled = "${env:APP_ENV} == production"
timeout = "5m"
[cron.jobs.b]
schedule = "@daily"
sql = "delete from old"
connection = "main"
enabled = false
ping_url = "https://hc.example/${env:HC}"
""",
    )
    assert project.load(HC="x", APP_ENV="never looked at").cron.jobs == {
        "a": {
            "schedule": "0 0 * * *",
            "command": ("python", "-m", "app"),
            "enabled": "${env:APP_ENV} == production",
            "timeout": 300.0,
        },
        "b": {
            "schedule": "@daily",
            "sql": "delete from old",
            "connection": "main",
            "enabled": False,
            "ping_url": "https://hc.example/x",
        },
    }


def test_shared_tables_lie_below_the_profile_key_by_key(project: Project) -> None:
    project.write(
        "katax.toml",
        """
[retry]
attempts = 9
total = 99.0
[ws.chat]
port = 4000
cors = ["a", "b"]
[connections.main]
url = "postgresql://shared/x"
connect_timeout = 9.0
[connections.extra]
url = "embedded"
""",
    )
    project.write(
        "profiles/dev.toml",
        'role = "dev"\nretry.total = 5\nws.chat.cors = ["c"]\n[connections.main]\nurl = "postgresql://own/x"\n',
    )
    profile = project.load()
    assert (profile.retry.attempts, profile.retry.total) == (9, 5.0)
    assert profile.ws["chat"] == WsSettings("chat", port=4000, cors=("c",))
    assert list(profile.connections) == ["main", "extra"]
    main = profile.connections["main"]
    assert (main.host, main.connect_timeout) == ("own", 2.0)


def test_a_users_profile_takes_the_katax_toml_beside_it_then_the_projects(project: Project) -> None:
    project.write_user("katax.toml", '[retry]\nattempts = 4\n[profiles.mine]\nrole = "prod"\n')
    project.write("katax.toml", "[retry]\nattempts = 5\ntotal = 50.0\n")
    profile = project.load("mine")
    assert (profile.retry.attempts, profile.retry.total) == (4, 50.0)
    assert profile.folder == str(project.folder)
    assert project.load("local").retry.attempts == 5


@pytest.mark.parametrize(
    ("state", "name", "kind"),
    [('"main"', "main", "sqlite"), ('"sqlite:s.db"', None, "sqlite"), ('"mysql://m/x"', None, "mysql")],
)
def test_where_state_is_kept(project: Project, state: str, name: str | None, kind: str) -> None:
    project.write("profiles/dev.toml", MAIN + f"[state]\nurl = {state}\n")
    profile = project.load()
    assert (profile.state.name, profile.state.connection.type) == (name, kind)


def test_the_state_of_a_frozen_profile_can_be_written(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN.replace('"dev"', '"frozen"') + '[state]\nurl = "mysql://m/x"\n')
    assert not project.load().state.connection.read_only


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[connections]\n", 1, "the profile has no role; set it to dev, stage, prod or frozen"),
        ('role = "production"\nconnections = {}\n', 1, "role is 'production', expected dev, stage, prod or frozen"),
        ("role = 1\nconnections = {}\n", 1, "role is a whole number, expected dev, stage, prod or frozen"),
        (MAIN + "prefx = 1\n", 4, "unknown key 'prefx' in [connections.main]; did you mean 'prefix'?"),
        (MAIN + "[conections.x]\n", 4, "unknown key 'conections'; did you mean 'connections'?"),
        (MAIN + "\n\nstatment_timeout = 3\n", 6, "unknown key 'statment_timeout' in [connections.main]; did you mean 'statement_timeout'?"),
        (MAIN + "pool = { min = 0, maximum = 3 }\n", 4, "unknown key 'maximum' in [connections.main.pool]; did you mean 'max'?"),
        (MAIN + "[seed]\nzzz = 1\n", 5, "unknown key 'zzz' in [seed]; known keys: directory"),
        (MAIN + 'port = "abc"\n', 4, "connections.main.port is 'abc', expected a whole number"),
        (MAIN + "read_only = 1\n", 4, "connections.main.read_only is a whole number, expected true or false"),
        (MAIN + "pool = 5\n", 4, "connections.main.pool is a whole number, expected a table"),
        (MAIN + "replicas = ['a', 1]\n", 4, "connections.main.replicas is a list, expected a list of strings"),
        (MAIN.replace("sqlite:", "mysql:") + "tls = {}\n", 4, "[connections.main.tls] has no mode; set it to disable, require, verify-ca or verify-full"),
        (MAIN + "connect_timeout = 0\n", 4, "connections.main.connect_timeout is 0, expected more than 0 seconds"),
        (MAIN + 'connect_timeout = "1 year"\n', 4, "connections.main.connect_timeout is '1 year', expected seconds or a duration such as 250ms, 30s, 5m, 2h, 7d"),
        (MAIN + "password = 1979-05-27\n", 4, "connections.main.password is a date or time, expected a string"),
        (MAIN + 'password_command = ""\n', 4, "connections.main.password_command is a string, expected a command as a string or a list of words"),
        ('role = "dev"\nconnections = 3\n', 2, "connections is a whole number, expected a table"),
        ('role = "dev"\n[connections]\nmain = "postgresql://db"\n', 3, "connections.main is a string, expected a table"),
        (MAIN + "[retry]\nattempts = 0\n", 4, "[retry]: retry attempts is 0, expected at least 1"),
        (MAIN + "[breaker]\nslow_ms = 3\n", 4, "[breaker]: breaker slow_rate is not set; slow_rate and slow_ms go together"),
        (MAIN + "[breaker]\nwindow = 3\nfailures = 5\n", 4, "[breaker]: failures and window exclude each other; keep one"),
        (MAIN + "breaker = { reset = 3, probe = 1 }\n", 4, "[connections.main.breaker]: reset and probe exclude each other; keep one"),
        (MAIN + "retry = { attempts = 0 }\n", 4, "[connections.main.retry]: retry attempts is 0, expected at least 1"),
        (MAIN + "[health]\nunhealthy_ms = 5\n", 4, "[health]: health degraded_ms is 100, expected more than 0 and at most unhealthy_ms (5)"),
        (MAIN.replace("dev", "prod") + '[logging]\nquery_params = "plain"\n', 5, "logging.query_params is 'plain' in the role prod, expected 'redacted'; only dev may log parameters"),
        (MAIN + '[migrate]\nconnection = "man"\n', 5, "migrate.connection names no connection; connections: main"),
        (MAIN + '[state]\nurl = "other"\n', 5, "state.url names no connection; connections: main"),
        (MAIN + '[state]\nurl = "redis://x"\n', 5, "state.url is a redis connection, expected a SQL database to write to"),
        (MAIN.replace("dev", "frozen") + '[state]\nurl = "main"\n', 5, "state.url is read-only, expected a SQL database to write to"),
        (MAIN + '[ws.chat]\nredis = "x"\n', 5, "ws.chat.redis names no connection; connections: main"),
        (MAIN + "[ws.chat]\nport = 70000\n", 5, "ws.chat.port is 70000, expected 0 to 65535"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_file_and_line(
    project: Project, text: str, line: int, message: str
) -> None:
    file = project.write("profiles/dev.toml", text)
    with pytest.raises(ConfigError) as error:
        project.load("dev")
    assert str(error.value) == f"{file}:{line}: {message}"


def test_a_wrong_job_is_left_out_and_said_with_file_and_line(project: Project) -> None:
    for text, line, message in (
        (MAIN + '[cron.jobs.a]\nschedule = "@daily"\n', 4, "job 'a' has nothing to run, expected one of command, sql, python, katax"),
        (MAIN + '[cron.jobs.a]\nschedule = "@daily"\nsql = "x"\ncommand = "y"\n', 4, "job 'a' has command and sql, expected one of command, sql, python, katax"),
        (MAIN + '[cron.jobs.a]\ncommand = "y"\n', 4, "[cron.jobs.a] has no schedule"),
        (MAIN + '[cron.jobs.a]\nschedule = "@daily"\nsql = "x"\nconnection = "b"\n', 7, "cron.jobs.a.connection names no connection; connections: main"),
        (MAIN + '[cron.jobs.a]\nschedule = "@daily"\nsql = "x"\nenabled = 1\n', 7, "cron.jobs.a.enabled is a whole number, expected true, false or an expression such as '${env:APP_ENV} == production'"),
    ):  # fmt: skip
        file = project.write("profiles/dev.toml", text)
        cron = project.load("dev").cron
        assert (cron.jobs, cron.wrong) == ({}, {"a": f"{file}:{line}: {message}"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defalt_profile = 'x'\n", "unknown key 'defalt_profile'; did you mean 'default_profile'?"),
        ("role = 'dev'\n", "role at the top of katax.toml; write it into each profile"),
        ("default_profile = 1\n", "default_profile is not a string"),
        ("zzz = 1\n", "unknown key 'zzz'; known keys: default_profile, profiles, connections, retry, breaker, "
         "health, logging, shutdown, migrate, seed, backup, journal, state, cron, ws"),
        ("[retry]\nattemps = 3\n", "unknown key 'attemps' in [retry]; did you mean 'attempts'?"),
    ],
)  # fmt: skip
def test_a_mistake_in_katax_toml_is_found_there(project: Project, text: str, message: str) -> None:
    project.write("profiles/dev.toml", MAIN)
    file = project.write("katax.toml", text)
    with pytest.raises(ConfigError) as error:
        project.load()
    assert str(error.value) == f"{file}:{text.count(chr(10))}: {message}"


def test_a_mistake_in_a_profile_table_has_its_line_there(project: Project) -> None:
    file = project.write(
        "katax.toml", '[profiles.dev]\nrole = "dev"\n[profiles.dev.connections.main]\nurll = "x"\n'
    )
    with pytest.raises(ConfigError) as error:
        project.load()
    assert str(error.value).startswith(
        f"{file}:4: unknown key 'urll' in [connections.main]; did you mean 'url'?"
    )


def test_further_problems_are_counted(project: Project) -> None:
    file = project.write("profiles/dev.toml", MAIN + "a = 1\nb = 2\n")
    with pytest.raises(ConfigError) as error:
        project.load()
    assert str(error.value).startswith(f"{file}:4: unknown key 'a'")
    assert str(error.value).endswith(" (1 more: katax profile check)")


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (MAIN + "x = = 3\n", "4:5", "invalid value"),
        (MAIN + '[connections.main]\nx = 1\n', "4:18", "cannot declare ('connections', 'main') twice"),
        (MAIN + 'x = """\nconnections', "5", "unterminated string"),
    ],
)  # fmt: skip
def test_broken_toml(project: Project, text: str, where: str, what: str) -> None:
    file = project.write("profiles/dev.toml", text)
    with pytest.raises(ConfigError) as error:
        project.load("dev")
    assert str(error.value) == f"{file}:{where}: not valid TOML: {what}"


def test_a_byte_order_mark_is_no_text(project: Project) -> None:
    """Editors of Windows begin files with one."""
    project.write("profiles/dev.toml", "\ufeff" + MAIN)

    assert project.load("dev").role == "dev"


def test_a_file_that_is_not_utf_8(project: Project) -> None:
    file = project.write("profiles/dev.toml", MAIN)
    with open(file, "ab") as raw:
        raw.write(b"# \xff")
    with pytest.raises(ConfigError) as error:
        project.load("dev")
    assert str(error.value) == f"{file} is not UTF-8: byte {len(MAIN) + 2} cannot be decoded"


def test_windows_line_ends(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN.replace("\n", "\r\n"))
    assert project.load().name == "dev"


def test_connections_by_name_glob_and_default(project: Project) -> None:
    project.write(
        "profiles/dev.toml",
        'role = "dev"\n'
        + "".join(f'[connections.{name}]\nurl = "{url}"\n' for name, url in {
            "shard1": "postgresql://a", "shard2": "mysql://b", "kv": "embedded", "docs": "mongodb://c",
        }.items()),
    )  # fmt: skip
    profile = project.load()
    assert profile.connection("kv").embedded
    assert [each.name for each in profile.match("shard*")] == ["shard1", "shard2"]
    assert [each.name for each in profile.match("kv")] == ["kv"]
    for missing in (profile.connection, profile.match):
        with pytest.raises(UnknownConnection) as unknown:
            missing("shrad1")
        assert str(unknown.value) == (
            "no connection named 'shrad1'; did you mean 'shard1'? "
            "known connections of profile 'dev': shard1, shard2, kv, docs"
        )
    assert profile.default_connection(("redis",), "cache").name == "kv"
    assert profile.default_connection(("redis",), "shard1").name == "shard1"
    with pytest.raises(ConfigError) as several:
        profile.default_connection(("postgresql", "mysql", "sqlite"), "main")
    assert str(several.value) == (
        "profile 'dev' has no connection 'main' and several of type postgresql or mysql or sqlite; "
        "choose with -c: shard1, shard2"
    )
    with pytest.raises(ConfigError) as none:
        profile.default_connection(("sqlite",), "main")
    assert str(none.value) == (
        "profile 'dev' has no connection of type sqlite; "
        "connections: shard1 (postgresql), shard2 (mysql), kv (redis), docs (mongodb)"
    )


def test_loading_imports_no_driver_and_nothing_slow(project: Project) -> None:
    project.write("profiles/dev.toml", MAIN)
    code = (
        "import sys\nfrom katax_cli.profiles.load import load_profile\nload_profile()\n"
        "slow = {'dotenv', 'subprocess', 'pathlib', 'hashlib', 'json', 'difflib', 'psycopg', 'redis', 'pymongo',"
        " 'pymysql', 'sqlite3', 'keyring', 'logging', 'typer', 'rich', 'asyncio', 'socket'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.folder,
        env=_clean(project),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def _clean(project: Project) -> dict[str, str]:
    import katax_cli

    package = katax_cli.__file__ or ""
    return {**project.environ, "PYTHONPATH": package.removesuffix("/katax_cli/__init__.py")}
