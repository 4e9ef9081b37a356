"""The pool's decisions, one step at a time: every interleaving of callers is a sequence of atomic steps."""

from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from katax_cli.core.pooling.slots import Claim, Member, Slots
from katax_cli.core.settings import PoolSettings
from katax_cli.errors import PoolClosed


class Wire:
    """A connection of the model."""


class SlotsMachine(RuleBasedStateMachine):
    """Callers stake, open, return, break, time out and are interrupted; the model knows who owns what."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.queued: list[Claim[Wire]] = []
        self.opening: list[Claim[Wire]] = []
        self.using: list[Member[Wire]] = []
        self.closing: list[Member[Wire]] = []

    @initialize(minimum=st.integers(0, 2), extra=st.integers(0, 2))
    def start(self, minimum: int, extra: int) -> None:
        self.settings = PoolSettings(
            min=minimum, max=max(1, minimum + extra), idle_timeout=5.0, max_lifetime=20.0
        )
        self.slots: Slots[Wire] = Slots("main", self.settings)

    @rule()
    def arrive(self) -> None:
        claim: Claim[Wire] = Claim()
        self.slots.take_fresh(claim, self.now)
        if claim.member is not None:
            assert not self.queued, "a newcomer overtook the queue"
            self.using.append(claim.member)
            return
        try:
            self.slots.stake(claim)
        except PoolClosed:
            assert self.slots.closed
            return
        if claim.gate is not None:
            self.queued.append(claim)
        else:
            assert not self.queued, "a newcomer overtook the queue"
            self._settle(claim)

    @rule()
    def keep_minimum(self) -> None:
        claim: Claim[Wire] = Claim()
        if self.slots.stake_spare(claim):
            self.opening.append(claim)

    @precondition(lambda self: self.opening)
    @rule(data=st.data())
    def connected(self, data: st.DataObject) -> None:
        claim = one_of(data, self.opening)
        member = Member(Wire(), self.now, self.settings, lambda: 0.5)
        try:
            self.slots.lend(member, claim)
        except PoolClosed:
            assert self.slots.closed
            self.slots.free_slot()
        else:
            self.using.append(member)
        self._hand_over()

    @precondition(lambda self: self.opening)
    @rule(data=st.data())
    def connect_failed(self, data: st.DataObject) -> None:
        one_of(data, self.opening)
        self.slots.free_slot()
        self._hand_over()

    @precondition(lambda self: self.using)
    @rule(data=st.data(), broken=st.booleans())
    def come_back(self, data: st.DataObject, broken: bool) -> None:
        member = one_of(data, self.using)
        assert self.slots.recall(member.connection) is member
        returns = member.returns
        if not broken:
            self.slots.put_back(member, self.now)
        if member.returns == returns:
            assert broken or self.slots.closed or self.now >= member.expires_at
            self.closing.append(member)
        self._hand_over()

    @precondition(lambda self: self.closing)
    @rule(data=st.data())
    def closed_at_last(self, data: st.DataObject) -> None:
        one_of(data, self.closing)
        self.slots.free_slot()
        self._hand_over()

    @precondition(lambda self: self.queued)
    @rule(data=st.data())
    def time_is_up(self, data: st.DataObject) -> None:
        claim = one_of(data, self.queued)
        assert self.slots.leave_queue(claim)
        assert not self.slots.leave_queue(claim)

    @rule()
    def evict(self) -> None:
        claim: Claim[Wire] = Claim()
        total = self.slots.stats().total
        if self.slots.stake_stale(claim, self.now):
            member = claim.member
            assert member is not None
            assert self.now >= member.expires_at or total > self.settings.min
            self.closing.append(member)

    @rule(seconds=st.sampled_from([0.5, 1.5, 6.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: not self.slots.closed)
    @rule(really=st.integers(0, 9))
    def shut(self, really: int) -> None:
        if really:
            return
        self.closing += self.slots.shut()
        for claim in self.queued:
            assert claim.wait(0.0)
            assert claim.member is None
            assert not claim.slot
        self.queued.clear()

    @precondition(lambda self: self.slots.closed)
    @rule()
    def sever(self) -> None:
        severed = self.slots.sever()
        assert set(severed) == set(self.using)
        for member in self.using:
            assert self.slots.recall(member.connection) is None
        self.using.clear()
        self.closing += severed

    @invariant()
    def numbers_agree(self) -> None:
        stats = self.slots.stats()
        in_hand = len(self.opening) + len(self.using) + len(self.closing)
        assert stats.active == in_hand
        assert 0 <= stats.total <= stats.max
        assert stats.waiting == len(self.queued)

    @invariant()
    def no_connection_has_two_owners(self) -> None:
        owned = [member.key for member in (*self.using, *self.closing)]
        assert len(owned) == len(set(owned))
        assert sorted(member.key for member in self.slots.leased()) == sorted(m.key for m in self.using)

    @invariant()
    def nobody_waits_for_what_is_there(self) -> None:
        stats = self.slots.stats()
        if stats.waiting:
            assert stats.idle == 0
            assert stats.total == stats.max

    @invariant()
    def closed_and_empty_is_drained(self) -> None:
        stats = self.slots.stats()
        assert self.slots.drained.is_set() == (self.slots.closed and stats.total == 0)

    def _settle(self, claim: Claim[Wire]) -> None:
        """A claim was answered; its caller goes on with what it got."""
        if claim.member is None:
            assert claim.slot
            self.opening.append(claim)
        elif claim.gate is not None or self.now < claim.member.fresh_until:
            self.using.append(claim.member)
        else:
            member = self.slots.reduce_to_slot(claim)
            assert member is not None
            self.opening.append(claim)

    def _hand_over(self) -> None:
        """At most the first of the queue was answered, and then by the gate, too."""
        answered = [claim for claim in self.queued if claim.wait(0.0)]
        assert answered in ([], self.queued[:1])
        for claim in answered:
            self.queued.remove(claim)
            assert not self.slots.leave_queue(claim)
            self._settle(claim)


T = TypeVar("T")


def one_of(data: st.DataObject, items: list[T]) -> T:
    return items.pop(data.draw(st.integers(0, len(items) - 1)))


TestSlots = SlotsMachine.TestCase
TestSlots.settings = settings(max_examples=30, stateful_step_count=40)


def test_limits_are_jittered_by_ten_percent() -> None:
    configured = PoolSettings(idle_timeout=10.0, max_lifetime=100.0)
    low = Member(Wire(), 5.0, configured, lambda: 0.0)
    high = Member(Wire(), 5.0, configured, lambda: 1.0)
    assert (low.expires_at, low.idle_limit) == pytest.approx((95.0, 9.0))
    assert (high.expires_at, high.idle_limit) == pytest.approx((115.0, 11.0))


def test_the_surplus_ages_out_from_the_bottom() -> None:
    configured = PoolSettings(min=1, max=3, idle_timeout=10.0)
    slots: Slots[Wire] = Slots("main", configured)
    bottom, middle, top = (opened(slots, configured) for _ in range(3))
    for member in (bottom, middle, top):
        put_back(slots, member, 0.0)
    for now in (4.0, 9.0):
        assert taken(slots) is top
        assert not put_back(slots, top, now)
    assert taken(slots) is top
    assert put_back(slots, top, 10.0)
    assert [evicted(slots, 10.0) for _ in range(3)] == [bottom, middle, None]
    # The minimum stays, however idle; only the end of its life ends it.
    assert evicted(slots, 1000.0) is None
    assert evicted(slots, 3600.0) is top


def opened(slots: Slots[Wire], configured: PoolSettings) -> Member[Wire]:
    claim: Claim[Wire] = Claim()
    slots.stake(claim)
    member = Member(Wire(), 0.0, configured, lambda: 0.5)
    slots.lend(member, claim)
    return member


def put_back(slots: Slots[Wire], member: Member[Wire], now: float) -> bool:
    slots.recall(member.connection)
    return slots.put_back(member, now)


def taken(slots: Slots[Wire]) -> Member[Wire] | None:
    claim: Claim[Wire] = Claim()
    slots.stake(claim)
    return claim.member


def evicted(slots: Slots[Wire], now: float) -> Member[Wire] | None:
    """Evicts one and frees its slot."""
    claim: Claim[Wire] = Claim()
    if slots.stake_stale(claim, now):
        slots.free_slot()
    return claim.member
