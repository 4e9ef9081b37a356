"""Private folders for files that are only here while a command works; those of killed commands are removed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from katax_cli.errors import BackupHindered
from katax_cli.services.backup.folder import hold, remove_unheld

SPOOL = "katax-spool-"


@contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """A new folder below that for temporary files, which only we may enter; it is gone afterwards.

    It is locked while the block runs, by which the next one knows that those without a lock are left over. Raises
    BackupHindered when it cannot be made.
    """
    with temporary_errors():
        remove_unheld(Path(tempfile.gettempdir()), f"{prefix}*")
        folder, held = _held_folder(prefix)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


@contextmanager
def temporary_errors() -> Iterator[None]:
    """Raises BackupHindered for a folder for temporary files that takes none."""
    try:
        yield
    except OSError as error:
        # Where none is found not even its name can be had.
        where = os.environ.get("TMPDIR", tempfile.tempdir or "/tmp")
        raise BackupHindered(f"cannot write to {where!r}: {error.strerror or error}") from error


def _held_folder(prefix: str) -> tuple[str, int]:
    """A new folder and the lock on it. Another run may take it for a leftover until it is locked."""
    while True:
        folder = tempfile.mkdtemp(prefix=prefix)
        with suppress(FileNotFoundError):
            held = hold(Path(folder))
            if held is not None:
                return folder, held
