"""Encryption of a backup's files in the format of age, by pyrage (the extra `encryption`).

Files are encrypted for public keys that a profile names; what decrypts them is read late, and only where it is needed.
A file is a stream of pieces of 64 KiB, each of which proves itself, so nothing is held in memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from katax_cli.core.settings import Secret
from katax_cli.errors import ConfigError
from katax_cli.services.backup.manifest import SEALED, DumpFile, Encryption
from katax_cli.services.backup.streams import Readable
from katax_cli.services.backup.work import StoppableWork

FORMAT = "age"
_SSH = "ssh-"


class Writer(Protocol):
    """Takes bytes."""

    def write(self, data: bytes, /) -> object: ...


class DigestWriter:
    """Takes bytes, hands them on if there is somebody to take them, and knows their size and digest."""

    def __init__(self, onward: Writer | None = None) -> None:
        self._onward = onward
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data: bytes) -> int:
        if self._onward is not None:
            self._onward.write(data)
        self._digest.update(data)
        self.size_bytes += len(data)
        return len(data)


class _PyrageStream:
    """One side of pyrage, which tells of an error of ours its text alone: the error itself is kept."""

    def __init__(self, stream: Any, work: StoppableWork) -> None:
        self._stream = stream
        self._work = work
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        return bytes(self._kept(lambda: self._stream.read(size)))

    def write(self, data: bytes) -> int:
        self._kept(lambda: self._stream.write(data))
        return len(data)

    def flush(self) -> None:
        """Whoever opened the file flushes it."""

    def _kept(self, call: Any) -> Any:
        try:
            self._work.check()
            return call()
        except BaseException as error:
            self.error = error
            raise


class Recipients:
    """Public keys, `age1…` or `ssh-ed25519 …`. Raises ConfigError for one that is none, and without pyrage."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.encryption = Encryption(FORMAT, tuple(keys))
        self._keys = [_public_key(_pyrage(), key) for key in keys]

    def seal(self, folder: Path, files: Sequence[DumpFile], work: StoppableWork) -> tuple[DumpFile, ...]:
        """Encrypts proven files where they are; the plain ones are gone afterwards."""
        return tuple(self._sealed(folder, file, work) for file in files)

    def _sealed(self, folder: Path, file: DumpFile, work: StoppableWork) -> DumpFile:
        name = f"{file.path}{SEALED}"
        with (folder / file.path).open("rb") as plain, (folder / name).open("xb") as stored:
            digest = DigestWriter(stored)
            source, target = _PyrageStream(plain, work), _PyrageStream(digest, work)
            _run(source, target, lambda: _pyrage().encrypt_io(source, target, self._keys))
            stored.flush()
            os.fsync(stored.fileno())
        (folder / file.path).unlink()
        return DumpFile(name, digest.size_bytes, digest.sha256, file.size_bytes, file.sha256)


class Identities:
    """The private keys that decrypt, read from the profile when the first file needs them."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._keys: list[Any] | None = None

    def unseal(self, source: Readable, target: Writer, work: StoppableWork, *, name: str) -> None:
        """Decrypts a file of the backup `name`. Raises ConfigError for other keys, ValueError for damage."""
        pyrage = _pyrage()
        if self._keys is None:
            self._keys = _private_keys(pyrage, self._secret)
        keys, inside, outside = self._keys, _PyrageStream(source, work), _PyrageStream(target, work)
        try:
            _run(inside, outside, lambda: pyrage.decrypt_io(inside, outside, keys))
        except pyrage.DecryptError as error:
            if "No matching keys" not in str(error):
                raise ValueError(f"it is no whole age file: {error}") from error
            raise ConfigError(
                f"{name!r} cannot be decrypted: the identity of [backup] is none of its recipients"
            ) from error
        except OSError as error:
            if error is inside.error or error is outside.error:
                raise  # of a disk, such as a full one: that says nothing of the file
            raise ValueError(f"it does not decrypt: {error}") from error


def needs_identity(name: str) -> ConfigError:
    """The refusal of an encrypted backup where nothing is there to decrypt it."""
    return ConfigError(
        f'{name!r} is encrypted; set [backup] identity, such as "file:backup.key" or "env:NAME"'
    )


def _run(source: _PyrageStream, target: _PyrageStream, call: Any) -> None:
    try:
        call()
    except Exception as error:
        for side in (source, target):
            if side.error is not None:
                raise side.error from error
        raise


def _pyrage() -> Any:
    try:
        import pyrage
    except ImportError as error:
        raise ConfigError(
            "encryption needs a package that is not installed; pip install 'katax[encryption]'"
        ) from error
    return pyrage


def _public_key(pyrage: Any, key: str) -> Any:
    kind = pyrage.ssh if key.startswith(_SSH) else pyrage.x25519
    try:
        return kind.Recipient.from_str(key)
    except pyrage.RecipientError as error:
        raise ConfigError(
            f"[backup] recipients has {key!r}, which is no public key of age: {error}"
        ) from error


def _private_keys(pyrage: Any, secret: Secret) -> list[Any]:
    """The keys of an identity file of age, or one private key of ssh. Never repeats what it read."""
    text = secret.reveal().strip()
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        if text.startswith("-----BEGIN"):
            return [pyrage.ssh.Identity.from_buffer(f"{text}\n".encode())]
        keys = [pyrage.x25519.Identity.from_str(line) for line in lines]
    except pyrage.IdentityError:
        keys = []
    if not keys:
        raise ConfigError("[backup] identity holds no private key of age; make one with age-keygen")
    return keys
