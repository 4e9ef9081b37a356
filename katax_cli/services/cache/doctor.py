"""Diagnosis of a cache: problems found in INFO and in a sample of its keys, within a bounded effort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from katax_cli.core.clock import SYSTEM
from katax_cli.core.text.text import to_text
from katax_cli.engines.redis.metrics import hit_rate
from katax_cli.services.cache.cache import Cache
from katax_cli.services.redis.info import human_bytes, server_infos
from katax_cli.services.redis.values import chunks

_BIG_BYTES = 1 << 20
_CLIFF_SHARE, _CLIFF_KEYS = 0.1, 20
_FRAGMENTED, _FRAGMENTED_BYTES = 1.5, 64 << 20
_FULL = 0.8
_LOW_HIT_RATE, _LOOKUPS = 0.5, 1000
_OUTPUT_BUFFER_BYTES = 32 << 20
_FACTS_AT_ONCE = 500
_FAMILIES = 10
"""So many are named, the others are one finding together."""
_NAMELESS = "keys without ':'"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; `subject` is a pattern, a key, or the server."""

    check: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class _SampledKey:
    name: str
    ttl_ms: int
    bytes: int | None

    @property
    def family(self) -> str:
        """The pattern of keys like this one: `user:1:x` → `user:*`."""
        head, colon, _ = self.name.partition(":")
        return f"{head}:*" if colon else _NAMELESS


def examine(cache: Cache, *, sample: int = 10_000) -> tuple[list[Finding], int]:
    """Findings, and how many keys were looked at: at most about `sample`."""
    keys = _sampled(cache, sample)
    infos = server_infos(cache.redis)
    findings = [
        *_without_ttl(keys),
        *_cliffs(keys, SYSTEM.now()),
        *_big(keys),
        *(finding for info in infos for finding in _server(info)),
        *_hits(infos),
    ]
    return findings, len(keys)


def _sampled(cache: Cache, sample: int) -> list[_SampledKey]:
    names: dict[bytes, None] = {}
    for batch in cache.scan("*"):
        names.update(dict.fromkeys(batch))
        if len(names) >= sample:
            break
    wanted, keys = list(names)[:sample], []
    prefix = cache.full("")
    for chunk in chunks(wanted, _FACTS_AT_ONCE):
        facts = cache.keys().facts([prefix + name for name in chunk])
        keys += [
            _SampledKey(to_text(name), ttl, size)
            for name, (kind, ttl, size) in zip(chunk, facts, strict=True)
            if kind != "none"
        ]
    return keys


def _without_ttl(keys: list[_SampledKey]) -> Iterator[Finding]:
    families = Counter(key.family for key in keys)
    immortal = Counter(key.family for key in keys if key.ttl_ms < 0).most_common()
    for family, count in immortal[:_FAMILIES]:
        yield Finding("no_ttl", family, f"{count} of {families[family]} sampled keys never expire")
    if others := immortal[_FAMILIES:]:
        count, of = sum(count for _, count in others), sum(families[family] for family, _ in others)
        yield Finding("no_ttl", f"{len(others)} other families", f"{count} of {of} sampled keys never expire")


def _cliffs(keys: list[_SampledKey], now: float) -> Iterator[Finding]:
    seconds = Counter(int(now + key.ttl_ms / 1000) for key in keys if key.ttl_ms >= 0)
    mortal = seconds.total()
    for second, count in seconds.most_common(3):
        if count >= max(_CLIFF_KEYS, mortal * _CLIFF_SHARE):
            message = f"{count} of {mortal} sampled keys expire within one second; add jitter to their ttl"
            yield Finding("ttl_cliff", f"in {second - int(now)} s", message)


def _big(keys: list[_SampledKey]) -> Iterator[Finding]:
    for key in sorted(keys, key=lambda each: -(each.bytes or 0))[:10]:
        if key.bytes is not None and key.bytes >= _BIG_BYTES:
            yield Finding("big_key", key.name, f"takes {human_bytes(key.bytes)} of memory")


def _server(info: Mapping[str, str]) -> Iterator[Finding]:
    name = f"server on port {info.get('tcp_port', '?')}"
    used, most = int(info.get("used_memory", "0")), int(info.get("maxmemory", "0"))
    policy = info.get("maxmemory_policy", "noeviction")
    if int(info.get("evicted_keys", "0")):
        yield Finding("eviction", name, f"{info['evicted_keys']} keys were evicted; maxmemory is too small")
    if most and policy == "noeviction" and used > most * _FULL:
        message = f"{used / most:.0%} of maxmemory is used and the policy is noeviction; writes will fail"
        yield Finding("memory", name, message)
    ratio = float(info.get("mem_fragmentation_ratio", "1") or 1)
    if ratio > _FRAGMENTED and used > _FRAGMENTED_BYTES:
        yield Finding("fragmentation", name, f"takes {ratio:.1f} times the memory of its data")
    buffer = int(info.get("client_recent_max_output_buffer", "0"))
    if buffer > _OUTPUT_BUFFER_BYTES:
        yield Finding("output_buffer", name, f"a client has {human_bytes(buffer)} of unread replies")


def _hits(infos: list[Mapping[str, str]]) -> Iterator[Finding]:
    rate = hit_rate(infos)
    lookups = sum(int(info.get(name, "0")) for info in infos for name in ("keyspace_hits", "keyspace_misses"))
    if rate is not None and rate < _LOW_HIT_RATE and lookups >= _LOOKUPS:
        yield Finding("hit_rate", "all servers", f"{rate:.0%} of {lookups} lookups were hits")
