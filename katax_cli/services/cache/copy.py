"""Keys of all types out of a cache and into another, with the time that they have to live.

One JSON object a line: `key` (or `key_base64` where it is not UTF-8), `type`, `ttl_ms` (null: for ever), and
`dump`, the server's own serialization in base64, which a server of the same or a later version restores.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from katax_cli.core.resilience.failure import Failure
from katax_cli.core.text.js_json import parse, stringify
from katax_cli.core.text.text import base64_text
from katax_cli.errors import KataxError
from katax_cli.services.cache.cache import Cache
from katax_cli.services.calls.guard import Safety
from katax_cli.services.redis.values import chunks

_AT_ONCE = 500
_BYTES_AT_ONCE = 2**20


@dataclass(frozen=True, slots=True)
class LoadedKeys:
    """The number of imported keys, and of those left as they are because they existed."""

    imported: int
    skipped: int


def export(cache: Cache, pattern: str = "*") -> Iterator[list[str]]:
    """Lines for all keys that match, in batches; a key that ends meanwhile is left out."""
    prefix = cache.full("")
    for batch in cache.keys().distinct(pattern):
        for names in chunks(batch, _AT_ONCE):
            commands = [
                command
                for name in names
                for command in (("TYPE", prefix + name), ("PTTL", prefix + name), ("DUMP", prefix + name))
            ]
            replies = cache.redis.pipeline(commands, safety=Safety.READ)
            rows = zip(names, replies[0::3], replies[1::3], replies[2::3], strict=True)
            yield [_line(name, kind, ttl, dump) for name, kind, ttl, dump in rows if dump is not None]


def estimate(cache: Cache, pattern: str = "*") -> int | None:
    """How many keys `export` will find, where the server can say it without a scan."""
    if pattern != "*" or cache.full(""):
        return None
    # A user who may not ask for the size exports without a total.
    with suppress(KataxError):
        return cache.keys().size()
    return None


def load(
    cache: Cache,
    lines: Iterable[bytes],
    *,
    replace: bool = False,
    on_batch: Callable[[int], object] = lambda _: None,
) -> LoadedKeys:
    """Restores exported lines as they come, few at a time; keys that exist are skipped unless `replace`.

    Raises ValueError for a line that is not one of `export`, KataxError for one that the server refuses;
    what came before it is in. `on_batch` hears how many keys were dealt with so far.
    """
    imported = skipped = 0
    for batch in _batches(lines):
        commands = [_restore(cache, number, line, replace) for number, line in batch]
        replies = cache.redis.pipeline(commands, tolerant=True)
        for (number, _), reply in zip(batch, replies, strict=True):
            if isinstance(reply, Failure) and reply.code != "BUSYKEY":
                raise KataxError(f"line {number} was refused: {reply.message}; the lines before it are in")
            skipped += isinstance(reply, Failure)
        imported += len(batch)
        on_batch(imported)
    return LoadedKeys(imported - skipped, skipped)


def _batches(lines: Iterable[bytes]) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines, so few and short that all of a batch are held at once; blank ones are left out."""
    batch: list[tuple[int, bytes]] = []
    size = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        batch.append((number, line))
        size += len(line)
        if len(batch) == _AT_ONCE or size >= _BYTES_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _line(name: bytes, kind: bytes, ttl_ms: int, dump: bytes) -> str:
    facts = {"type": kind.decode(), "ttl_ms": ttl_ms if ttl_ms >= 0 else None, "dump": base64_text(dump)}
    return stringify(_named(name) | facts)


def _named(name: bytes) -> dict[str, Any]:
    try:
        return {"key": name.decode("utf-8")}
    except UnicodeDecodeError:
        return {"key_base64": base64_text(name)}


def _restore(cache: Cache, number: int, line: bytes, replace: bool) -> tuple[bytes | str | int, ...]:
    try:
        facts = parse(line.decode("utf-8"))
        name = (
            facts["key"].encode("utf-8") if "key" in facts else b64decode(facts["key_base64"], validate=True)
        )
        ttl, dump = facts["ttl_ms"], b64decode(facts["dump"], validate=True)
        lifetime = 0 if ttl is None else max(1, int(ttl))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"line {number} is no line of 'cache export': expected key, ttl_ms and dump"
        ) from error
    return ("RESTORE", cache.full("") + name, lifetime, dump, *(("REPLACE",) if replace else ()))
