"""One TOML file: read if it can be trusted, parsed once, able to say on which line a key stands."""

from __future__ import annotations

import os
from typing import Any

from katax_cli.errors import ConfigError
from katax_cli.profiles.model.layer import Layer
from katax_cli.profiles.sources.ownership import distrust


def read_layer(path: str, notes: list[str]) -> Layer | None:
    """Reads a file; None when there is none or others could have written it (a note says so).

    Raises ConfigError with file, line and column when it is not TOML.
    """
    text = read_trusted(path, notes)
    return None if text is None else Layer(parse(path, text), path, text)


def read_trusted(path: str, notes: list[str]) -> str | None:
    """The text of a file, or None when it is not there or not to be trusted (a note says so)."""
    try:
        # Checking the open file, not its name, leaves no moment to swap it.
        with open(path, encoding="utf-8-sig", newline="", opener=_open_at_once) as file:
            reason = distrust(os.fstat(file.fileno()))
            if reason is None:
                return file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: byte {error.start} cannot be decoded") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    notes.append(f"ignored {path}: {reason}")
    return None


def _open_at_once(path: str, flags: int) -> int:
    # Opening a FIFO that somebody left in a shared folder would wait for its writer.
    return os.open(path, flags | os.O_NONBLOCK)


def parse(path: str, text: str) -> dict[str, Any]:
    """Parses TOML. Raises ConfigError with file, line and column."""
    import tomllib

    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).rpartition(" (at ")
        raise ConfigError(f"{path}:{_position(where, text)}: not valid TOML: {what.lower()}") from None
    except RecursionError:
        raise ConfigError(f"{path}: its values are nested too deeply to be read") from None


def _position(where: str, text: str) -> str:
    """`line 3, column 5)` as `3:5`; the end of the document as its last line."""
    numbers = [word.rstrip(",)") for word in where.split() if word.rstrip(",)").isdigit()]
    return ":".join(numbers) or str(text.count("\n") + 1)
