"""Replies of Redis as values and as redis-cli draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from katax_cli.core.text.text import base64_text, is_utf8, printable, to_text


def parts_of(reply: Any) -> Sequence[Any]:
    """The elements of an array, or the reply alone."""
    return reply if isinstance(reply, list | tuple) else [reply]


def as_json(reply: Any) -> object:
    """A reply for JSON; bytes that are no text as base64."""
    if isinstance(reply, bytes):
        return reply.decode() if is_utf8(reply) else {"base64": base64_text(reply)}
    if isinstance(reply, list | tuple | set):
        return [as_json(part) for part in reply]
    if isinstance(reply, dict):
        return {str(as_cell(key)): as_json(value) for key, value in reply.items()}
    return {"error": str(reply)} if isinstance(reply, Exception) else reply


def as_cell(reply: Any) -> object:
    """An element for csv and tsv."""
    return to_text(reply) if isinstance(reply, bytes) else as_json(reply)


def drawn(reply: Any, indent: str = "") -> Iterator[str]:
    """A reply as redis-cli draws it."""
    if isinstance(reply, dict):
        reply = [part for pair in reply.items() for part in pair]
    if not isinstance(reply, list | tuple | set):
        yield _drawn_one(reply)
        return
    if not reply:
        yield "(empty array)"
    size = len(str(len(reply)))
    for number, part in enumerate(reply, 1):
        head = f"{number:>{size}}) "
        first, *rest = drawn(part, indent + " " * len(head))
        yield (indent if number > 1 else "") + head + first
        yield from rest


def _drawn_one(reply: Any) -> str:
    if reply is None:
        return "(nil)"
    if isinstance(reply, bytes):
        text = printable(to_text(reply))
        return '"' + text.replace('"', '\\"') + '"'
    if isinstance(reply, Exception):
        return f"(error) {printable(str(reply))}"
    return (
        f"(integer) {reply}"
        if isinstance(reply, int) and not isinstance(reply, bool)
        else printable(str(reply))
    )
