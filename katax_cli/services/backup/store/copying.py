"""Reading the files of a stored backup: compared with the manifest byte by byte, and decrypted on the way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from katax_cli.errors import BackupDamaged, BackupError
from katax_cli.services.backup.manifest import DumpFile, Manifest, keep_from_others, write_manifest
from katax_cli.services.backup.sealing import DigestWriter, Identities, Writer, needs_identity
from katax_cli.services.backup.streams import CHUNK, Digesting, Readable
from katax_cli.services.backup.work import StoppableWork

OpenFile = Callable[[DumpFile], AbstractContextManager[Readable]]


def compared(
    file: DumpFile,
    source: Readable,
    *,
    backup: str,
    work: StoppableWork,
    identities: Identities | None,
    target: Writer | None = None,
) -> str | None:
    """Reads a file whole and hands its plain bytes to `target`; returns the reason why it is not as it was written.

    An encrypted one is decrypted where there are identities. Raises ConfigError for identities that do not fit.
    """
    stored, problem = Digesting(source, work.check), None
    plain = DigestWriter(target)
    if file.plain is not file and identities is not None:
        try:
            identities.unseal(stored, plain, work, name=backup)
        except ValueError as error:
            problem = str(error)
    while data := stored.read(CHUNK):
        if file.plain is file and target is not None:
            target.write(data)
    if (stored.size_bytes, stored.digest.hexdigest()) != (file.size_bytes, file.sha256):
        return f"{file.path} was changed: its digest does not fit"
    if problem is not None:
        return f"{file.path} is damaged: {problem}"
    if file.plain is file or identities is None:
        return None
    if (plain.size_bytes, plain.sha256) != (file.plain.size_bytes, file.plain.sha256):
        return f"{file.path} was encrypted from other bytes than the manifest says"
    return None


def copied(
    home: Path,
    manifest: Manifest,
    open_file: OpenFile,
    *,
    where: str,
    work: StoppableWork,
    identities: Identities | None,
) -> Path:
    """A folder in `home` with the plain files of a backup and a manifest for them.

    Raises BackupDamaged for what is not as it was written, ConfigError without the identity, BackupError for a disk
    that is full.
    """
    if manifest.encryption is not None and identities is None:
        raise needs_identity(manifest.name)
    folder = home / manifest.name
    try:
        folder.mkdir(mode=0o700)
        for file in manifest.files:
            path = folder / file.plain.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_file(file) as source, path.open("xb") as target:
                keep_from_others(target.fileno())
                reason = compared(
                    file, source, backup=manifest.name, work=work, identities=identities, target=target
                )
            if reason is not None:
                raise BackupDamaged(where, [reason])
        write_manifest(folder, manifest.as_plain)
    except OSError as error:
        raise BackupError(f"cannot copy {where!r} to {str(home)!r}: {error.strerror or error}") from error
    return folder
