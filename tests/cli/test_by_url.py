"""`-c URL` and `-c env:NAME` on real servers, in a folder without any profile."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.harness import Done, katax, write_profile

FORMS = {
    "postgresql_url": ("postgresql", "postgres", "postgresql+asyncpg"),
    "mysql_url": ("mysql", "mariadb", "mysql+pymysql"),
    "sqlite_url": ("sqlite", "sqlite+aiosqlite"),
}


@pytest.fixture
def urls(request: pytest.FixtureRequest) -> dict[str, str]:
    names = (*FORMS, "mongodb_url", "redis_url")
    return {name: request.getfixturevalue(name) for name in names}


def without_secret(done: Done, url: str) -> Done:
    password = urlsplit(url).password
    assert password is None or password not in done.out + done.err
    return done


def test_every_kind_of_url_is_a_connection(urls: dict[str, str], tmp_path: Path) -> None:
    for fixture, schemes in FORMS.items():
        _, _, rest = urls[fixture].partition(":")
        for scheme in schemes:
            url = f"{scheme}:{rest}?pool_timeout=3"
            done = without_secret(katax("db", "query", "select 41 + 1 as n", "-c", url, "-f", "tsv"), url)
            assert (done.code, done.out) == (0, "n\n42\n")
            assert done.err.endswith("has pool_timeout, which katax does not read\n")
    for words in (("db", "ping"), ("health", "--fail-on", "unhealthy"), ("-c", "main", "db", "metrics")):
        for url in urls.values():
            assert without_secret(katax(*words, "-c", url, "-f", "json"), url).code == 0
    assert katax("cache", "set", "k", "v", "-c", urls["redis_url"]).code == 0
    assert katax("cache", "get", "k", "-c", urls["redis_url"], "-f", "json").json == "v"
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith("prof")) == []


def test_a_url_is_production_unless_something_said_otherwise(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = urlsplit(postgresql_url)
    name = f"{server.hostname}:{server.port}{server.path}"
    katax("db", "exec", "create table a (n int); insert into a values (1)", "-c", postgresql_url, "-y")
    for words in (("-c", postgresql_url), ("-c", postgresql_url, "-y")):
        done = katax("db", "truncate", "a", *words)
        assert done.code == 4
        assert done.err.endswith(
            f"katax: refused: '{name}' is a prod connection; repeat with --confirm env/{name}, or set "
            "KATAX_ROLE=dev when it is no production\n"
        )
    assert katax("db", "truncate", "a", "-c", postgresql_url, "--confirm", f"env/{name}").code == 0
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    assert katax("db", "truncate", "a", "-c", postgresql_url, "-y").code == 4
    assert katax("-p", "test", "db", "truncate", "a", "-c", postgresql_url, "-y").code == 0
    monkeypatch.setenv("KATAX_ROLE", "dev")
    monkeypatch.setenv("SOME_URL", postgresql_url)
    assert katax("db", "truncate", "a", "-c", "env:SOME_URL", "-y").code == 0


def test_migrations_run_on_a_url_from_the_projects_folder(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations/001_a.sql").write_text("-- UP\ncreate table a (n int);\n-- DOWN\ndrop table a;\n")
    assert katax("migrate", "up", "-c", sqlite_url, "-y").code == 0
    assert [row["state"] for row in katax("migrate", "status", "-c", sqlite_url, "-f", "json").json] == [
        "applied"
    ]


def test_a_mistyped_url_is_never_quoted_and_a_job_takes_none(tmp_path: Path) -> None:
    secret = "hunter2-is-a-secret"
    for url in (f"postgre://app:{secret}@db/x", f"app:{secret}@db/x", f"postgresql://app:{secret}"):
        for words in (("db", "ping", "-c", url), ("migrate", "status", "-c", url), ("health", "-c", url)):
            done = katax(*words)
            assert (done.code, secret in done.out + done.err) == (2, False)
    done = katax(
        "cron",
        "add",
        "a",
        "@daily",
        "--sql",
        "select 1",
        "-c",
        f"postgresql://app:{secret}@db/x",
        "-p",
        "local",
    )
    assert (done.code, done.out) == (2, "")
    assert "a job names a connection of its profile" in done.err


def test_what_is_set_and_not_used_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"}, name="dev")
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:hunter2@db/x")
    note = "DATABASE_URL is set; profile 'dev' is used\n"
    assert katax("health", "--fail-on", "unhealthy").err == note
    assert katax("profile", "list").err == note
    assert katax("profile", "list", "-f", "json").err == ""
    assert katax("db", "ping").err == ""
