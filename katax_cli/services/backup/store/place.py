"""A place of backups by its words: a folder, or a URL."""

from __future__ import annotations

from pathlib import Path

from katax_cli.core.resilience.retry import RetryPolicy
from katax_cli.core.settings import Secret
from katax_cli.services.backup.store.base import BackupStore
from katax_cli.services.backup.work import StoppableWork


def is_url(location: str) -> bool:
    """True for what is not on this machine."""
    return "://" in location


def open_store(
    location: str,
    *,
    work: StoppableWork,
    retry: RetryPolicy | None = None,
    identity: Secret | None = None,
) -> BackupStore:
    """The backups in a folder or below a URL; `identity` decrypts them.

    Connects to nothing. Raises ConfigError for a URL that is none, and where a package is missing.
    """
    from katax_cli.services.backup.sealing import Identities
    from katax_cli.services.backup.store.local import FolderStore

    identities = None if identity is None else Identities(identity)
    if not is_url(location):
        return FolderStore(Path(location).absolute(), work=work, identities=identities)
    from katax_cli.services.backup.store.objects import ObjectStore
    from katax_cli.services.backup.store.remote import RemoteStore

    objects = ObjectStore(location, work=work, retry=retry or RetryPolicy())
    return RemoteStore(objects, work=work, identities=identities)
