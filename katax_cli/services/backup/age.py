"""The age of the newest backup that passed a drill, as a check of a connection's health."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Protocol

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.forks import follow
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.retry import ONCE
from katax_cli.core.text.duration import format_duration
from katax_cli.errors import BackupDamaged, ConfigError
from katax_cli.profiles.model.model import Profile
from katax_cli.services.backup.folder import backup_folders, may_be_of
from katax_cli.services.backup.manifest import MANIFEST, Manifest, read_manifest
from katax_cli.services.backup.retention import CLOCKS_APART
from katax_cli.services.backup.store.place import is_url, open_store
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.calls.left_behind import Running, start
from katax_cli.snapshot import Check

CHECK = "backup"
_PREFERRED = "main"
_PATIENCE_SECONDS = 3.0
"""How long the first answer of a store is waited for; it is looked for again with the next check."""
_STORE_SECONDS = 60.0
_FRESH_SECONDS, _FAILED_SECONDS = 300.0, 30.0
"""How long an answer of a store counts, and a failure to get one."""


def backup_checker(profile: Profile, clock: Clock = SYSTEM) -> Callable[[str], Check | None]:
    """Returns a check for the connection of a name: degraded when no backup younger than `[backup] max_age` passed a
    drill, or nobody can tell; None where nothing is asked.

    Asked are connections that have a backup, and `main`. An old backup makes no server unfit: it is never unhealthy.
    """
    backup = profile.backup
    if backup.max_age is None:
        return lambda _: None
    known: _KnownManifests = (
        _StoredManifests(backup.directory, tuple(profile.connections), clock)
        if is_url(backup.directory)
        else _FolderManifests(Path(backup.directory))
    )
    return _Ages(known, backup.directory, backup.max_age, profile.connections, clock).check


class _KnownManifests(Protocol):
    def of(self, connection: str) -> Sequence[Manifest] | str:
        """Manifests of a connection, the newest drilled one among them; as text why nobody can tell."""
        ...


class _Ages:
    """Judges the newest drilled backup of a connection."""

    def __init__(
        self,
        known: _KnownManifests,
        where: str,
        max_age: float,
        connections: Mapping[str, object],
        clock: Clock,
    ) -> None:
        self._known = known
        self._where = where
        self._max_age = max_age
        self._connections = connections
        self._clock = clock

    def check(self, name: str) -> Check | None:
        is_asked = name == _PREFERRED and name in self._connections
        manifests = self._known.of(name)
        if isinstance(manifests, str):
            if is_asked or _PREFERRED not in self._connections:
                message = f"the age of the newest drilled backup in {self._where!r} is unknown: {manifests}"
                return Check(CHECK, "degraded", message=message)
            return None
        if not manifests and not is_asked:
            return None
        drilled = [manifest.started_at for manifest in manifests if manifest.is_drilled]
        if not drilled:
            what = "no backup" if not manifests else "no backup that passed a drill"
            return Check(CHECK, "degraded", message=f"{what} in {self._where!r}")
        return self._judged(max(datetime.fromisoformat(moment) for moment in drilled))

    def _judged(self, newest: datetime) -> Check:
        if newest.timestamp() > self._clock.now() + CLOCKS_APART.total_seconds():
            message = "the newest drilled backup is from the future: a clock was wrong, its age is unknown"
            return Check(CHECK, "degraded", message=message)
        age = max(self._clock.now() - newest.timestamp(), 0.0)
        message = f"the newest drilled backup is {format_duration(_rounded(age))} old"
        if age <= self._max_age:
            return Check(CHECK, "healthy", message=message)
        return Check(CHECK, "degraded", message=f"{message}, more than {format_duration(self._max_age)}")


class _FolderManifests:
    """Reads a manifest when it is new or was stamped."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[Path, tuple[tuple[int, int], Manifest | None]] = {}
        self._lock = Lock()
        follow(self)

    def after_fork(self) -> None:
        """Called in the child, where another thread of the parent may hold the lock for ever."""
        self._lock = Lock()

    def of(self, connection: str) -> Sequence[Manifest]:
        with self._lock:
            return [manifest for manifest in self._manifests() if manifest.connection == connection]

    def _manifests(self) -> list[Manifest]:
        known = {}
        for folder in backup_folders(self._directory):
            try:
                status = (folder / MANIFEST).stat()
            except OSError:
                continue
            seen = (status.st_mtime_ns, status.st_ino)
            if folder not in self._known or self._known[folder][0] != seen:
                known[folder] = (seen, _read(folder))
            else:
                known[folder] = self._known[folder]
        self._known = known
        return [manifest for _, manifest in known.values() if manifest is not None]


class _StoredManifests:
    """Those below a URL, read in a thread of its own: no check waits longer than a few seconds for a store.

    Of each connection manifests are read from the newest on, until one is of a drilled backup.
    """

    def __init__(self, url: str, connections: Sequence[str], clock: Clock) -> None:
        self._url = url
        self._connections = connections
        self._clock = clock
        self._lock = Lock()
        self._running: Running | None = None
        self._patience = Deadline(None)
        self._answer: Mapping[str, Sequence[Manifest]] | BaseException | None = None
        self._stale_at = 0.0
        follow(self)

    def after_fork(self) -> None:
        """Called in the child: the thread that reads is the parent's, so what it was to answer is read anew."""
        self._lock = Lock()
        self._running = None

    def of(self, connection: str) -> Sequence[Manifest] | str:
        with self._lock:
            answer = self._answered()
        if answer is None:
            return f"no answer within {format_duration(_PATIENCE_SECONDS)}"
        if isinstance(answer, BaseException):
            return str(answer)
        return answer.get(connection, ())

    def _answered(self) -> Mapping[str, Sequence[Manifest]] | BaseException | None:
        """The last answer, while a newer one is under way; None when there is none in time."""
        if self._running is None and (self._answer is None or self._clock.monotonic() >= self._stale_at):
            self._running = start("katax-backup-age", self._read)
            self._patience = Deadline(_PATIENCE_SECONDS)
        if self._running is not None and self._running.ended(
            self._patience.remaining() if self._answer is None else 0.0
        ):
            answer = self._answer = self._running.outcome
            self._running = None
            seconds = _FAILED_SECONDS if isinstance(answer, BaseException) else _FRESH_SECONDS
            self._stale_at = self._clock.monotonic() + seconds
        return self._answer

    def _read(self) -> Mapping[str, Sequence[Manifest]]:
        work = StoppableWork("backups", Deadline(_STORE_SECONDS))
        store = open_store(self._url, work=work, retry=ONCE)
        names = store.names()
        found: dict[str, list[Manifest]] = {}
        for connection in self._connections:
            for name in names:
                if not may_be_of(name, connection):
                    continue
                try:
                    manifest = store.find(name).manifest()
                except (BackupDamaged, ConfigError):  # `db backups list` names it, or it was pruned since
                    continue
                if manifest.connection == connection:
                    found.setdefault(connection, []).append(manifest)
                    if manifest.is_drilled:
                        break
        return found


def _read(folder: Path) -> Manifest | None:
    """None for one that is damaged, which `db backups list` names."""
    try:
        return read_manifest(folder)
    except BackupDamaged:
        return None


def _rounded(seconds: float) -> float:
    """Whole minutes, hours or days: a message that changes every second is none to compare."""
    unit = next((unit for unit in (86_400, 3_600, 60) if seconds >= 2 * unit), 1)
    return seconds // unit * unit
