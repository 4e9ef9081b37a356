"""The health of a callee by an error, for breakers that know no driver."""

from __future__ import annotations

from katax_cli.core.interrupts import was_interrupted
from katax_cli.errors import (
    AuthenticationFailed,
    BreakerOpen,
    KataxError,
    OutcomeUnknown,
    PoolClosed,
    PoolTimeout,
    QueryError,
    Unavailable,
)


def verdict(error: BaseException) -> bool | None:
    """The callee's health by an error: False it failed, True it is healthy and refused, None neither."""
    if was_interrupted(error) or isinstance(error, BreakerOpen | PoolTimeout | PoolClosed):
        return None
    if isinstance(error, QueryError | AuthenticationFailed):
        return True
    if isinstance(error, Unavailable | OutcomeUnknown):
        return False
    return None if isinstance(error, KataxError) else False
