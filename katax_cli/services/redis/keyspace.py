"""The keys under a prefix on every server that has some: looked at by SCAN, deleted by UNLINK, never by KEYS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import chain
from string import ascii_letters, digits
from typing import Any

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.resilience.failure import Failure
from katax_cli.core.text.text import to_bytes, to_text
from katax_cli.errors import QueryError, Unavailable
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import Commands
from katax_cli.services.redis.lua import PURGE_PAGE

_SCAN_COUNT = 1000
_FIRST_BATCH, _SMALLEST_BATCH, _LARGEST_BATCH = 500, 50, 10_000
_ROUND_TRIP_SECONDS = 0.002
"""What one batch may take: other clients of the server wait that long at the most."""
_TRIED_LENGTHS = (4, 9, 30)
_COUNTING_SECONDS = 5.0
_KNOWN_KEYS = 50_000
"""So many keys are told from those that SCAN repeats; of more, those that it repeats count again."""
_MEASURED_KEYS = 200
_PASSES = 5
_TTL_BUCKETS: tuple[tuple[float, str], ...] = (
    (60_000, "under 1m"),
    (3_600_000, "under 1h"),
    (86_400_000, "under 1d"),
    (float("inf"), "1d and more"),
)


@dataclass(frozen=True, slots=True)
class Survey:
    """The keys that match a pattern. With `at_least`, counting took too long and there are more.

    `types` and `lifetimes` count the `measured` keys of a sample; `bytes` is an estimate by it, None where the server
    does not say.
    """

    matching: int
    at_least: bool
    measured: int
    bytes: int | None
    types: Mapping[str, int]
    lifetimes: Mapping[str, int]

    @property
    def count(self) -> str:
        """The number of keys, for people: `602361`, or `at least 602361`."""
        return f"at least {self.matching}" if self.at_least else str(self.matching)


def matches_everything(pattern: str) -> bool:
    """True for a glob that nearly every key matches, such as `*`, `?*` or `[^_]*`, by trying it on made-up keys."""
    # To Redis, `[^]` is any one character.
    glob = pattern.replace("[^]", "?").replace("[^", "[!")
    keys = [letter * length for letter in ascii_letters + digits for length in _TRIED_LENGTHS]
    return sum(fnmatchcase(key, glob) for key in keys) > 0.9 * len(keys)


class Keyspace:
    """Keys are bytes without the prefix; patterns are Redis globs below it. Raises ValueError for an empty one."""

    def __init__(self, redis: Commands, prefix: str = "", *, clock: Clock = SYSTEM) -> None:
        self._redis = redis
        self._prefix = to_bytes(prefix)
        self._clock = clock

    def scan(
        self, pattern: str = "*", *, count: int = _SCAN_COUNT, type: str | None = None
    ) -> Iterator[list[bytes]]:
        """Keys that match, in batches, all or those of a type; SCAN may repeat keys and never blocks the server."""
        match, skip = self._match(pattern), len(self._prefix)
        for shard in self._redis.shards():
            for keys in chain.from_iterable(self._walks(shard, match, count, type)):
                if keys:
                    yield [key[skip:] for key in keys]

    def distinct(self, pattern: str = "*", *, type: str | None = None) -> Iterator[list[bytes]]:
        """The same, each key once; holds all of them in memory."""
        seen: set[bytes] = set()
        for batch in self.scan(pattern, type=type):
            fresh = [key for key in dict.fromkeys(batch) if key not in seen]
            seen.update(fresh)
            yield fresh

    def beginning_with(self, text: str) -> Iterator[str]:
        """Keys that begin with a text, for completion: what is not UTF-8 in them is escaped."""
        batches = self.scan(to_text(escape_glob(to_bytes(text))) + "*")
        return (key.decode("utf-8", "backslashreplace") for key in chain.from_iterable(batches))

    def size(self) -> int:
        """The number of keys under any prefix."""
        return sum(
            self._redis.redis("DBSIZE", safety=Safety.READ, shard=shard) for shard in self._redis.shards()
        )

    def survey(self, pattern: str, *, seconds: float = _COUNTING_SECONDS) -> Survey:
        """The keys that match a pattern, counted one by one; after `seconds` the count so far."""
        ends = self._clock.monotonic() + seconds
        counted, whole = _SurveyCount(self._clock), True
        for shard in self._redis.shards():
            before = counted
            for walk in self._walks(shard, self._match(pattern), _SCAN_COUNT):
                counted = before.copy()
                for keys in walk:
                    counted.add(keys)
                    if self._clock.monotonic() >= ends:
                        whole = False
                        break
                if not whole:
                    break
        return self._measured(counted.sample, counted.matching, at_least=not whole)

    def clear(self, pattern: str, *, on_batch: Callable[[int], object] = lambda _: None) -> int:
        """Deletes all keys that match; returns how many there were. Repeated after a failure it deletes the rest.

        Batches grow and shrink so that one round trip takes about 2 ms.
        """
        match = self._match(pattern)
        deleted = 0
        for gone in self._purge(match):
            deleted += gone
            on_batch(deleted)
        return deleted

    def facts(self, keys: Sequence[bytes]) -> list[tuple[str, int, int | None]]:
        """For each full key: its type ("none" when it is gone), PTTL, and bytes if the server says."""
        commands = chain.from_iterable(
            (("TYPE", key), ("PTTL", key), ("MEMORY", "USAGE", key)) for key in keys
        )
        replies = self._redis.pipeline(list(commands), safety=Safety.READ, tolerant=True)
        triples = zip(replies[0::3], replies[1::3], replies[2::3], strict=True)
        return [
            (kind.decode(), ttl, None if size is None or isinstance(size, Failure) else int(size))
            for kind, ttl, size in triples
        ]

    def _match(self, pattern: str) -> bytes:
        if not pattern:
            raise ValueError("the pattern is empty; write '*' for all keys, or a glob such as 'temp:*'")
        return escape_glob(self._prefix) + to_bytes(pattern)

    def _page(
        self, shard: Any, cursor: bytes, match: bytes, count: int, type: str | None = None
    ) -> tuple[bytes, list[bytes]]:
        words = ("SCAN", cursor, "MATCH", match, "COUNT", count, *(() if type is None else ("TYPE", type)))
        cursor, keys = self._redis.redis(*words, safety=Safety.READ, shard=shard)
        return cursor, keys

    def _walks(
        self, shard: Any, match: bytes, count: int, type: str | None = None
    ) -> Iterator[Iterator[list[bytes]]]:
        """Walks by SCAN on one server, each to be taken to its end before the next; the last one gives all keys."""
        return (self._walk(shard, match, count, type) for _ in self._passes(shard))

    def _walk(self, shard: Any, match: bytes, count: int, type: str | None) -> Iterator[list[bytes]]:
        cursor = b""
        while cursor != b"0":
            cursor, keys = self._page(shard, cursor or b"0", match, count, type)
            yield keys

    def _passes(self, shard: Any) -> Iterator[None]:
        """Once for each walk by SCAN, until one process answered all of it: a cursor means nothing to another.

        Two answers in a row of different processes are a proxy's, which asks now this one and now that: nobody tells
        then whose the cursors are, and one walk has to do. Raises Unavailable after several in vain.
        """
        run = self._run(shard)
        if run != self._run(shard):
            run = b""
        for _ in range(_PASSES):
            yield
            # Behind Sentinels, this finds out whether they name another server by now.
            self._redis.shards()
            before, run = run, run and self._run(shard)
            if run == before or run != self._run(shard):
                return
        raise Unavailable(
            self._redis.name, "its server was another one again and again while keys were listed"
        )

    def _run(self, shard: Any) -> bytes:
        """The process that answers; another one after a restart or a failover. Empty for a user who may not ask."""
        try:
            info: bytes = self._redis.redis("INFO", "server", safety=Safety.READ, shard=shard)
        except QueryError:
            return b""
        return next((line for line in info.splitlines() if line.startswith(b"run_id:")), b"")

    def _measured(self, sample: Sequence[bytes], matching: int, *, at_least: bool) -> Survey:
        facts = [fact for fact in self.facts(sample) if fact[0] != "none"] if sample else []
        sizes = [size for _, _, size in facts if size is not None]
        return Survey(
            matching,
            at_least,
            measured=len(facts),
            bytes=round(matching * sum(sizes) / len(sizes)) if sizes else None,
            types=dict(Counter(kind for kind, _, _ in facts)),
            lifetimes=dict(Counter(lifetime_bucket(ttl) for _, ttl, _ in facts)),
        )

    def _purge(self, match: bytes) -> Iterator[int]:
        if self._redis.settings.topology == "cluster":
            for shard in self._redis.shards():
                yield from self._by_pages(
                    lambda *page, shard=shard: self._unlink_page(shard, *page), match, shard
                )
            return
        (shard,) = self._redis.shards()
        try:
            yield from self._by_pages(self._purge_page, match, shard)
        except QueryError as error:
            if error.code != "NOPERM":
                raise
            # A user who may not run scripts; the keys travel then.
            yield from self._by_pages(lambda *page: self._unlink_page(shard, *page), match, shard)

    def _by_pages(
        self, delete: Callable[[bytes, bytes, int], tuple[bytes, int]], match: bytes, shard: Any
    ) -> Iterator[int]:
        """The number of deleted keys of each page, until the last; the next page is as large as this one was fast."""
        size = _FIRST_BATCH
        for _ in self._passes(shard):
            cursor = b""
            while cursor != b"0":
                started = self._clock.monotonic()
                cursor, gone = delete(cursor or b"0", match, size)
                if gone:
                    yield gone
                size = next_batch(size, self._clock.monotonic() - started)

    def _purge_page(self, cursor: bytes, match: bytes, size: int) -> tuple[bytes, int]:
        cursor, gone = PURGE_PAGE(self._redis, [], cursor, match, size, safety=Safety.IDEMPOTENT)
        return cursor, gone

    def _unlink_page(self, shard: Any, cursor: bytes, match: bytes, size: int) -> tuple[bytes, int]:
        """One by one: keys of one command must be in one slot, and a slot may be on its way to another node."""
        cursor, keys = self._page(shard, cursor, match, size)
        commands = [("UNLINK", key) for key in keys]
        return cursor, sum(self._redis.pipeline(commands, safety=Safety.IDEMPOTENT)) if commands else 0


@dataclass(slots=True)
class _SurveyCount:
    """Keys so far, those that SCAN repeated once, and a sample of them."""

    clock: Clock
    matching: int = 0
    sample: list[bytes] = field(default_factory=list)
    known: set[bytes] = field(default_factory=set)

    def copy(self) -> _SurveyCount:
        return _SurveyCount(self.clock, self.matching, self.sample.copy(), self.known.copy())

    def add(self, keys: Sequence[bytes]) -> None:
        fresh = [key for key in dict.fromkeys(keys) if key not in self.known]
        if len(self.known) < _KNOWN_KEYS:
            self.known.update(fresh)
        for key in fresh:
            self.matching += 1
            self._keep(key)

    def _keep(self, key: bytes) -> None:
        """Keeps each of `matching` keys with the same probability (Vitter's algorithm R)."""
        if len(self.sample) < _MEASURED_KEYS:
            self.sample.append(key)
        elif (place := int(self.clock.random() * self.matching)) < _MEASURED_KEYS:
            self.sample[place] = key


def next_batch(size: int, seconds: float) -> int:
    """The size of the next batch when one of `size` took `seconds`; at most twice or half of it."""
    wanted = size * _ROUND_TRIP_SECONDS / seconds if seconds > 0 else size * 2
    return int(min(max(wanted, size / 2, _SMALLEST_BATCH), size * 2, _LARGEST_BATCH))


def lifetime_bucket(ttl_ms: int) -> str:
    """The bucket of a PTTL in a histogram."""
    if ttl_ms < 0:
        return "for ever"
    return next(name for limit, name in _TTL_BUCKETS if ttl_ms < limit)


def escape_glob(text: bytes) -> bytes:
    """`text` as a Redis glob that matches nothing but itself."""
    return b"".join(b"\\" + bytes([c]) if c in b"*?[]\\^-" else bytes([c]) for c in text)
