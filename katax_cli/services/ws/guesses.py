"""Wrong tokens cost time, by the address that they come from."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, ip_address

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.settings import Secret
from katax_cli.services.ws.tokens import same

FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
FORGOTTEN_SECONDS = 300.0
AT_ONCE = 10
WAITING = 100
ADDRESSES = 10_000


class _Address:
    """The failed attempts of one address."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(AT_ONCE)
        self.waiting = 0
        self.wrong = 0
        self.wrong_at = 0.0


class Guesses:
    """Compares tokens; on the loop.

    A wrong one is answered after a delay, 0.1 s for the first of its address and twice as long for each further one
    up to 5 s, and occupies one of the ten places of its address until then, whether its client waits or not. A
    right one is answered at once when there is a place: others of the address wait behind ten wrong ones at the
    most, so no more than two a second can be tried. Beyond 100 that wait for a place tokens are refused unread.
    After five minutes without a wrong one an address starts anew. The 10,000 latest addresses are known; of IPv6
    the first 64 bits count.
    """

    def __init__(
        self, *, clock: Clock = SYSTEM, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self._clock, self._sleep = clock, sleep

    async def allows(self, address: str, given: object, expected: Secret) -> bool:
        """True if the token is right; waits as said above."""
        known = self._known(address)
        if known.waiting >= WAITING:
            return False
        known.waiting += 1
        try:
            async with known.places:
                if same(given, expected):
                    return True
                await self._sleep(self._delay(known))
                return False
        finally:
            known.waiting -= 1

    def _delay(self, known: _Address) -> float:
        now = self._clock.monotonic()
        if now - known.wrong_at > FORGOTTEN_SECONDS:
            known.wrong = 0
        known.wrong, known.wrong_at = known.wrong + 1, now
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(known.wrong - 1, 10))

    def _known(self, address: str) -> _Address:
        key = _network(address)
        known = self._addresses.setdefault(key, _Address())
        self._addresses.move_to_end(key)
        if len(self._addresses) > ADDRESSES:
            self._addresses.popitem(last=False)
        return known


def _network(address: str) -> str:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or int(parsed) >> 64)
    return address
