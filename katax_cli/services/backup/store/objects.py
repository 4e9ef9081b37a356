"""Objects of a store elsewhere, by fsspec (the extra `remote`): listed, read in pieces, put, removed.

Each call waits in a thread of its own, so that a deadline or an interrupt ends the waiting, and is repeated when it
failed for a moment: reading, putting the same bytes and removing give the same whether done once or twice.
"""

from __future__ import annotations

import copy
import errno
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.retry import Repeats, RetryPolicy
from katax_cli.errors import BackupError, ConfigError, KataxError, StoreRefused, Unavailable
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.calls.left_behind import Running, start

T = TypeVar("T")
SCHEMES = ("s3", "gs", "sftp")
"""What may stand before `://`."""
_READ_BYTES = 8 * 2**20
_PART_BYTES = 16 * 2**20
_MOST_PARTS = 9_000
"""S3 takes 10,000 parts of one object."""
_LOOK_EVERY = 0.5
_ASK_AFTER = 30.0
"""Seconds that a call may take before the store is asked whether it lives; a slow one may take longer."""
_PARTIAL = ".part"
_LATER = {errno.EBUSY, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE, errno.ECONNREFUSED}
_GATEWAY = {429, 502, 503, 504}
"""Statuses of HTTP by which a proxy says that the store does not answer it, or a store that it is asked too often."""
_LOGIN_ERRORS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "TokenRetrievalError",
    "SSOError",
    "GoogleAuthError",
    "AuthenticationException",
    "BadHostKeyException",
}
"""Classes of libraries that are there only with their scheme, so they are known by name."""
_LATER_ERRORS = {
    "BotoCoreError",
    "ClientError",
    "SSHException",
    "NoValidConnectionsError",
    "HttpError",
    "FSTimeoutError",
}
_NO_KEY = "No authentication methods available"
"""Paramiko's words, which has no class for it."""
_S3: Mapping[str, Any] = {
    "config_kwargs": {"connect_timeout": 5, "read_timeout": 30, "retries": {"total_max_attempts": 1}}
}


class StoredObject(NamedTuple):
    """An object of a listing: its name below the prefix, and its size."""

    name: str
    size_bytes: int


