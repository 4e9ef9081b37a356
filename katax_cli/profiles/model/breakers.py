"""A `[breaker]` table becomes a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from katax_cli.core.resilience.breaker_policy import BreakerPolicy

_ALTERNATIVES = (
    ({"failures"}, {"window", "rate", "min_calls", "slow_rate", "slow_ms"}),
    ({"failures", "reset"}, {"probe", "probe_max"}),
)
"""Ways of counting, and of finding out that a server is back: one of each pair."""


def breaker_of(**table: Any) -> BreakerPolicy:
    """The policy of a table. Raises ValueError for one that chooses two ways, or a value that makes no sense."""
    for one, other in _ALTERNATIVES:
        both = sorted(one & table.keys()), sorted(other & table.keys())
        if all(both):
            raise ValueError(f"{both[0][0]} and {both[1][0]} exclude each other; keep one")
    return BreakerPolicy(**table)


def inherited(around: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a connection's table inherits from its profile: all but the method that it replaces."""
    displaced: set[str] = set()
    for one, other in _ALTERNATIVES:
        displaced |= other if one & own.keys() else one if other & own.keys() else set()
    return {key: value for key, value in around.items() if key not in displaced}
