"""Connections through a real OpenSSH server: all engines, what fails, and that no ssh is left behind."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from katax_cli import Katax
from katax_cli.errors import Unavailable
from tests.cli.harness import katax, write_profile
from tests.cli.processes import spawn
from tests.servers import Server
from tests.servers.certificates import make_certificates
from tests.servers.rooms import Room
from tests.servers.ssh import Jump, ssh_server
from tests.waiting import until

URLS = ("postgresql_url", "mysql_url", "mongodb_url", "redis_url")


@pytest.fixture
def room() -> Iterator[Room]:
    made = Room()
    yield made
    made.close()


@pytest.fixture
def urls(request: pytest.FixtureRequest) -> dict[str, str]:
    """A database of each engine that has servers."""
    return {name.removesuffix("_url"): request.getfixturevalue(name) for name in URLS}


@pytest.fixture
def jump(room: Room, urls: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jump]:
    # The servers started before: their folders are where others reach them.
    keys = tmp_path / "keys"
    keys.mkdir()
    # Sockets have short names.
    monkeypatch.setattr(tempfile, "tempdir", str(room.folder("tmp")))
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    with ssh_server(room.folder("sshd"), keys) as served:
        monkeypatch.setenv("PATH", f"{served.path}:{os.environ['PATH']}")
        yield served


def write(folder: Path, urls: dict[str, str], destination: str = "jump") -> None:
    """A profile whose connections all go through `destination`."""
    file = write_profile(folder, urls)
    lines = file.read_text().splitlines()
    file.write_text(
        "".join(f"{line}\n" + f'ssh = "{destination}"\n' * line.startswith("url") for line in lines)
    )


def ssh_processes() -> list[str]:
    """The command lines of ssh that forward into a folder of this test."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if tempfile.gettempdir().encode() in words and b"-N" in words:
            found.append(words.decode())
    return found


def left() -> list[str]:
    return [
        *ssh_processes(),
        *(name for name in os.listdir(tempfile.gettempdir()) if name.startswith("katax-ssh")),
    ]


def test_every_server_is_reached_and_nothing_is_left(
    jump: Jump, urls: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path, urls)
    for name in urls:
        done = katax("db", "ping", "-c", name, "-f", "json")
        assert (done.code, done.err) == (0, ""), done.err
        assert done.json[0]["address"].endswith(" through jump")
    assert katax("db", "query", "select 41 + 1 as n", "-c", "postgresql", "-f", "tsv").out == "n\n42\n"
    assert katax("cache", "set", "k", "v", "-c", "redis").code == 0
    assert katax("health", "--verbose", "--fail-on", "unhealthy", "--timeout", "60s", "-f", "json").code == 0
    assert left() == []


def test_what_ssh_says_is_the_reason(jump: Jump, redis_url: str, tmp_path: Path) -> None:
    for destination, reason in (
        ("stranger", "Host key verification failed."),
        ("closed", "Connection refused"),
    ):
        write(tmp_path, {"cache": redis_url}, destination)
        done = katax("cache", "get", "k")
        assert done.code == 3
        assert f"ssh to {destination}: " in done.err
        assert reason in done.err
        assert done.err.count("\n") == 1
    write(tmp_path, {"cache": redis_url})
    jump.server.freeze()
    done = katax("cache", "get", "k", "--timeout", "1s")
    assert (done.code, "jump" in done.err) == (3, True)
    assert left() == []


def test_a_tunnel_that_dies_is_an_unavailable_server_and_begins_again(
    jump: Jump, postgresql_url: str, tmp_path: Path
) -> None:
    write(tmp_path, {"main": postgresql_url})
    program = Katax("test")
    try:
        main = program.database("main")
        assert main.query("select 1 as n") == [{"n": 1}]
        (before,) = [Path("/proc") / pid for pid in _pids()]
        os.kill(int(before.name), signal.SIGKILL)
        until(lambda: not before.exists())
        until(lambda: _answers(main))
        jump.server.kill()
        until(lambda: not _answers(main))
        with pytest.raises(Unavailable):
            main.query("select 1 as n")
        assert katax("db", "ping").code == 3
    finally:
        program.shutdown()
    assert left() == []


def _pids() -> list[str]:
    """ssh itself, not the shell beside it."""
    return [
        folder.name
        for folder in Path("/proc").glob("[0-9]*")
        if _words(folder)[:1] == [b"/usr/bin/ssh"]
        and tempfile.gettempdir().encode() in b" ".join(_words(folder))
    ]


def _words(folder: Path) -> list[bytes]:
    try:
        return (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return [b""]


def _answers(database: object) -> bool:
    try:
        return bool(database.query("select 1"))  # type: ignore[attr-defined]
    except Unavailable:
        return False


def test_no_ssh_survives_a_killed_katax(jump: Jump, redis_url: str, tmp_path: Path) -> None:
    write(tmp_path, {"cache": redis_url})
    process = spawn("pubsub", "subscribe", "news")
    until(lambda: _pids())
    process.kill()
    process.communicate()
    until(lambda: left() == [])


def test_the_server_itself_is_verified_behind_the_tunnel(
    room: Room, tls_postgresql: Server, tls_mysql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    stranger = make_certificates(tmp_path / "other")
    with ssh_server(room.folder("sshd"), keys) as served:
        monkeypatch.setenv("PATH", f"{served.path}:{os.environ['PATH']}")
        for server, mode in ((tls_postgresql, "verify-full"), (tls_mysql, "verify-ca")):
            assert server.certificates is not None
            for authority, code in ((server.certificates.ca, 0), (stranger.ca, 2)):
                write(tmp_path, {"main": server.url.partition("?")[0].replace("127.0.0.1", "localhost")})
                with (tmp_path / "profiles/test.toml").open("a") as file:
                    file.write(f'tls = {{ mode = "{mode}", ca = "{authority}" }}\n')
                done = katax("db", "query", "select 1 as n", "-f", "tsv")
                assert (done.code, done.out) == (code, "n\n1\n" if code == 0 else ""), done.err
