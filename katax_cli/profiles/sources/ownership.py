"""Ownership of files: a file that others could have written is not used."""

from __future__ import annotations

import os
import stat

from katax_cli.errors import UntrustedFile


def distrust(status: os.stat_result) -> str | None:
    """The reason to reject a file: others could have written it. None when it is ours or root's."""
    if status.st_uid not in (os.geteuid(), 0):
        return f"it belongs to user {status.st_uid}; make it yours (chown) to use it"
    if status.st_mode & stat.S_IWOTH:
        return "everyone can write it; run chmod o-w on it to use it"
    return None


def trusted(path: str) -> bool:
    """True if the file exists and only its reader or root could have written it."""
    try:
        return distrust(os.stat(path)) is None
    except OSError:
        return False


def refuse_untrusted(path: str) -> None:
    """Raises UntrustedFile when a file that was asked for by name is there and is not ours."""
    try:
        reason = distrust(os.stat(path))
    except OSError:
        return
    if reason is not None:
        raise UntrustedFile(f"{path} is not used: {reason}")
