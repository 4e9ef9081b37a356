"""Changing a stored JSON object without losing what another changed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience import backoff
from katax_cli.core.text.duration import Duration
from katax_cli.errors import Unavailable
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import Commands
from katax_cli.services.redis.lua import COMPARE_AND_SET
from katax_cli.services.redis.values import JSON, Codec, encoded, positive_ms

_ATTEMPTS = 100
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05


def merge(
    redis: Commands,
    key: bytes,
    changes: Mapping[str, Any],
    *,
    ttl: Duration | None,
    remove: Collection[str] = (),
    codec: Codec = JSON,
    owns: Callable[[Mapping[str, Any]], bool] = lambda _: True,
) -> dict[str, Any] | None:
    """Merges top-level fields into the object at a full key, and drops those of `remove`; returns the whole, None
    when there is none, or `owns` says of what is stored that it is another's.

    Keeps the lifetime unless `ttl` is given. Merged here, since Lua's JSON turns empty lists into objects and
    rounds numbers; written only if unchanged meanwhile, else retried. Raises ValueError for a stored
    value that is no object, Unavailable when a hundred attempts were overtaken.
    """
    expiry = "" if ttl is None else positive_ms(ttl)
    overtaken = Overtaken(redis, key)
    while True:
        before = redis.redis("GET", key, safety=Safety.READ)
        if before is None:
            return None
        value = codec.decode(before)
        if not isinstance(value, dict):
            raise ValueError(
                f"the value at {key.decode('utf-8', 'replace')!r} is no object; replace it as a whole"
            )
        if not owns(value):
            return None
        whole = {key: kept for key, kept in value.items() if key not in remove} | dict(changes)
        if COMPARE_AND_SET(redis, [key], before, encoded(codec, whole), expiry):
            return whole
        overtaken.pause()


class Overtaken:
    """The attempts to change the value at a full key that others changed meanwhile."""

    def __init__(self, redis: Commands, key: bytes) -> None:
        self._redis, self._key = redis, key
        self._attempts = 0

    def pause(self) -> None:
        """Waits for a moment of random length. Raises Unavailable after the hundredth attempt."""
        self._attempts += 1
        if self._attempts >= _ATTEMPTS:
            key = self._key.decode("utf-8", "replace")
            raise Unavailable(self._redis.name, f"others changed {key!r} {_ATTEMPTS} times meanwhile")
        longest = backoff.ceiling(self._attempts, initial=_FIRST_PAUSE, multiplier=1.5, max=_LONGEST_PAUSE)
        SYSTEM.sleep(backoff.full_jitter(longest, SYSTEM.random))
