"""The age of the newest backup that passed a drill, as a check of a connection's health."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from threading import Lock

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.text.duration import format_duration
from katax_cli.errors import BackupDamaged
from katax_cli.profiles.model.model import Profile
from katax_cli.services.backup.folder import backup_folders
from katax_cli.services.backup.manifest import MANIFEST, Manifest, read_manifest
from katax_cli.services.backup.retention import CLOCKS_APART
from katax_cli.snapshot import Check

CHECK = "backup"
_PREFERRED = "main"


def backup_checker(profile: Profile, clock: Clock = SYSTEM) -> Callable[[str], Check | None]:
    """Returns a check for the connection of a name: degraded when no backup younger than `[backup] max_age` passed a
    drill; None where nothing is asked.

    Asked are connections that have a backup, and `main`. An old backup makes no server unfit: it is never unhealthy.
    """
    if profile.backup.max_age is None:
        return lambda _: None
    return _Ages(Path(profile.backup.directory), profile.backup.max_age, profile.connections, clock).check


class _Ages:
    """Reads a manifest when it is new or was stamped."""

    def __init__(
        self, directory: Path, max_age: float, connections: Mapping[str, object], clock: Clock
    ) -> None:
        self._directory = directory
        self._max_age = max_age
        self._connections = connections
        self._clock = clock
        self._known: dict[Path, tuple[tuple[int, int], Manifest | None]] = {}
        self._lock = Lock()

    def check(self, name: str) -> Check | None:
        if "://" in str(self._directory):
            return Check(CHECK, "skipped", message="the backups are not on this machine")
        with self._lock:
            manifests = [manifest for manifest in self._manifests() if manifest.connection == name]
        if not manifests and (name != _PREFERRED or name not in self._connections):
            return None
        drilled = [manifest.started_at for manifest in manifests if manifest.is_drilled]
        if not drilled:
            what = "no backup" if not manifests else "no backup that passed a drill"
            return Check(CHECK, "degraded", message=f"{what} in {str(self._directory)!r}")
        newest = max(datetime.fromisoformat(moment) for moment in drilled)
        if newest.timestamp() > self._clock.now() + CLOCKS_APART.total_seconds():
            message = "the newest drilled backup is from the future: a clock was wrong, its age is unknown"
            return Check(CHECK, "degraded", message=message)
        age = max(self._clock.now() - newest.timestamp(), 0.0)
        message = f"the newest drilled backup is {format_duration(_rounded(age))} old"
        if age <= self._max_age:
            return Check(CHECK, "healthy", message=message)
        return Check(CHECK, "degraded", message=f"{message}, more than {format_duration(self._max_age)}")

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
