"""OpenMetrics text from values."""

from __future__ import annotations

import pytest

from katax_cli.core.measure.openmetrics import Family, Sample, exposition, gauge


def test_a_counter_and_a_gauge() -> None:
    runs = Family("runs", "counter", "Runs so far.", [Sample(3, {"job": "a", "state": "ran"}), Sample(0.5)])

    assert exposition([runs, gauge("up", "Is it.", 1.0)]) == (
        "# TYPE runs counter\n# HELP runs Runs so far.\n"
        'runs_total{job="a",state="ran"} 3\nruns_total 0.5\n'
        "# TYPE up gauge\n# HELP up Is it.\nup 1\n# EOF\n"
    )


def test_labels_and_help_are_escaped() -> None:
    text = exposition([Family("x", "gauge", 'a\\b\n"c"', [Sample(1, {"job": 'q"\\\n'})])])

    assert '# HELP x a\\\\b\\n"c"\n' in text
    assert 'x{job="q\\"\\\\\\n"} 1\n' in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
        (0.0001, "0.0001"),
        (1760000000.25, "1760000000.25"),
        (2**40, "1099511627776"),
        (1e300, "1e+300"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert f"x {text}\n" in exposition([gauge("x", "X.", value)])


def test_a_family_without_samples_is_left_out() -> None:
    assert exposition([Family("x", "gauge", "X.", [])]) == "# EOF\n"


def test_a_name_stands_once() -> None:
    with pytest.raises(ValueError, match="metric 'x' is given twice"):
        exposition([gauge("x", "X.", 1), gauge("x", "X.", 2)])
