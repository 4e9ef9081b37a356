"""The manifest of a backup: what it holds, of which server, and the digests that prove it; docs/backup.md lists it.

It is written last, in one piece, and carries a digest of itself: a flipped bit in it is seen like one in a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from katax_cli.core.engine_names import ENGINE_NAMES, EngineName
from katax_cli.errors import BackupDamaged

MANIFEST = "manifest.json"
SEALED = ".age"
"""The end of the name of an encrypted file."""
FORMAT = 1
"""Raised when an older katax could not restore a backup of a newer one."""
ENCRYPTED_FORMAT = 2
"""The format of backups that are encrypted; others are written in the first, so that an older katax reads them."""
_MAX_BYTES = 64 * 2**20
_MOST = 2**63
"""More than any count or size: Python writes no sum of numbers with thousands of digits."""
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class DumpFile:
    """A file of a backup: its path in the folder with `/`, its size and the SHA-256 of its bytes as hex.

    Of an encrypted one `plain_size_bytes` and `plain_sha256` are those of the bytes before.
    """

    path: str
    size_bytes: int
    sha256: str
    plain_size_bytes: int | None = None
    plain_sha256: str | None = None

    @property
    def plain(self) -> DumpFile:
        """The file as it was before it was encrypted; itself when it was not."""
        if self.plain_size_bytes is None or self.plain_sha256 is None:
            return self
        return DumpFile(self.path.removesuffix(SEALED), self.plain_size_bytes, self.plain_sha256)


@dataclass(frozen=True, slots=True)
class Encryption:
    """The format of the encrypted files, and the public keys for which they were encrypted."""

    format: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Omission:
    """A thing that a backup does not hold, and the reason."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class RestoreDrill:
    """A restore that was tried: when (RFC 3339), on which connection and server, how it ended."""

    drilled_at: str
    connection: str
    server_id: str
    passed: bool
    restore_seconds: float
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that is known of a backup; times are RFC 3339 with offset.

    `server_id` is what stays the same of a server wherever it runs (PostgreSQL: the system identifier). `rows` are
    counted from the dumped stream, by table (Redis: `keys`; MongoDB: collections), `objects` other things that are
    counted, such as large objects. `left_out` should have been in it (`--allow-missing`), `not_held` is never in it.
    """

    name: str
    engine: EngineName
    server_version: str
    server_id: str
    database: str
    connection: str
    tool: str
    katax_version: str
    started_at: str
    finished_at: str
    consistency: str
    files: tuple[DumpFile, ...]
    rows: Mapping[str, int] = field(default_factory=dict, hash=False)
    objects: Mapping[str, int] = field(default_factory=dict, hash=False)
    schema_hash: str | None = None
    left_out: tuple[Omission, ...] = ()
    not_held: tuple[Omission, ...] = ()
    drills: tuple[RestoreDrill, ...] = ()
    encryption: Encryption | None = None

    @property
    def format(self) -> int:
        """The number by which an older katax knows whether it can restore it."""
        return _format_of(self.encryption)

    @property
    def as_plain(self) -> Manifest:
        """That of the same backup once it is decrypted."""
        files = tuple(file.plain for file in self.files)
        return replace(self, files=files, encryption=None)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def is_drilled(self) -> bool:
        """True when the last drill restored it without a problem."""
        return bool(self.drills) and self.drills[-1].passed

    def with_drill(self, drill: RestoreDrill) -> Manifest:
        return replace(self, drills=(*self.drills, drill))


def manifest_text(manifest: Manifest) -> bytes:
    """The bytes of a manifest's file, with the digest of all its values."""
    values = {"format": manifest.format, **asdict(manifest)}
    if manifest.encryption is None:
        del values["encryption"]
        for file in values["files"]:
            del file["plain_size_bytes"], file["plain_sha256"]
    text = json.dumps({**values, "digest": _digest(values)}, indent=2, ensure_ascii=False) + "\n"
    return text.encode()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes it into the folder of its backup in one piece: a temporary name, fsync, rename, fsync of the folder."""
    temporary = folder / f".{MANIFEST}.{os.getpid()}"
    try:
        with temporary.open("wb") as file:
            file.write(manifest_text(manifest))
            file.flush()
            keep_from_others(file.fileno())
            os.fsync(file.fileno())
        temporary.replace(folder / MANIFEST)
    finally:
        temporary.unlink(missing_ok=True)
    sync(folder)


def read_manifest(folder: Path) -> Manifest:
    """The checked manifest of a backup. Raises BackupDamaged with the reason; looks at no other file."""
    try:
        with open(folder / MANIFEST, "rb", opener=_plainly) as file:
            text = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise BackupDamaged(str(folder), [_without_manifest(folder)]) from None
    except OSError as error:
        raise BackupDamaged(str(folder), [f"{MANIFEST} cannot be read: {error.strerror}"]) from error
    return parse_manifest(text, name=folder.resolve().name, where=str(folder))


def _plainly(path: str, flags: int) -> int:
    """Follows no link out of the folder, and waits for nobody who would write to a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def parse_manifest(text: bytes, *, name: str, where: str) -> Manifest:
    """The checked manifest of the backup of that name. Raises BackupDamaged, which says `where`."""
    try:
        return _checked(name, text)
    except _ManifestFlaw as flaw:
        raise BackupDamaged(where, [f"{MANIFEST} {flaw}"]) from None


