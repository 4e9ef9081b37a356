"""The files of rows that pg_dump writes: compressed, digested and counted while it writes them.

pg_dump writes them uncompressed, beside it each is read once as it grows, and its disk space is given back as far as it
was read (where the file system can do that: Linux, on ext4, XFS, Btrfs, tmpfs). So no byte is compressed, read back and
decompressed again to be counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import NamedTuple, Self

from katax_cli.errors import BackupError
from katax_cli.services.backup.manifest import DumpFile
from katax_cli.services.backup.streams import CHUNK, compressed_file
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.cron.run.output_keeper import punch

TOC = "toc.dat"
"""The table of contents, which pg_dump writes last; the other files with its ending are of rows and large objects."""
_RAW = ".dat"
_LARGE_OBJECT = "blob_"
_END = b"\\.\n\n\n"
_FREED_AT_ONCE = 8 * CHUNK
_LOOK_SECONDS = 0.02


class CompressedRows(NamedTuple):
    """A file that is compressed now; `rows` is None for a large object, whose contents are no rows."""

    file: DumpFile
    rows: int | None


class RowCount:
    """Counts the rows in COPY's lines; an end mark, which no row is like, proves that they are all there."""

    def __init__(self) -> None:
        self._lines = 0
        self._tail = b""

    def take(self, piece: bytes) -> None:
        """The next piece, of any size."""
        self._lines += piece.count(b"\n")
        self._tail = (self._tail + piece[-len(_END) :])[-len(_END) :]

    @property
    def is_ended(self) -> bool:
        """True after the end mark."""
        return self._tail == _END

    @property
    def rows(self) -> int:
        return self._lines - _END.count(b"\n")


class GrowingFiles:
    """Reads the files of a folder while a tool writes them, in as many threads as it has workers.

    A context manager: at its end no thread reads on. `finish` says that the tool has ended.
    """

    def __init__(self, folder: Path, ending: str, work: StoppableWork, workers: int) -> None:
        """`ending` is the ending of the compressed files, which says how they are compressed."""
        self._folder, self._ending, self._work = folder, ending, work
        self._lock = Lock()
        self._known: set[str] = set()
        self._waiting: list[str] = []
        self._sizes: dict[str, int] = {}
        self._done: dict[str, CompressedRows] = {}
        self._tool_ended = self._stopped = False
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="katax-backup")
        self._threads: list[Future[None]] = []
        self._workers = workers
        self.written_bytes = 0
        """Of compressed data, so far."""

    def __enter__(self) -> Self:
        self._threads = [self._pool.submit(self._serve) for _ in range(self._workers)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._pool.shutdown()

    def check(self) -> None:
        """Raises what ended a thread: OSError on a full disk, BackupError."""
        for thread in self._threads:
            if thread.done():
                thread.result()

    def finish(self) -> list[CompressedRows]:
        """All files, by name, after the tool has ended; its own are gone. Raises BackupError for one that is cut."""
        self._tool_ended = True
        for thread in self._threads:
            thread.result()
        for name, size in self._sizes.items():
            raw = self._folder / name
            if not raw.is_file() or raw.stat().st_size != size:
                raise BackupError(f"pg_dump wrote {name!r} and changed it after its end")
            raw.unlink()
        return [self._done[name] for name in sorted(self._done)]

    def _serve(self) -> None:
        while not self._stopped:
            ended = self._tool_ended  # before the look: what is not there afterwards never comes
            name = self._next(with_large_objects=ended)
            if name is not None:
                self._compress(name)
            elif ended:
                return
            else:
                self._work.wait(_LOOK_SECONDS)

    def _next(self, *, with_large_objects: bool) -> str | None:
        """A file that no thread has taken. Large objects have no end mark: they are read when they grow no more."""
        with self._lock:
            if not self._waiting and self._folder.is_dir():
                names = {name for name in os.listdir(self._folder) if name.endswith(_RAW)}
                names -= {TOC, *self._known}
                self._waiting = sorted(
                    (name for name in names if with_large_objects or not name.startswith(_LARGE_OBJECT)),
                    reverse=True,
                )
                self._known.update(self._waiting)
            return self._waiting.pop() if self._waiting else None

    def _compress(self, name: str) -> None:
        count = None if name.startswith(_LARGE_OBJECT) else RowCount()
        path = self._folder / f"{name}{self._ending}"
        with ExitStack() as stack:
            target = stack.enter_context(compressed_file(path, threads=0))
            size = told = 0
            for piece in self._pieces(self._folder / name, count):
                size += len(piece)
                target.write(piece)
                told = self._told(told, target.size_bytes)
            if self._stopped:
                return
            if count is not None and not count.is_ended:
                raise BackupError(
                    f"pg_dump wrote {name!r} and it is not whole: it does not end as pg_dump ends a table"
                )
            self._done[name] = CompressedRows(target.close(), None if count is None else count.rows)
            self._sizes[name] = size
            self._told(told, target.size_bytes)

    def _pieces(self, path: Path, count: RowCount | None) -> Iterator[bytes]:
        """The contents of a file until its end, which it may not have reached yet; counted, and freed behind."""
        freed = size = 0
        with path.open("r+b", buffering=0) as source:
            while not self._stopped:
                self._work.check()
                ended = self._tool_ended
                if piece := source.read(CHUNK):
                    if count is not None:
                        count.take(piece)
                    yield piece
                    size += len(piece)
                    if size - freed >= _FREED_AT_ONCE:
                        punch(source.fileno(), freed, size)
                        freed = size
                elif ended or (count is not None and count.is_ended):
                    return
                else:
                    self._work.wait(_LOOK_SECONDS)

    def _told(self, told: int, size: int) -> int:
        with self._lock:
            self.written_bytes += size - told
        return size
