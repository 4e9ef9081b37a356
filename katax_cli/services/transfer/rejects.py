"""The file of refused rows: line, reason and text of each, on disk before the batch is committed."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from typing import BinaryIO

from katax_cli.errors import ConfigError

_HEADER = ("line", "reason", "row")


@dataclass(slots=True)
class Rejects:
    """`path` None: they are counted only. The file is made with the first one."""

    path: str | None
    size: int = 0
    """Bytes that are committed; what is behind them is of a batch that was not."""
    count: int = 0
    _file: BinaryIO | None = None

    def add(self, line: int, reason: str, row: str) -> None:
        self.count += 1
        if self.path is None:
            return
        file = self._opened(self.path)
        if file.tell() == 0:
            file.write(_line(_HEADER))
        file.write(_line((str(line), reason, row)))

    def _opened(self, path: str) -> BinaryIO:
        if self._file is None:
            try:
                self._file = open(path, "r+b" if self.size else "wb")  # noqa: SIM115 - closed by `close`
            except OSError as error:
                raise ConfigError(
                    f"cannot write {path!r}: {error.strerror}; name another file with --rejects"
                ) from error
            self._file.truncate(self.size)
            self._file.seek(self.size)
        return self._file

    def kept(self) -> int:
        """Has all of it on disk; returns the length of the file."""
        if self._file is None:
            return self.size
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _line(cells: tuple[str, ...]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    text = buffer.getvalue()
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # JSON can hold half a character, which no bytes of a file stand for.
        return text.encode("utf-8", "backslashreplace")
