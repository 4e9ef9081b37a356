"""What an error says about the health of the callee; breakers that know no driver judge by it."""

from __future__ import annotations

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
    """What an error says about the callee: False it is ill, True it is well and said no, None nothing."""
    if not isinstance(error, Exception) or isinstance(error, BreakerOpen | PoolTimeout | PoolClosed):
        return None
    if isinstance(error, Unavailable | OutcomeUnknown):
        return False
    if isinstance(error, QueryError | AuthenticationFailed):
        return True
    return None if isinstance(error, KataxError) else False
