"""The rules of a healthy connection, as functions of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from katax_cli.core.settings import Expect
    from katax_cli.snapshot import Check, HealthStatus, ServerStanding

_BAD_TO_WORSE: tuple[HealthStatus, ...] = ("healthy", "degraded", "unhealthy")


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """Latency limits in milliseconds and the seconds between checks; raises ValueError when they contradict."""

    degraded_ms: float = 100.0
    unhealthy_ms: float = 500.0
    interval: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.degraded_ms <= self.unhealthy_ms:
            raise ValueError(
                f"health degraded_ms is {self.degraded_ms:g}, "
                f"expected more than 0 and at most unhealthy_ms ({self.unhealthy_ms:g})"
            )

    def verdict(self, latency_ms: float) -> HealthStatus:
        """Healthy below `degraded_ms`, degraded up to `unhealthy_ms`, unhealthy above."""
        if latency_ms < self.degraded_ms:
            return "healthy"
        return "degraded" if latency_ms <= self.unhealthy_ms else "unhealthy"

    def remark(self, latency_ms: float) -> str | None:
        """The reason why the verdict is not healthy; None when it is."""
        if latency_ms < self.degraded_ms:
            return None
        return f"took {latency_ms:.0f} ms, healthy is less than {self.degraded_ms:g} ms"


ROLE_CAUSES: Mapping[Expect, str] = {
    "primary": 'a failover made it a standby, or it is one; name the primary, or set expect = "any"',
    "standby": 'a failover made it the primary, or it is one; name a standby, or set expect = "any"',
}
"""What is likely when a server does not play the expected part."""


def role_check(standing: ServerStanding, expected: Expect, spent_ms: float | None) -> Check:
    """Checks the server's role against the expected one: a primary takes writes, a standby does not."""
    from katax_cli.snapshot import Check

    text = f"{standing.role}: {standing.why}" if standing.why else standing.role
    if expected == "primary" and not standing.writable:
        return Check("write_role", "unhealthy", spent_ms, f"takes no writes; {text}")
    if expected == "standby" and standing.writable:
        return Check("write_role", "unhealthy", spent_ms, f"takes writes, a standby was expected; {text}")
    return Check("write_role", "healthy", spent_ms, None if standing.writable else text)


def worst(statuses: Iterable[HealthStatus]) -> HealthStatus:
    """The worst of several; healthy when there are none."""
    return max(statuses, key=_BAD_TO_WORSE.index, default="healthy")


class Hysteresis:
    """Changes its mind only after `bad` results in a row that are worse, or `good` that are better.

    The first result counts at once.
    """

    def __init__(self, *, bad: int = 2, good: int = 2) -> None:
        self._needed = {True: bad, False: good}
        self._shown: HealthStatus | None = None
        self._streak: list[HealthStatus] = []

    def seen(self, status: HealthStatus) -> HealthStatus:
        """Takes a result and returns the status to show."""
        shown = self._shown
        if shown is None or status == shown:
            self._shown, self._streak = status, []
            return status
        is_worse = _BAD_TO_WORSE.index(status) > _BAD_TO_WORSE.index(shown)
        if self._streak and (_BAD_TO_WORSE.index(self._streak[-1]) > _BAD_TO_WORSE.index(shown)) != is_worse:
            self._streak = []
        self._streak.append(status)
        if len(self._streak) >= self._needed[is_worse]:
            self._shown, self._streak = status, []
            return status
        return shown
