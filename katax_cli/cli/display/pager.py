"""Output that is longer than the terminal, through the pager of its reader."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from typing import BinaryIO

_LESS = "FRX"
"""Leaves at once what fits, shows colours, and keeps the screen as it was; as git sets it."""


def pager_command() -> str | None:
    """`$PAGER`, else `less` where it is installed; None for `PAGER=` and `PAGER=cat`."""
    said = os.environ.get("PAGER")
    if said is None:
        return "less" if shutil.which("less") else None
    return None if said.strip() in ("", "cat") else said


class LongOutput:
    """Keeps output from its first line beyond the terminal's height on, and shows all of it when the command ended."""

    def __init__(self, stream: BinaryIO, *, height: int, command: str) -> None:
        self._stream = stream
        self._height = height
        self._command = command
        self._kept: BinaryIO | None = None

    def take(self, chunks: Iterable[bytes]) -> None:
        """Writes what fits the terminal; keeps all of it where it does not."""
        held: list[bytes] = []
        lines = 0
        for chunk in chunks:
            if self._kept is not None:
                self._kept.write(chunk)
                continue
            held.append(chunk)
            lines += chunk.count(b"\n")
            if lines >= self._height:
                self._kept = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it was shown
                self._kept.writelines(held)
                held.clear()
        for chunk in held:
            self._stream.write(chunk)
        self._stream.flush()

    def took(self, data: bytes) -> bool:
        """Keeps a later output behind the former; False when nothing is kept."""
        if self._kept is None:
            return False
        self._kept.write(data)
        return True

    def fit(self, height: int) -> None:
        """The terminal has so many lines by now."""
        self._height = height

    def drop(self) -> None:
        """Forgets what was kept."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def show(self, *, page: bool = True) -> None:
        """Shows what was kept; without the pager when the command failed, or when it cannot be run."""
        kept, self._kept = self._kept, None
        if kept is None:
            return
        with kept:
            kept.flush()
            kept.seek(0)
            if not (page and self._paged(kept)):
                kept.seek(0)
                shutil.copyfileobj(kept, self._stream)
                self._stream.flush()

    def _paged(self, kept: BinaryIO) -> bool:
        # Ctrl-C is the pager's key meanwhile, as of every pager.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            environment = {"LESS": _LESS, "LV": "-c", **os.environ}
            ended = subprocess.run(self._command, shell=True, stdin=kept, env=environment, check=False)
        finally:
            signal.signal(signal.SIGINT, before)
        return ended.returncode not in (126, 127)
