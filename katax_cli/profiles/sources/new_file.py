"""Files that a command makes for the project, whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress

from katax_cli.errors import KataxError


def write_new(path: str, text: str) -> None:
    """Writes a file that is not there yet. Raises KataxError, and leaves none, when it cannot be written whole."""
    try:
        file = open(path, "x", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise KataxError(f"cannot write {path}: {error.strerror}") from error
    try:
        with file:
            file.write(text)
    except OSError as error:
        with suppress(OSError):
            os.unlink(path)
        raise KataxError(f"cannot write {path}: {error.strerror}; there is no such file now") from error