def keep_from_others(file: Path | int) -> None:
    """Lets nobody else write a file, whatever the umask is: no restore would trust it."""
    mode, writable = stat.S_IMODE(os.stat(file).st_mode), stat.S_IWGRP | stat.S_IWOTH
    # Not without need: on shared drives files may seem to be somebody else's, who alone may do that.
    if mode & writable:
        os.chmod(file, mode & ~writable)


def sync(path: Path) -> None:
    """Makes the contents of a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _without_manifest(folder: Path) -> str:
    if not folder.is_dir():
        return "there is no such folder"
    return f"it has no {MANIFEST}" if any(folder.iterdir()) else "the folder is empty"


class _ManifestFlaw(Exception):
    """A reason why a manifest is not to be trusted."""


def _checked(name: str, text: bytes) -> Manifest:
    if len(text) > _MAX_BYTES:
        raise _ManifestFlaw(f"has more than {_MAX_BYTES:,} bytes")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise _ManifestFlaw("is no JSON") from None
    if not isinstance(values, dict):
        raise _ManifestFlaw("is no object")
    expected = _format_of(values.get("encryption"))
    if values.get("format") != expected:
        raise _ManifestFlaw(
            f"has the format {values.get('format')!r}, expected {expected}; use the katax that made it"
        )
    digest = values.pop("digest", None)
    if digest != _digest(values):
        raise _ManifestFlaw("was changed: its digest does not fit")
    if values.get("name") != name:
        raise _ManifestFlaw(f"is of another backup, {values.get('name')!r}; this folder is {name!r}")
    try:
        return _built(values)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _ManifestFlaw(f"is misshaped: {error}") from None


def _format_of(encryption: object) -> int:
    return ENCRYPTED_FORMAT if encryption else FORMAT


def _built(values: dict[str, Any]) -> Manifest:
    """The value behind the JSON. Raises TypeError and ValueError for what no `write_manifest` wrote."""
    json.dumps(values, ensure_ascii=False).encode()  # half of a pair of surrogates is no text
    del values["format"]
    if unknown := values.keys() - {known.name for known in fields(Manifest)}:
        raise ValueError(f"{min(unknown)!r} is no key that this katax knows; use the one that made it")
    for key in ("started_at", "finished_at"):
        _refuse_other_than_moment(values[key])
    if values["engine"] not in ENGINE_NAMES:
        raise ValueError(f"no engine named {values['engine']!r}")
    encryption = _encryption(values.pop("encryption", None))
    made: dict[str, Any] = {
        "encryption": encryption,
        "files": _files(values.pop("files"), values["engine"], is_encrypted=encryption is not None),
        "rows": _counts(values.pop("rows")),
        "objects": _counts(values.pop("objects")),
        "left_out": _omissions(values.pop("left_out")),
        "not_held": _omissions(values.pop("not_held")),
        "drills": tuple(map(_drill, values.pop("drills"))),
        "schema_hash": values.pop("schema_hash"),
    }
    if made["schema_hash"] is not None:
        _refuse_other_than_text(made["schema_hash"])
    _refuse_other_than_text(*values.values())
    return Manifest(**values, **made)


def _files(written: Sequence[Mapping[str, Any]], engine: str, *, is_encrypted: bool) -> tuple[DumpFile, ...]:
    files = tuple(DumpFile(**file) for file in written)
    for file in files:
        _refuse_path(file.path)
        if (file.plain is file) is is_encrypted:
            raise ValueError(f"{file.path!r} is encrypted, or is not, unlike the backup")
        for one in (file, file.plain):
            if set(one.sha256) - _HEX or len(one.sha256) != 64 or not 0 <= one.size_bytes < _MOST:
                raise ValueError(f"digest or size of {file.path!r}")
    if not files or len({file.path for file in files}) < len(files):
        raise ValueError("its files are not named once each")
    if engine != "postgresql" and len(files) > 1:
        raise ValueError(f"it has {len(files)} files, and one of {engine} has one")
    return files


def _encryption(values: Mapping[str, Any] | None) -> Encryption | None:
    if values is None:
        return None
    recipients = tuple(values["recipients"])
    _refuse_other_than_text(values["format"], *recipients)
    return Encryption(values["format"], recipients)


def _refuse_other_than_text(*values: object) -> None:
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"{value!r} is no text")


def _refuse_other_than_moment(text: str) -> None:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or not 1970 <= moment.year < 9000:
        raise ValueError(f"{text!r} is no moment")


def _omissions(values: Sequence[Mapping[str, str]]) -> tuple[Omission, ...]:
    omissions = tuple(Omission(**one) for one in values)
    _refuse_other_than_text(*(text for one in omissions for text in (one.what, one.why)))
    return omissions


def _refuse_path(path: str) -> None:
    """A manifest must not lead out of its folder."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path or path == MANIFEST:
        raise ValueError(f"path {path!r}")


def _counts(values: Mapping[str, int]) -> dict[str, int]:
    if any(not isinstance(count, int) or not 0 <= count < _MOST for count in values.values()):
        raise ValueError("a count is no whole number")
    return dict(values)


def _drill(values: dict[str, Any]) -> RestoreDrill:
    problems: Sequence[str] = values.pop("problems")
    drill = RestoreDrill(**values, problems=tuple(problems))
    _refuse_other_than_text(drill.connection, drill.server_id, *drill.problems)
    _refuse_other_than_moment(drill.drilled_at)
    if not isinstance(drill.passed, bool) or not isinstance(drill.restore_seconds, int | float):
        raise TypeError("a drill")
    return drill


def _digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of the values in one spelling: sorted keys, no blanks."""
    spelt = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(spelt.encode()).hexdigest()
