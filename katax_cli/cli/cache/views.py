"""The arguments and results of `katax cache`: words to values and values to rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import typer

from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.redis import cell
from katax_cli.core.text.js_json import parse, stringify
from katax_cli.core.text.text import to_bytes, to_text
from katax_cli.services.redis.keyspace import Survey
from katax_cli.services.redis.values import decode, to_stored

VALUE_HEADER = ("key", "value")
FINDING_HEADER = ("check", "subject", "message")


def value_row(key: str, data: bytes | None, *, text: bool) -> tuple[object, object]:
    """A key and its value: strings bare, other JSON as it is stored."""
    name = cell(to_bytes(key), text=text)
    if data is None:
        return name, None
    shown = cell(data, text=text)
    value = decode(data) if isinstance(shown, str) else shown
    return name, to_text(data) if text and not isinstance(value, str) else value


def pairs_to_store(call: Invocation, pairs: Sequence[str]) -> dict[str, bytes]:
    """The values to store, from K=V words or from one JSON object on stdin or in a file."""
    if len(pairs) == 1 and (pairs[0] == "-" or pairs[0].startswith("@")):
        return _object_to_store(pairs[0], call.input_bytes(pairs[0]))
    split = [pair.partition("=") for pair in pairs]
    for key, equals, _ in split:
        if not (key and equals):
            raise typer.BadParameter(f"{key!r} has no value; write KEY=VALUE")
    return {key: to_stored(to_bytes(value)) for key, _, value in split}


def _object_to_store(source: str, data: bytes) -> dict[str, bytes]:
    where = "stdin" if source == "-" else repr(source[1:])
    try:
        values = parse(data.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{where} is no JSON: {error}; expected one object of keys and values") from error
    if not isinstance(values, dict):
        raise ValueError(f"{where} holds JSON of another kind; expected one object of keys and values")
    return {key: stringify(value).encode() for key, value in values.items()}


def replacing(count: int | None) -> str:
    """The effect of an import of so many lines, as a sentence."""
    return "replace the keys that exist" if count is None else f"replace up to {count} keys"


def lines_of(file: BinaryIO) -> int | None:
    """The number of lines; None for a stream that can be read only once."""
    if not file.seekable():
        return None
    start = file.tell()
    count = sum(1 for _ in file)
    file.seek(start)
    return count


def survey_facts(survey: Survey) -> dict[str, object]:
    """The number of keys for programs; `at_least` where they could not all be counted in time."""
    return {"matching": survey.matching, **({"at_least": True} if survey.at_least else {})}


def survey_lines(survey: Survey, pattern: str) -> list[str]:
    """The keys that would be deleted, as lines for people."""
    lines = [f"{survey.count} keys match {pattern!r}"]
    if survey.bytes is not None:
        from katax_cli.services.redis.info import human_bytes

        lines[0] += f", about {human_bytes(survey.bytes)}"
    if survey.measured:
        lines.append(f"types: {_shares(survey.types, survey.measured)}")
        lines.append(f"lifetimes: {_shares(survey.lifetimes, survey.measured)}")
    return lines


def _shares(counts: Any, total: int) -> str:
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{name} {count / total:.0%}" for name, count in ordered)


def reply_value(reply: object, *, text: bool) -> object:
    """A server's reply with its bytes as text, or as base64 where they are none."""
    if isinstance(reply, bytes):
        return cell(reply, text=text)
    return [reply_value(part, text=text) for part in reply] if isinstance(reply, list | tuple) else reply
