"""The servers' own clients: the right server, no secret among the arguments, and no way around read-only."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from katax_cli.errors import ConfigError, Refused
from katax_cli.profiles.load import load_profile
from katax_cli.services.dialogue.native import NativeClient, native_client
from tests.cli.harness import write_profile

SECRET = "hush'\"\\ #word"
URLS = {
    "postgresql": "postgresql://app:{}@db.example:5433/shop?sslmode=require&options=-c%20a%3Db",
    "mysql": "mysql://app:{}@db.example:3307/shop",
    "mongodb": "mongodb://app:{}@db.example:27018/shop?authSource=admin",
    "redis": "rediss://app:{}@db.example:6380/3",
}
PROGRAMS = {
    "postgresql": "psql",
    "mysql": "mariadb",
    "mongodb": "mongosh",
    "redis": "redis-cli",
    "sqlite": "sqlite3",
}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which every client stands; none of them is run."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS.values():
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def client(engine: str, folder: Path, **more: Any) -> NativeClient:
    url = URLS[engine].format(quote(SECRET, safe="")) if engine in URLS else f"sqlite:///{folder}/a.db"
    write_profile(folder, {"main": url}, **more)
    return native_client(load_profile(None).connection("main"))


@pytest.mark.usefixtures("programs")
def test_no_secret_stands_among_the_arguments(tmp_path: Path) -> None:
    for engine, program in PROGRAMS.items():
        found = client(engine, tmp_path)

        assert found.program == program
        assert [word for word in found.arguments if "hush" in word] == []
        assert "hush" not in repr(found)
    postgresql = client("postgresql", tmp_path).environment
    assert (postgresql["PGPASSWORD"], postgresql["PGHOST"], postgresql["PGPORT"]) == (
        SECRET,
        "db.example",
        "5433",
    )
    assert (postgresql["PGSSLMODE"], postgresql["PGOPTIONS"]) == ("require", "-c a=b")
    redis = client("redis", tmp_path)
    assert redis.environment == {"REDISCLI_AUTH": SECRET}
    assert list(redis.arguments)[:6] == ["-h", "db.example", "-p", "6380", "-n", "3"]
    assert "--tls" in redis.arguments
    mongodb = client("mongodb", tmp_path)
    assert "authSource=admin" in mongodb.environment["KATAX_MONGOSH_URL"]


@pytest.mark.usefixtures("programs")
def test_a_read_only_connection_is_not_handed_to_a_client_that_may_write(tmp_path: Path) -> None:
    for engine in URLS:
        with pytest.raises(Refused, match="read-only"):
            client(engine, tmp_path, role="frozen")
    (tmp_path / "a.db").touch()

    assert list(client("sqlite", tmp_path, role="frozen").arguments)[:2] == ["-readonly", "-safe"]


def test_a_client_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigError, match="mariadb or mysql is not on PATH"):
        client("mysql", tmp_path)


@pytest.mark.usefixtures("programs")
def test_what_the_client_could_not_reach_is_said(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "postgresql://a@b/c"})
    file = tmp_path / "profiles" / "test.toml"
    file.write_text(file.read_text() + 'ssh = "jump"\n')
    with pytest.raises(ConfigError, match="goes through ssh"):
        native_client(load_profile(None).connection("main"))
    write_profile(tmp_path, {"main": "sentinel://one:26379/primary"})
    with pytest.raises(ConfigError, match="Sentinel"):
        native_client(load_profile(None).connection("main"))
