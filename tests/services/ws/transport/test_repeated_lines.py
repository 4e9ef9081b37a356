"""The first lines of a kind are logged, and of the others their number."""

from __future__ import annotations

import logging
from threading import get_ident

import pytest

from katax_cli.services.ws.transport.repeated_lines import FIRST, SECONDS, RepeatedLines, bounded_log
from tests.fake_clock import FakeClock

LOG = logging.getLogger("katax.ws")


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "katax")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What this test logged; threads that another one left may log beside it."""
    return [one.getMessage() for one in caplog.records if (one.thread, one.name) == (get_ident(), LOG.name)]


def test_the_first_lines_of_each_kind_pass_and_then_their_number(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    lines = RepeatedLines(clock=clock)
    LOG.addFilter(lines)
    try:
        for number in range(1000):
            LOG.warning("client %d is cut off", number)
        LOG.warning("another kind")
        lines.report()
        assert said(caplog)[: FIRST + 1][-2:] == ["client 9 is cut off", "another kind"]
        assert len(said(caplog)) == FIRST + 1

        clock.at += SECONDS
        lines.report()
        lines.report()
        assert said(caplog)[FIRST + 1 :] == ["990 more lines in 60 s like: client 999 is cut off"]
        LOG.warning("the next interval")
        assert said(caplog)[-1] == "the next interval"
    finally:
        LOG.removeFilter(lines)


def test_at_the_end_nothing_is_left_unsaid(caplog: pytest.LogCaptureFixture) -> None:
    with bounded_log():
        for number in range(FIRST + 5):
            LOG.error("client %d", number)
    assert said(caplog)[-1].startswith("5 more lines in ")
    for number in range(FIRST + 5):
        LOG.error("after %d", number)

    assert len(said(caplog)) == FIRST + 1 + FIRST + 5
