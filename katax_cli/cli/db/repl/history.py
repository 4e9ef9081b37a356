"""The history of a connection: what may be kept of what was typed, and where."""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from urllib.parse import quote

from katax_cli.core.settings import ConnectionSettings, revealed_secrets
from katax_cli.core.text.redact import Redactor, is_secret_name
from katax_cli.core.text.text import to_bytes
from katax_cli.profiles.model.model import Profile
from katax_cli.profiles.sources.home import ensure_home

FOLDER = "history"
_MOST_BYTES = 1_000_000
_WORD = re.compile(r"[A-Za-z][\w-]*")
_TELLING = re.compile(
    r"\bidentified\b|\bauth\b|\bacl\s+setuser\b|\bmasterauth\b|\brequirepass\b", re.IGNORECASE
)
_ENTRY = b"\n# "


def holds_secret(text: str) -> bool:
    """True for what names a password, token or key, or holds a secret of this process: it is kept nowhere."""
    if _TELLING.search(text) or any(is_secret_name(word) for word in _WORD.findall(text)):
        return True
    return Redactor(revealed_secrets).text(text) != text


def history_file(profile: Profile, settings: ConnectionSettings) -> str:
    """The file of a connection in `.katax/`, for its owner alone; made, and its older half cut off when it is long."""
    folder = os.path.join(ensure_home(profile.home), FOLDER)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    place = to_bytes(repr((settings.address, settings.database, settings.user)))
    name = quote(f"{profile.name}-{settings.name}", safe="")[:100]
    path = os.path.join(folder, f"{name}-{blake2b(place, digest_size=4).hexdigest()}")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    os.chmod(path, 0o600)
    if os.stat(path).st_size > _MOST_BYTES:
        _halve(path)
    return path


def _halve(path: str) -> None:
    with open(path, "rb") as file:
        text = file.read()
    start = text.find(_ENTRY, len(text) // 2)
    draft = f"{path}.{os.getpid()}"
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text[start:] if start >= 0 else b"")
    os.replace(draft, path)
