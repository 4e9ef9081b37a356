"""Wrong tokens are slowed down by address, within a memory that has an end."""

from __future__ import annotations

import asyncio

from katax_cli.core.settings import Secret
from katax_cli.services.ws import guesses as guesses_module
from katax_cli.services.ws.guesses import ADDRESSES, AT_ONCE, WAITING, Guesses
from tests.fake_clock import FakeClock

RIGHT = Secret.of("right")


class Sleeps:
    """Sleeps that end when told so."""

    def __init__(self, *, open: bool = True) -> None:
        self.seconds: list[float] = []
        self.open = asyncio.Event()
        if open:
            self.open.set()

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await self.open.wait()


def test_each_wrong_token_of_an_address_waits_longer_and_after_a_while_it_is_forgotten() -> None:
    async def run() -> None:
        clock, sleeps = FakeClock(), Sleeps()
        guesses = Guesses(clock=clock, sleep=sleeps)

        for _attempt in range(8):
            assert not await guesses.allows("10.0.0.1", "wrong", RIGHT)
        assert not await guesses.allows("10.0.0.2", None, RIGHT)
        assert sleeps.seconds == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.1]

        assert await guesses.allows("10.0.0.1", "right", RIGHT)
        assert len(sleeps.seconds) == 9

        assert not await guesses.allows("10.0.0.1", "wrong", RIGHT)
        clock.sleep(guesses_module.FORGOTTEN_SECONDS + 1)
        assert not await guesses.allows("10.0.0.1", "wrong", RIGHT)
        assert sleeps.seconds[-2:] == [5.0, 0.1]

    asyncio.run(run())


def test_no_more_than_ten_of_an_address_are_compared_at_once_and_others_do_not_wait() -> None:
    async def run() -> None:
        sleeps = Sleeps(open=False)
        guesses = Guesses(sleep=sleeps)
        wrong = [
            asyncio.create_task(guesses.allows("::ffff:10.0.0.1", "wrong", RIGHT)) for _ in range(AT_ONCE)
        ]
        behind = [
            asyncio.create_task(guesses.allows("10.0.0.1", "right", RIGHT)) for _ in range(WAITING - AT_ONCE)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        assert len(sleeps.seconds) == AT_ONCE
        assert not any(task.done() for task in behind)
        assert not await guesses.allows("10.0.0.1", "right", RIGHT)
        assert await guesses.allows("10.0.0.2", "right", RIGHT)

        sleeps.open.set()
        assert await asyncio.gather(*wrong) == [False] * AT_ONCE
        assert await asyncio.gather(*behind) == [True] * len(behind)

    asyncio.run(run())


def test_it_knows_so_many_addresses_and_one_for_a_whole_ipv6_network() -> None:
    async def run() -> None:
        guesses = Guesses(sleep=Sleeps())
        for number in range(ADDRESSES + 500):
            await guesses.allows(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "right", RIGHT)
        assert len(guesses._addresses) == ADDRESSES

        sleeps = Sleeps()
        guesses = Guesses(sleep=sleeps)
        for host in ("2001:db8::1", "2001:db8::ffff", "2001:db8::1%eth0", "2001:db8:0:1::1", "unknown"):
            await guesses.allows(host, "wrong", RIGHT)
        assert sleeps.seconds == [0.1, 0.2, 0.4, 0.1, 0.1]

    asyncio.run(run())
