"""`katax ws` in processes of their own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cli.processes import spawn

Process = subprocess.Popen[bytes]


@contextmanager
def serving(*words: str, **more: object) -> Iterator[Process]:
    """`katax ws serve WORDS…` that listens."""
    with _begun("serve", words, b" listens on ", more) as process:
        yield process


@contextmanager
def listening(*words: str) -> Iterator[Process]:
    """`katax ws listen WORDS…` that has begun."""
    with _begun("listen", words, b"listening at ", {}) as process:
        yield process


@contextmanager
def _begun(command: str, words: tuple[str, ...], says: bytes, more: dict[str, object]) -> Iterator[Process]:
    process = spawn("ws", command, *words, **more)
    try:
        line = said(process)
        assert says in line, line
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: Process) -> bytes:
    """The next line on its stderr."""
    assert process.stderr is not None
    return bytes(process.stderr.readline())


def next_row(process: Process) -> Any:
    """The next line on its stdout."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def rows_of(process: Process) -> list[Any]:
    """What is on its stdout until it ends."""
    out, _ = process.communicate(timeout=120)
    return [json.loads(line) for line in out.splitlines()]
