from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.core.text.duration import LONGEST, format_duration, in_seconds, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("7d", 604800.0),
        ("1.5", 1.5),
        ("0", 0.0),
        (" 10 s ", 10.0),
        ("1e-05", 0.00001),
    ],
)
def test_durations_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "5 weeks", "5M", "-1s", "nan", "inf", "1_0", "1h30m", "٣s", "5mss"]
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_duration(text)
    assert str(error.value) == f"{text!r} is no duration; write seconds or 250ms, 30s, 5m, 2h, 7d"


@pytest.mark.parametrize("text", ["36501d", "1e300", "999999999d"])
def test_what_no_timer_holds_is_refused(text: str) -> None:
    assert parse_duration("36500d") == LONGEST
    with pytest.raises(ValueError, match="is too long; a duration is 36500d at most"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "250ms"),
        (0.0, "0s"),
        (1.5, "1.5s"),
        (30.0, "30s"),
        (90.0, "90s"),
        (300.0, "5m"),
        (7200.0, "2h"),
        (604800.0, "7d"),
    ],
)
def test_the_shortest_form(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e9))
def test_what_is_written_is_read_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-5, abs=1e-12)


def test_a_time_span_of_the_api_is_a_number_or_text() -> None:
    spans = (1, 0.25, "250ms", "1h", "5")
    assert [in_seconds(span) for span in spans] == [1.0, 0.25, 0.25, 3600.0, 5.0]
    for wrong in (True, None, [1]):
        with pytest.raises(TypeError, match="expected seconds or text such as '5m'"):
            in_seconds(wrong)  # type: ignore[arg-type]
