"""On which line of a TOML text a key stands; `tomllib` does not say."""

from __future__ import annotations

from collections.abc import Iterator

_QUOTES = ('"""', "'''")


def line_of(text: str, path: tuple[str, ...]) -> int | None:
    """The line (from 1) of the key, or of the longest part of its path that is written; None if none is.

    Keys inside inline tables and arrays stand on the line of the key that holds them.
    """
    best, where = 0, None
    for line, written in _keys(text):
        shared = _shared(written, path)
        if shared > best:
            best, where = shared, line
    return where


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """The number of parts that two paths begin with together."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _keys(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each header and each key of the text with its full path."""
    table: tuple[str, ...] = ()
    inside: str | None = None
    for number, raw in enumerate(text.splitlines(), start=1):
        if inside is None:
            line = raw.strip()
            if line.startswith("["):
                table = _dotted(line.lstrip("[ \t"))[0]
                yield number, table
            else:
                key, rest = _dotted(line)
                if key and rest.startswith("="):
                    yield number, table + key
        inside = _open_quote(raw, inside)


def _open_quote(line: str, inside: str | None) -> str | None:
    """The triple quote that is open after this line."""
    while line:
        if inside is not None:
            _, found, line = line.partition(inside)
            inside = None if found else inside
            continue
        start = min((at for at in map(line.find, _QUOTES) if at >= 0), default=-1)
        if start < 0 or "#" in line[:start]:
            return None
        inside, line = line[start : start + 3], line[start + 3 :]
    return inside


def _dotted(text: str) -> tuple[tuple[str, ...], str]:
    """Splits `a."b.c".d rest` into its parts and what follows them."""
    parts: list[str] = []
    while text:
        part, text = _part(text)
        if part is None:
            break
        parts.append(part)
        text = text.lstrip()
        if not text.startswith("."):
            break
        text = text[1:].lstrip()
    return tuple(parts), text


def _part(text: str) -> tuple[str | None, str]:
    if text[0] in "\"'":
        name, found, rest = text[1:].partition(text[0])
        return (name, rest) if found else (None, text)
    end = next((at for at, char in enumerate(text) if not (char.isalnum() or char in "-_")), len(text))
    return (text[:end], text[end:]) if end else (None, text)
