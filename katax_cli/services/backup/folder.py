"""The folder of backups: one is made under a temporary name, locked by its maker, and renamed when it is whole."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

from katax_cli.core.clock import SYSTEM
from katax_cli.errors import BackupError
from katax_cli.services.backup.manifest import MANIFEST, keep_from_others, sync

_PARTIAL = ".partial-"
_PARTIALS = f"{_PARTIAL}*-????????T??????Z-??????"
"""Finds what has such a name; other programs have folders of partial files, too."""
_UNSAFE = re.compile(r"[^\w.-]+")
_NAME = re.compile(r"[^./][^/]*-\d{8}T\d{6}Z-[0-9a-f]{6}")


def moment() -> str:
    """Now, as it stands in names."""
    return datetime.fromtimestamp(SYSTEM.now(), UTC).strftime("%Y%m%dT%H%M%SZ")


def is_backup_name(name: str) -> bool:
    """True for what `new_folder` gives its folders once they are whole."""
    return _NAME.fullmatch(name) is not None


def name_of(partial: Path) -> str:
    """The name that a folder of `new_folder` gets once it is whole."""
    return partial.name.removeprefix(_PARTIAL)


def may_be_of(name: str, connection: str) -> bool:
    """True for the names that backups of a connection have; of connections whose names differ in odd characters alone
    they are the same."""
    return is_backup_name(name) and name[: -len("-20261122T005956Z-9f3c2a")] == _stem(connection)


def backup_folders(directory: Path) -> list[Path]:
    """The folders that have the name of a backup, the newest last; none where there is no such directory."""
    if not directory.is_dir():
        return []
    named = [path for path in directory.iterdir() if is_backup_name(path.name) and _is_own_folder(path)]
    return sorted(named, key=lambda path: (path.name[-23:], path.name))


def _is_own_folder(path: Path) -> bool:
    """False for another name of a backup, which would count it twice."""
    return path.is_dir() and (not path.is_symlink() or path.resolve().name == path.name)


@contextmanager
def new_folder(directory: Path, connection: str) -> Iterator[Path]:
    """A folder to write a backup into, which is gone afterwards unless `publish` was called.

    It is locked while the block runs. Leftovers of runs that died are removed first.
    """
    with _disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    remove_leftovers(directory)
    partial, lock = _begun(directory, connection)
    try:
        yield partial
    except OSError as error:
        raise BackupError(f"cannot write the backup: {error.strerror or error}") from error
    finally:
        if partial.exists():
            shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)


def publish(partial: Path) -> Path:
    """Gives a folder that is whole its name, which survives a power cut from here on."""
    assert (partial / MANIFEST).exists(), "the manifest is written before"
    for folder, _, names in os.walk(partial):
        for name in names:
            keep_from_others(Path(folder, name))
        sync(Path(folder))
    final = partial.with_name(name_of(partial))
    partial.rename(final)
    sync(final.parent)
    return final


@contextmanager
def withdrawn(folder: Path) -> Iterator[Path | None]:
    """A backup under a temporary name, to be removed: what an interrupted removal leaves has no backup's name.

    None when somebody uses it, or it is gone.
    """
    with _disk_errors(folder.parent):
        path = folder.with_name(f"{_PARTIAL}{folder.name}")
        try:
            lock = hold(folder)
        except FileNotFoundError:
            lock = None
        if lock is None:
            yield None
            return
        try:
            folder.rename(path)
            sync(path.parent)
            yield path
        finally:
            os.close(lock)


@contextmanager
def kept_in_place(folder: Path) -> Iterator[None]:
    """Keeps others from removing a backup while it is read, by a lock that its readers share."""
    with ExitStack() as stack:
        with suppress(OSError):  # gone, or a file system without locks: whoever reads it sees what is there
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield


def partial_folders(directory: Path) -> Iterator[tuple[Path, bool]]:
    """A backup that is being made, or was left behind, and whether somebody holds it."""
    for path in sorted(directory.glob(_PARTIALS)):
        with suppress(OSError):
            lock = hold(path)
            if lock is not None:
                os.close(lock)
            yield path, lock is None


def remove_leftovers(directory: Path) -> list[str]:
    """Removes what runs left behind that were killed; returns the names. What is locked is being made."""
    return remove_unheld(directory, _PARTIALS)


def remove_unheld(directory: Path, pattern: str) -> list[str]:
    """Removes folders that nobody holds any more; returns their names."""
    removed = []
    for path in directory.glob(pattern):
        with suppress(OSError):
            lock = hold(path)
            if lock is None:
                continue
            try:
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path.name)
            finally:
                os.close(lock)
    return removed


def _begun(directory: Path, connection: str) -> tuple[Path, int]:
    """A new folder and the lock on it. Another run may take a folder for a leftover until it is locked."""
    with _disk_errors(directory):
        while True:
            name = f"{_stem(connection)}-{moment()}-{token_hex(3)}"
            path = directory / f"{_PARTIAL}{name}"
            if (directory / name).exists():
                continue
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
                # Gone before it is locked, it was taken for a leftover.
                with suppress(FileNotFoundError):
                    if (lock := hold(path)) is not None:
                        return path, lock


def _stem(connection: str) -> str:
    return _UNSAFE.sub("_", connection).lstrip(".") or "backup"


def hold(path: Path) -> int | None:
    """Locks a folder; returns the descriptor that holds the lock until it is closed or its process ends.

    None when another process has it, or the folder is gone since.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


@contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupError(f"cannot write to {str(directory)!r}: {error.strerror or error}") from error
