"""Intervals as PostgreSQL writes them, in ISO 8601."""

import pickle
from datetime import timedelta

import pytest

from katax_cli.core.text.interval import Interval, iso_interval
from katax_cli.core.text.text import plain, to_json


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("1 year 2 mons 3 days 04:05:06.7", "P1Y2M3DT4H5M6.7S"),
        ("-1 years +2 mons -3 days +04:05:06", "P-1Y2M-3DT4H5M6S"),
        ("-00:00:00.5", "PT-0.5S"),
        ("100:00:00", "PT100H"),
        ("1 mon", "P1M"),
        ("1 day", "P1D"),
        ("00:00:00", "PT0S"),
        ("-04:00:10", "PT-4H-10S"),
        ("P1Y2M", "P1Y2M"),
        ("infinity", "infinity"),
    ],
)
def test_iso(text: str, iso: str) -> None:
    assert iso_interval(text) == iso


def test_an_interval_is_a_timedelta_that_is_written_as_the_server_means_it() -> None:
    interval = Interval(timedelta(days=30), "P1M")

    assert interval == timedelta(days=30)
    assert (to_json([interval]), plain(interval)) == ('["P1M"]', "P1M")
    copy = pickle.loads(pickle.dumps(interval))
    assert (copy, copy.iso) == (interval, "P1M")
    assert to_json(timedelta(hours=26)) == '"26:00:00"'
