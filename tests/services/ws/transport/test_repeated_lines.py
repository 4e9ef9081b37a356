"""The first lines of a kind are logged, and of the others their number."""

from __future__ import annotations

import logging

import pytest

from katax_cli.services.ws.transport.repeated_lines import FIRST, SECONDS, RepeatedLines, bounded_log
from tests.fake_clock import FakeClock

LOG = logging.getLogger("katax.ws")


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "katax")


def test_the_first_lines_of_each_kind_pass_and_then_their_number(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    lines = RepeatedLines(clock=clock)
    LOG.addFilter(lines)
    try:
        for number in range(1000):
            LOG.warning("client %d is cut off", number)
        LOG.warning("another kind")
        lines.report()
        assert [*map(str, caplog.messages[: FIRST + 1])][-2:] == ["client 9 is cut off", "another kind"]
        assert len(caplog.messages) == FIRST + 1

        clock.at += SECONDS
        lines.report()
        lines.report()
        assert caplog.messages[FIRST + 1 :] == ["990 more lines in 60 s like: client 999 is cut off"]
        LOG.warning("the next interval")
        assert caplog.messages[-1] == "the next interval"
    finally:
        LOG.removeFilter(lines)


def test_at_the_end_nothing_is_left_unsaid(caplog: pytest.LogCaptureFixture) -> None:
    with bounded_log():
        for number in range(FIRST + 5):
            LOG.error("client %d", number)
    assert caplog.messages[-1].startswith("5 more lines in ")
    for number in range(FIRST + 5):
        LOG.error("after %d", number)

    assert len(caplog.messages) == FIRST + 1 + FIRST + 5
