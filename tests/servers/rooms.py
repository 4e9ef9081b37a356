"""Where servers of the tests live: folders that go with the session, ports nobody else takes, a cache."""

import contextlib
import fcntl
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).parents[2]
# Below the ephemeral range: no outgoing connection sits on a port that a server needs again.
PORTS = range(15_000, 32_000)

_reservations: list[socket.socket] = []


@dataclass(frozen=True)
class Account:
    """The unprivileged user of servers that refuse to run as root."""

    uid: int
    gid: int

    def own(self, *paths: Path) -> None:
        for path in paths:
            os.chown(path, self.uid, self.gid)


def service_account() -> Account | None:
    """`nobody` when we are root; None says that servers run as ourselves."""
    if os.geteuid() != 0:
        return None
    import pwd

    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def others_reach(path: Path) -> bool:
    """Whether any user may walk to `path`; a project under /root is out of reach for `nobody`."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def cache_folder() -> Path:
    """Fetched packages and empty data folders: KATAX_TEST_CACHE, else `.test-servers` of the repository.

    As root it must be reachable for `nobody` too, hence the other place for a repository under /root.
    """
    chosen = os.environ.get("KATAX_TEST_CACHE")
    folder = Path(chosen) if chosen else REPOSITORY / ".test-servers"
    if service_account() and not others_reach(folder):
        folder = Path(f"/var/tmp/katax-test-servers-{os.geteuid()}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file lock `path`; parallel test workers prepare one thing once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Room:
    """A folder for the servers of one process; `close` removes it, a later one what a kill left."""

    def __init__(self) -> None:
        base = Path(tempfile.gettempdir()) / f"katax-servers-{os.geteuid()}"
        base.mkdir(mode=0o755, exist_ok=True)
        with locked(base / "sweep.lock"):
            _sweep(base)
            # Socket paths must stay under 108 bytes: short names.
            self.path = Path(tempfile.mkdtemp(prefix="r", dir=base))
            self.path.chmod(0o755)
            self._lock = _owner_lock(self.path)

    def folder(self, name: str) -> Path:
        """A new empty folder; every call gives another one."""
        return Path(tempfile.mkdtemp(prefix=f"{name[:2]}-", dir=self.path))

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _owner_lock(folder: Path) -> IO[str]:
    handle = (folder / "owner.lock").open("a")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise
    return handle


def _sweep(base: Path) -> None:
    for folder in base.glob("r*"):
        with contextlib.suppress(OSError), _owner_lock(folder):
            shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A free loopback port that no other process of the suite will be given while this one lives."""
    candidates = random.SystemRandom().sample(PORTS, 2000)
    return next(port for port in candidates if _reserve(port) and _bindable(port))


def _reserve(port: int) -> bool:
    """Abstract sockets vanish with their process and are per network namespace, just like ports."""
    reservation = socket.socket(socket.AF_UNIX)
    try:
        reservation.bind(f"\0katax-test-port-{port}")
    except OSError:
        reservation.close()
        return False
    _reservations.append(reservation)
    return True


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
