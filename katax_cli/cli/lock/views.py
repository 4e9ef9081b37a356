"""The rows of `katax lock ls`."""

from __future__ import annotations

from katax_cli.services.locks.lock import HeldLock


def lock_row(held: HeldLock) -> tuple[object, ...]:
    """One row; what another program's lock does not say is empty."""
    ttl = None if held.ttl is None else round(held.ttl, 3)
    return (held.name, held.token, held.host, held.pid, held.acquired_at, ttl, held.session)