class ObjectStore:
    """The objects below a URL such as `s3://bucket/backups`. Making one connects to nothing.

    Raises ConfigError for a URL that cannot be one or that holds a password, and without the packages. Its methods
    raise ConfigError (no such bucket), StoreRefused, Unavailable, BackupError, and FileNotFoundError for an
    object that is not there.
    """

    def __init__(self, url: str, *, work: StoppableWork, retry: RetryPolicy) -> None:
        self.scheme, self._host, self._base = _parsed(url)
        self.url = url.rstrip("/")
        self._work = work
        self._retry = retry
        _refuse_without_packages(self.scheme)

    def within(self, work: StoppableWork, retry: RetryPolicy) -> ObjectStore:
        """The same objects for other work: clearing away goes on when the backup itself was stopped."""
        other = copy.copy(self)
        other._work, other._retry = work, retry
        return other

    def listing(self, below: str = "") -> dict[str, StoredObject]:
        """All objects whose names begin with `below/`, or all, by their names."""
        root = self._path(below)

        def ask() -> dict[str, Any]:
            try:
                found: dict[str, Any] = self._files.find(root, detail=True)
                return found
            except FileNotFoundError:
                if self.scheme == "s3":
                    raise
                return {}  # a folder that nobody made yet

        # Of sftp the names begin with a slash.
        start_at = len(self._path("").strip("/")) + 1
        return {
            (name := str(path).lstrip("/")[start_at:]): StoredObject(name, int(info["size"] or 0))
            for path, info in self._ask(ask, missing_is_config=True).items()
            if info.get("type") == "file" and len(str(path).lstrip("/")) > start_at
        }

    def read(self, name: str) -> bytes:
        """A small object, whole."""
        data: bytes = self._ask(lambda: self._files.cat_file(self._path(name)))
        return data

    def pieces(self, stored: StoredObject) -> Iterator[bytes]:
        """An object, piece by piece; each is asked for by itself."""
        path = self._path(stored.name)
        for at in range(0, stored.size_bytes, _READ_BYTES):
            yield self._ask(partial(self._piece, path, at, min(at + _READ_BYTES, stored.size_bytes)))

    def _piece(self, path: str, start: int, end: int) -> bytes:
        data: bytes = self._files.cat_file(path, start=start, end=end)
        if len(data) != end - start:
            raise EOFError(f"{path} came as {len(data):,} of {end - start:,} bytes")
        return data

    def put(self, name: str, data: bytes) -> None:
        """A small object, in one piece: it is there whole or not at all."""

        def write() -> None:
            path = self._path(name)
            if self.scheme != "sftp":
                self._files.pipe_file(path, data)
                return
            # Files grow while they are written, and can be renamed.
            self._make_folder(name)
            self._files.pipe_file(f"{path}{_PARTIAL}", data)
            self._files.mv(f"{path}{_PARTIAL}", path)

        self._ask(write, missing_is_config=True)

    def upload(self, name: str, size_bytes: int, pieces: Callable[[], Iterable[bytes]]) -> None:
        """A large object; `pieces` begins anew with each attempt."""
        block = max(_PART_BYTES, -(-size_bytes // _MOST_PARTS))

        def write() -> None:
            self._make_folder(name)
            file = self._files.open(self._path(name), "wb", block_size=block)
            try:
                for piece in pieces():
                    self._work.check()
                    file.write(piece)
            except BaseException:
                _discard(file)
                raise
            file.close()

        self._ask(write, missing_is_config=True)

    def remove(self, name: str) -> None:
        """Removes an object; one that is gone is no error."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                self._files.rm_file(self._path(name))

        self._ask(remove)

    def has(self, name: str) -> bool:
        """True when an object is there, whatever a listing says."""
        try:
            self.modified(name)
        except FileNotFoundError:
            return False
        return True

    def modified(self, name: str) -> datetime:
        """When an object was put, by the clock of the store."""
        path = self._path(name)
        moment: datetime = self._ask(
            lambda: self._files.info(path)["mtime"] if self.scheme == "sftp" else self._files.modified(path)
        )
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment

    def end_uploads(self, below: str) -> None:
        """Ends uploads in parts that a killed process left open: nobody sees them, and they cost."""
        if self.scheme != "s3":
            return
        bucket, _, prefix = self._path(below).partition("/")

        def end() -> None:
            listed = self._files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/")
            for upload in listed.get("Uploads") or ():
                with suppress(FileNotFoundError):  # another run was faster
                    self._files.call_s3(
                        "abort_multipart_upload",
                        Bucket=bucket,
                        Key=upload["Key"],
                        UploadId=upload["UploadId"],
                    )

        self._ask(end)

    def remove_folder(self, below: str) -> None:
        """Removes an empty folder where there are such things."""
        if self.scheme == "sftp":
            # A parent that is not empty stays.
            self._ask(lambda: self._remove_empty(below))

    def _remove_empty(self, below: str) -> None:
        for name in self._folders(below):
            with suppress(OSError):
                self._files.rmdir(self._path(name))

    def _folders(self, below: str) -> list[str]:
        """Folders below a name, the deepest first."""
        root = self._path(below)
        found = self._files.find(root, withdirs=True, detail=True) if self._files.exists(root) else {}
        paths = sorted((path for path, info in found.items() if info["type"] == "directory"), reverse=True)
        start_at = len(self._path("").strip("/")) + 1
        return [path.lstrip("/")[start_at:] for path in paths] + [below]

    def _make_folder(self, name: str) -> None:
        if self.scheme == "sftp":
            self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)

    def _path(self, name: str) -> str:
        return "/".join(part for part in (self._base, name) if part)

    @cached_property
    def _files(self) -> Any:
        """fsspec's file system, which connects at once to an sftp server."""
        import fsspec

        if self.scheme == "sftp":
            from katax_cli.services.backup.store.sftp import known_host_files

            return known_host_files(self._host)
        options = _S3 if self.scheme == "s3" else {}
        files = fsspec.filesystem(self.scheme, skip_instance_cache=True, use_listings_cache=False, **options)
        if self.scheme == "s3":
            files.retries = 2  # one part again, at once, instead of the whole object
        return files

    def _ask(self, call: Callable[[], T], *, missing_is_config: bool = False) -> T:
        """The answer of a call that may be made twice."""
        repeats = Repeats(self._retry, SYSTEM)
        while True:
            try:
                return self._awaited(call)
            except (KataxError, FileNotFoundError) as error:
                meaning = error
                if isinstance(error, FileNotFoundError) and missing_is_config:
                    meaning = ConfigError(f"there is no {self.url!r}: {_line(error)}; make the bucket first")
            except Exception as error:  # noqa: BLE001 - the libraries' classes, told apart by `_meaning`
                meaning = self._meaning(error, missing_is_config=missing_is_config)
                meaning.__cause__ = error
            seconds = repeats.pause() if isinstance(meaning, Unavailable) else None
            if seconds is None:
                raise meaning
            self._work.wait(seconds)

    def _awaited(self, call: Callable[[], T]) -> T:
        running = start("katax-remote", call)
        asked_at = SYSTEM.monotonic()
        while not running.ended(_LOOK_EVERY):
            self._work.check()
            if SYSTEM.monotonic() - asked_at >= _ASK_AFTER:
                self._refuse_silence(running)
                asked_at = SYSTEM.monotonic()
        if isinstance(running.outcome, BaseException):
            raise running.outcome
        outcome: T = running.outcome
        return outcome

    def _refuse_silence(self, running: Running) -> None:
        """Raises Unavailable when a frozen store answers no question either: what is sent has no limit of time."""
        if self.scheme != "s3":
            return
        asking = start(
            "katax-remote-ask",
            partial(self._files.call_s3, "head_bucket", Bucket=self._base.partition("/")[0]),
        )
        while not asking.ended(_LOOK_EVERY):
            self._work.check()
            if running.ended(0.0):
                return
        error = asking.outcome
        if isinstance(error, Exception):
            meaning = self._meaning(error, missing_is_config=False)
            if isinstance(meaning, Unavailable) and not running.ended(0.0):
                raise meaning

    def _meaning(self, error: Exception, *, missing_is_config: bool) -> KataxError:
        """The error of katax that an error of a library means."""
        names = {kind.__name__ for kind in type(error).__mro__}
        line = _line(error)
        if isinstance(error, PermissionError) or names & _LOGIN_ERRORS or _NO_KEY in line:
            return StoreRefused(self.url, line)
        if isinstance(error, TimeoutError | ConnectionError | EOFError) or names & _LATER_ERRORS:
            return Unavailable(self.url, line)
        if isinstance(error, OSError):
            if error.errno in _LATER or _http_status(error) in _GATEWAY:
                return Unavailable(self.url, line)
            # Of EIO, or of no number, is what a store says in its own words: that it is full, for one.
            if missing_is_config and error.errno not in (errno.EIO, None):
                return ConfigError(f"{self.url!r} cannot be used: {line}")
        return BackupError(f"{self.url!r}: {line}")


def _parsed(url: str) -> tuple[str, dict[str, Any], str]:
    """Scheme, the words that connect (sftp), and the base path. The password is never repeated in the error."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        raise ConfigError(
            f"{scheme}:// is no place for backups; use a folder, {', '.join(f'{s}://' for s in SCHEMES)}"
        )
    authority, slash, path = rest.partition("/")
    login, _, host = authority.rpartition("@")
    if ":" in login or (login and scheme != "sftp"):
        raise ConfigError(
            f"the {scheme}:// URL of the backups holds a key or a password, which others can see; "
            "leave it to the environment, as the store's own tools do"
        )
    if not host or re.search(r"[\x00-\x1f\x7f?#*\[\]]", rest) or ".." in rest.split("/"):
        form = "BUCKET/PREFIX" if scheme != "sftp" else "[USER@]HOST/PATH"
        raise ConfigError(f"{url!r} is no URL of backups; write {scheme}://{form}")
    if scheme != "sftp":
        return scheme, {}, f"{host}/{path}".strip("/")
    name, colon, port = host.partition(":")
    if colon and not port.isdecimal():
        raise ConfigError(f"{url!r} has the port {port!r}, which is no number")
    words: dict[str, Any] = {"host": name} | ({"port": int(port)} if port else {})
    words |= {"username": login} if login else {}
    return scheme, words, f"{slash}{path}".rstrip("/")


def _refuse_without_packages(scheme: str) -> None:
    try:
        import fsspec

        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        more = " gcsfs" if scheme == "gs" else ""
        raise ConfigError(
            f"{scheme}:// needs packages that are not installed; pip install 'katax[remote]'{more}"
        ) from error


def _http_status(error: OSError) -> int | None:
    """The status that a store answered with, where its library says so."""
    response = getattr(error.__cause__, "response", None) or {}
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _discard(file: Any) -> None:
    """Ends an upload without making an object of what was sent so far, where that is possible."""
    with suppress(Exception):  # the error that ended the upload is told, not this one
        if not hasattr(file, "discard"):
            file.close()
            return
        # Its `close`, and that of the garbage collector, would make one.
        file.closed = True
        file.discard()
