"""Whether a folder is a whole backup: every file of its manifest, byte by byte, and no other one."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from katax_cli.errors import BackupDamaged, ConfigError
from katax_cli.profiles.sources.ownership import refuse_untrusted
from katax_cli.services.backup.manifest import MANIFEST, DumpFile, Manifest, read_manifest
from katax_cli.services.backup.sealing import Identities
from katax_cli.services.backup.store.copying import compared
from katax_cli.services.backup.work import StoppableWork

_MOST_REASONS = 20


def find_backup(directory: Path, word: str) -> Path:
    """The folder of a backup, by its name in the folder of the backups or by its path. Raises ConfigError."""
    for path in (directory / word, Path(word)):
        if path.is_dir():
            return path
    raise ConfigError(f"no backup {word!r} in {str(directory)!r}; see 'katax db backups list'")


def validated(folder: Path, work: StoppableWork, identities: Identities | None = None) -> Manifest:
    """The manifest of a backup of which every byte was read, and decrypted where there are identities for it.

    Raises BackupDamaged with all reasons, ConfigError for identities that do not fit.
    """
    manifest = read_manifest(folder)
    reasons = [*_strangers(folder, manifest)]
    for file in manifest.files:
        reason = _flaw(folder, file, work, identities)
        if reason is not None:
            reasons.append(reason)
    refuse_flaws(str(folder), reasons)
    return manifest


def trusted(folder: Path, work: StoppableWork) -> Manifest:
    """The manifest of a backup all of whose files were read. Raises UntrustedFile for one that others could have
    written, BackupDamaged."""
    for path in (folder, folder / MANIFEST):
        refuse_untrusted(str(path))
    manifest = validated(folder, work)
    for file in manifest.files:
        refuse_untrusted(str(folder / file.path))
    return manifest


def refuse_flaws(where: str, reasons: list[str]) -> None:
    """Raises BackupDamaged when there are reasons, with the first of them."""
    if len(reasons) > _MOST_REASONS:
        reasons[_MOST_REASONS:] = [f"and {len(reasons) - _MOST_REASONS} more"]
    if reasons:
        raise BackupDamaged(where, reasons)


def _strangers(folder: Path, manifest: Manifest) -> list[str]:
    known = {file.path for file in manifest.files} | {MANIFEST}
    known |= {str(parent) for file in manifest.files for parent in PurePosixPath(file.path).parents}
    present = (
        os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, "/")
        for parent, folders, names in os.walk(folder)
        for name in (*names, *folders)
    )
    # A manifest that was being stamped when its process was killed leaves one of these.
    strangers = (path for path in present if path not in known and not path.startswith(f".{MANIFEST}."))
    return [f"{path} is not in the manifest" for path in sorted(strangers)]


def _flaw(folder: Path, file: DumpFile, work: StoppableWork, identities: Identities | None) -> str | None:
    path = folder / file.path
    try:
        within = [folder / parent for parent in PurePosixPath(file.path).parents]
        if any(one.is_symlink() for one in (path, *within[:-1])) or not path.is_file():
            return f"{file.path} is missing" if not path.exists() else f"{file.path} is no plain file"
        size = path.stat().st_size
        if size != file.size_bytes:
            return f"{file.path} has {size:,} of {file.size_bytes:,} bytes"
        with work.active(), path.open("rb") as source:
            return compared(file, source, backup=folder.name, work=work, identities=identities)
    except OSError as error:
        return f"{file.path} cannot be read: {error.strerror}"
