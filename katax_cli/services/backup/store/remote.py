"""Backups in an object store, such as `s3://bucket/prefix`.

`PREFIX/NAME/` has the objects of one backup. Its manifest is put last, after every other object was read back, and put
in one piece: where there is one, the backup is whole. Removing takes the manifest away first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.retry import ONCE
from katax_cli.errors import BackupDamaged, BackupError, ConfigError, KataxError, OutcomeUnknown, Unavailable
from katax_cli.services.backup.folder import is_backup_name, name_of, new_folder
from katax_cli.services.backup.manifest import (
    MANIFEST,
    DumpFile,
    Manifest,
    RestoreDrill,
    manifest_text,
    parse_manifest,
)
from katax_cli.services.backup.restore.kept import NOTE, kept_by, new_note
from katax_cli.services.backup.sealing import Identities
from katax_cli.services.backup.spool import SPOOL, private_folder
from katax_cli.services.backup.store.base import CatalogEntry, KeptDatabase, newest_first
from katax_cli.services.backup.store.copying import compared, copied
from katax_cli.services.backup.store.objects import ObjectStore, StoredObject
from katax_cli.services.backup.store.run_marker import MARKER, RunMarker, is_dead
from katax_cli.services.backup.streams import CHUNK, Readable
from katax_cli.services.backup.verify import refuse_flaws
from katax_cli.services.backup.work import StoppableWork

_CLEAR_SECONDS = 10.0
"""How long a run that failed tries to remove what it sent; the next one removes the rest."""

Listing = Mapping[str, StoredObject]


class RemoteStore:
    """The backups below a URL."""

    def __init__(self, objects: ObjectStore, *, work: StoppableWork, identities: Identities | None) -> None:
        self._objects = objects
        self._work = work
        self._identities = identities
        self._named: set[str] = set()
        """Backups whose manifest was sent: nothing of them is removed without knowing whether it is there."""

    @property
    def location(self) -> str:
        return self._objects.url

    @contextmanager
    def new_folder(self, connection: str) -> Iterator[Path]:
        """Also proves, before the dump begins, that the store is there and that it may be written to."""
        with private_folder(SPOOL) as home, new_folder(home, connection) as partial:
            name = name_of(partial)
            marker = RunMarker(self._objects, name)
            try:
                marker.put()
                self._remove_leftovers(marker.put_at())
                yield partial
            except BaseException:
                if name not in self._named:
                    self._clear_away(name)
                raise

    def publish(self, partial: Path, manifest: Manifest) -> str:
        marker = RunMarker(self._objects, manifest.name)
        marker.put()
        for file in manifest.files:
            self._upload(partial, manifest.name, file, marker)
        backup = self._backup(manifest.name)
        listing = self._objects.listing(manifest.name)
        for file in manifest.files:
            marker.renew()
            reason = backup.flaw(file, listing)
            if reason is not None:
                raise BackupError(f"{self.location!r} does not hold what was sent: {reason}")
        self._named.add(manifest.name)
        try:
            backup.put_manifest(manifest)
        except ConfigError:
            self._named.discard(manifest.name)  # the store did not take it
            raise
        with suppress(KataxError):  # on a whole backup the mark means nothing, and the next run removes it
            marker.remove()
        return backup.url

    def entries(self) -> list[CatalogEntry]:
        listing = self._objects.listing()
        groups = _groups(listing)
        listed = [self._entry(name, objects) for name, objects in groups.items() if MANIFEST in objects]
        # What has no manifest since it was listed was pruned.
        complete = [one for one in listed if one.manifest or self._objects.has(f"{one.name}/{MANIFEST}")]
        complete.sort(key=newest_first)
        now = datetime.fromtimestamp(SYSTEM.now()).astimezone()
        for name in sorted(name for name, objects in groups.items() if MANIFEST not in objects):
            path = f"{self.location}/{name}"
            if MARKER not in groups[name]:
                complete.append(CatalogEntry(path, "damaged", reason=f"it has no {MANIFEST}"))
                continue
            dead = is_dead(self._objects, name, now)
            complete.append(CatalogEntry(path, "leftover" if dead else "being made"))
        return complete

    def names(self) -> list[str]:
        groups = _groups(self._objects.listing())
        names = [name for name, objects in groups.items() if MANIFEST in objects or MARKER not in objects]
        return sorted(names, key=lambda name: (name[-23:], name), reverse=True)

    def find(self, word: str) -> RemoteBackup:
        name = word.removeprefix(f"{self.location}/").rstrip("/")
        if not is_backup_name(name) or not self._objects.listing(name):
            raise ConfigError(f"no backup {word!r} in {self.location!r}; see 'katax db backups list'")
        return self._backup(name)

    def remove(self, name: str) -> bool:
        marker = RunMarker(self._objects, name)
        marker.put()
        self._objects.remove(f"{name}/{MANIFEST}")
        self._remove_objects(self._objects, name)
        return True

    def note_kept(self, connection: str, database: str) -> None:
        try:
            self._objects.put(*new_note(connection, database))
        except KataxError as error:
            raise BackupError(
                f"nothing is replaced: that the old database is kept as {database!r} cannot be noted: {error}"
            ) from error

    def kept(self) -> list[KeptDatabase]:
        kept = []
        for name in sorted(self._objects.listing()):
            if name.startswith(NOTE) and "/" not in name:
                with suppress(FileNotFoundError):
                    kept.append(kept_by(name, self._objects.read(name)))
        return [one for one in kept if one is not None]

    def forget_kept(self, kept: KeptDatabase) -> None:
        self._objects.remove(kept.note)

    def _backup(self, name: str) -> RemoteBackup:
        return RemoteBackup(self._objects, name, work=self._work, identities=self._identities)

    def _entry(self, name: str, objects: Listing) -> CatalogEntry:
        backup = self._backup(name)
        try:
            manifest = backup.manifest()
            refuse_flaws(backup.url, list(_missing(manifest, objects)))
        except BackupDamaged as error:
            return CatalogEntry(backup.url, "damaged", reason="; ".join(error.reasons))
        return CatalogEntry(backup.url, "complete", manifest)

    def _upload(self, partial: Path, name: str, file: DumpFile, marker: RunMarker) -> None:
        def pieces() -> Iterator[bytes]:
            with (partial / file.path).open("rb") as source:
                while data := source.read(CHUNK):
                    marker.renew()
                    yield data

        self._objects.upload(f"{name}/{file.path}", file.size_bytes, pieces)

    def _remove_leftovers(self, now: datetime) -> None:
        """Removes what runs left behind that died, and the marks that they left on whole backups."""
        for name, objects in _groups(self._objects.listing()).items():
            if MARKER in objects and is_dead(self._objects, name, now):
                if MANIFEST in objects or self._objects.has(f"{name}/{MANIFEST}"):  # a listing may be behind
                    self._objects.remove(f"{name}/{MARKER}")
                else:
                    self._remove_objects(self._objects, name)

    def _clear_away(self, name: str) -> None:
        """Removes what a run sent that failed; what cannot be removed has no manifest, and the next run removes it."""
        work = StoppableWork(self._work.name, Deadline(_CLEAR_SECONDS))
        with suppress(KataxError, FileNotFoundError):
            objects = self._objects.within(work, ONCE)
            objects.remove(f"{name}/{MANIFEST}")
            self._remove_objects(objects, name)

    def _remove_objects(self, objects: ObjectStore, name: str) -> None:
        """The mark goes last: by it the next run knows what an interrupted removal left."""
        objects.end_uploads(name)
        for other in objects.listing(name):
            if other != f"{name}/{MARKER}":
                objects.remove(other)
        objects.remove(f"{name}/{MARKER}")
        objects.remove_folder(name)


class RemoteBackup:
    """The objects of one backup."""

    def __init__(
        self, objects: ObjectStore, name: str, *, work: StoppableWork, identities: Identities | None
    ) -> None:
        self.name = name
        self.url = f"{objects.url}/{name}"
        self._objects = objects
        self._work = work
        self._identities = identities

    def manifest(self) -> Manifest:
        try:
            text = self._objects.read(f"{self.name}/{MANIFEST}")
        except FileNotFoundError:
            raise BackupDamaged(self.url, [f"it has no {MANIFEST}"]) from None
        return parse_manifest(text, name=self.name, where=self.url)

    def verified(self) -> Manifest:
        manifest = self.manifest()
        listing = self._objects.listing(self.name)
        known = {f"{self.name}/{file.path}" for file in manifest.files}
        known |= {f"{self.name}/{MANIFEST}", f"{self.name}/{MARKER}"}
        start_at = len(self.name) + 1
        reasons = [f"{name[start_at:]} is not in the manifest" for name in sorted({*listing} - known)]
        reasons += [reason for file in manifest.files if (reason := self.flaw(file, listing))]
        refuse_flaws(self.url, reasons)
        return manifest

    @contextmanager
    def fetched(self) -> Iterator[Path]:
        manifest = self.manifest()
        listing = self._objects.listing(self.name)
        refuse_flaws(self.url, list(_missing(manifest, _below(self.name, listing))))
        with private_folder(SPOOL) as home:
            yield copied(
                home,
                manifest,
                lambda file: self._reading(listing[f"{self.name}/{file.path}"]),
                where=self.url,
                work=self._work,
                identities=self._identities,
            )

    def stamp(self, drill: RestoreDrill) -> Manifest:
        """Of two drills that end at the same moment one may be lost: a store has no locks."""
        manifest = self.manifest().with_drill(drill)
        self.put_manifest(manifest)
        return manifest

    def flaw(self, file: DumpFile, listing: Listing) -> str | None:
        """The reason why an object is not the file that the manifest says; it is read whole."""
        stored = listing.get(f"{self.name}/{file.path}")
        if stored is None:
            return f"{file.path} is missing"
        if stored.size_bytes != file.size_bytes:
            return _sizes(file, stored)
        try:
            with self._work.active(), self._reading(stored) as source:
                return compared(file, source, backup=self.name, work=self._work, identities=self._identities)
        except FileNotFoundError:
            return f"{file.path} is missing"

    def put_manifest(self, manifest: Manifest) -> None:
        """Gives the backup its name: all objects are there before, and afterwards still.

        Raises ConfigError when the store refuses it, OutcomeUnknown when nobody knows whether the store took it;
        nothing is removed then.
        """
        self._refuse_incomplete(self._lost(manifest))
        text = manifest_text(manifest)
        self._work.check()
        is_taken = self._is_taken_at_once(text)
        try:
            if not is_taken:
                self._work.check()
                self._objects.put(f"{self.name}/{MANIFEST}", text)
            is_there = self._objects.read(f"{self.name}/{MANIFEST}") == text
            lost = self._lost(manifest)
            if lost:
                self._objects.remove(f"{self.name}/{MANIFEST}")
        except (KataxError, FileNotFoundError) as error:
            raise OutcomeUnknown(
                self._objects.url, f"{self.name} got its manifest, or did not: {error}"
            ) from error
        self._refuse_incomplete(lost)
        if not is_there:
            raise BackupError(f"{self.url!r} has another manifest than was sent; another katax changed it")

    def _is_taken_at_once(self, text: bytes) -> bool:
        """Raises ConfigError when the store refuses the manifest. Only of the first attempt is that the whole truth: an
        earlier one may have been taken when a later one is refused."""
        try:
            self._objects.within(self._work, ONCE).put(f"{self.name}/{MANIFEST}", text)
        except (Unavailable, BackupError):
            return False
        return True

    def _refuse_incomplete(self, lost: list[str]) -> None:
        if lost:
            raise BackupError(f"{self.url!r} lost objects while it was written: {'; '.join(lost[:5])}")

    def _lost(self, manifest: Manifest) -> list[str]:
        """The reasons why it is not whole. A listing may be behind; an object that is asked for by its name is not."""
        listing = _below(self.name, self._objects.listing(self.name))
        for file in manifest.files:
            if file.path not in listing and self._objects.has(f"{self.name}/{file.path}"):
                listing[file.path] = StoredObject(file.path, file.size_bytes)
        return list(_missing(manifest, listing))

    @contextmanager
    def _reading(self, stored: StoredObject) -> Iterator[Readable]:
        yield _PieceReader(self._objects.pieces(stored))


class _PieceReader:
    """Pieces of any size, read as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._waiting = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        if not self._waiting:
            self._waiting = memoryview(next(self._pieces, b""))
        end = len(self._waiting) if size < 0 else size
        data, self._waiting = self._waiting[:end], self._waiting[end:]
        return bytes(data)


def _groups(listing: Listing) -> dict[str, dict[str, StoredObject]]:
    """The objects of each backup by their names in it; those of other tools are in none."""
    groups: dict[str, dict[str, StoredObject]] = {}
    for name, stored in listing.items():
        folder, found, rest = name.partition("/")
        if found and is_backup_name(folder):
            groups.setdefault(folder, {})[rest] = stored
    return groups


def _below(name: str, listing: Listing) -> dict[str, StoredObject]:
    return {path.removeprefix(f"{name}/"): stored for path, stored in listing.items()}


def _missing(manifest: Manifest, objects: Listing) -> Iterator[str]:
    """One reason for each object that is not there, or has another size than it had."""
    for file in manifest.files:
        if file.path not in objects:
            yield f"{file.path} is missing"
        elif objects[file.path].size_bytes != file.size_bytes:
            yield _sizes(file, objects[file.path])


def _sizes(file: DumpFile, stored: StoredObject) -> str:
    return f"{file.path} has {stored.size_bytes:,} of {file.size_bytes:,} bytes"
