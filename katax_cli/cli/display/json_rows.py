"""Rows as a JSON array or as JSON lines, written as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from katax_cli.core.text.text import to_json


def array(encode: Callable[[Any], str], batches: Iterable[Sequence[Any]], *, one_line: bool) -> Iterator[str]:
    """The rows, as `encode` writes each, as chunks of one JSON array; `one_line`: without line ends."""
    start, between, end = ("[", ", ", "]\n") if one_line else ("[\n  ", ",\n  ", "\n]\n")
    first = True
    for batch in batches:
        if batch:
            rows = map(_in_one_line, map(encode, batch)) if one_line else map(encode, batch)
            yield (start if first else between) + between.join(rows)
            first = False
    yield "[]\n" if first else end


def lines(encode: Callable[[Any], str], batches: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The rows, as `encode` writes each, one a line."""
    for batch in batches:
        if batch:
            yield "\n".join(_in_one_line(encode(row)) for row in batch) + "\n"


def _in_one_line(encoded: str) -> str:
    """Only JSON of a server has line ends, which may stand between its values."""
    return encoded.replace("\r", " ").replace("\n", " ")


def object_encoder(names: tuple[str, ...]) -> Callable[[Sequence[object]], str]:
    """A writer of rows as objects with these keys."""
    keys = [to_json(name) + ": " for name in names]

    def encode(row: Sequence[object]) -> str:
        return "{" + ", ".join([key + to_json(value) for key, value in zip(keys, row, strict=True)]) + "}"

    return encode
