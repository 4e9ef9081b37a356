"""Glyphs: ages that do not flicker, sparklines, bars and numbers, readable without colours."""

from datetime import UTC, datetime, timedelta

import pytest

from katax_cli.snapshot import PoolStats
from katax_cli.tui.glyphs import ago, number, pool_bar, pool_trail, span, spark, state, until

NOW = datetime(2026, 3, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0s"),
        (3.7, "3s"),
        (9.9, "9s"),
        (10.0, "10s"),
        (59.0, "50s"),
        (60.0, "1m"),
        (3599.0, "59m"),
        (3600.0, "1h"),
        (86399.0, "23h"),
        (86400.0, "1d"),
        (864000.0, "10d"),
    ],
)
def test_spans_change_in_steps(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


def test_what_never_happened_has_no_age() -> None:
    assert (ago(None, 1.0), until(None, 1.0)) == ("", "")


def test_a_clock_ahead_of_ours_makes_nothing_older_than_now() -> None:
    assert ago(NOW.timestamp() + 5, NOW.timestamp()) == "0s"


def test_what_is_due_later_and_what_should_have_begun() -> None:
    assert until(NOW + timedelta(minutes=5), NOW.timestamp()) == "in 5m"
    assert until(NOW, NOW.timestamp()) == "due"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (0, "0"),
        (0.0004, "0"),
        (0.0512, "0.051"),
        (7, "7"),
        (7.46, "7.5"),
        (112.4, "112"),
        (1240.0, "1240"),
        (12345.6, "12.3k"),
        (2_500_000.0, "2.5M"),
        (3e9, "3G"),
    ],
)
def test_numbers_have_few_digits(value: float | None, shown: str) -> None:
    assert number(value).plain == shown


def test_a_sparkline_goes_from_nothing_to_the_largest() -> None:
    assert spark([0.0, 4.0, 8.0], 10).plain == "▁▅█"


def test_a_sparkline_has_its_last_values() -> None:
    assert spark([8.0, 0.0, 8.0], 2).plain == "▁█"


def test_a_failure_is_no_low_value() -> None:
    assert spark([1.0, None, 1.0], 3).plain == "█×█"


def test_a_sparkline_of_failures_or_nothing_is_drawn() -> None:
    assert (spark([None, None], 5).plain, spark([], 5).plain, spark([0.0], 5).plain) == ("××", "", "▁")


def test_a_pool_over_time_shows_the_distance_to_its_limit_and_who_waited() -> None:
    samples = [PoolStats(10, 5, used, 0, waiting) for used, waiting in ((0, 0), (5, 0), (10, 0), (10, 3))]

    drawn = pool_trail(samples, 10)

    assert drawn.plain == "▁▅██"
    assert [span.style for span in drawn.spans] == ["cyan", "cyan", "cyan", "red"]
    assert pool_trail(samples, 2).plain == "██"
    assert pool_trail([PoolStats(0, 0, 0, 0, 0)], 2).plain == "▁"


@pytest.mark.parametrize(
    ("pool", "shown"),
    [
        (PoolStats(10, 0, 0, 0, 0), "··········"),
        (PoolStats(10, 4, 1, 3, 0), "█▒▒▒······"),
        (PoolStats(10, 10, 10, 0, 7), "██████████"),
        (PoolStats(100, 3, 1, 2, 0), "█▒········"),
        (PoolStats(0, 2, 1, 1, 0), "█████▒▒▒▒▒"),
    ],
)
def test_pools_as_bars(pool: PoolStats, shown: str) -> None:
    assert pool_bar(pool, 10).plain == shown


@pytest.mark.parametrize(
    ("pool", "style"),
    [
        (PoolStats(2, 1, 1, 0, 0), "green"),
        (PoolStats(2, 2, 2, 0, 0), "yellow"),
        (PoolStats(2, 2, 2, 0, 1), "red"),
        (PoolStats(0, 2, 2, 0, 0), "green"),
    ],
)
def test_a_pool_that_is_used_up_and_one_that_is_waited_for(pool: PoolStats, style: str) -> None:
    assert pool_bar(pool, 4).spans[0].style == style


def test_each_state_has_a_symbol_of_its_own_kind() -> None:
    assert [state(word).plain for word in ("healthy", "degraded", "unhealthy")] == [
        "● healthy",
        "▲ degraded",
        "✖ unhealthy",
    ]
