"""The page of figures and its chart say what was measured, and nothing else."""

from __future__ import annotations

import importlib
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("harness", "machine", "report"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("report")


def test_every_row_is_on_the_page_and_every_work_in_the_chart(report: ModuleType) -> None:
    row = report.Row
    rows = [
        row("read | write", 1.0, "bare", 2.0, 1.0),
        row("read | write", 1.0, "pool", 0.5, 1.0),
        row("start <now>", 30.0, "peer", 1.0, None),
        row("absent", 1.0, "gone", None, 1.0, "absent"),
    ]

    page = report.page(rows, {"processor": "one | two"})

    assert [(work, ratio, met) for work, ratio, met in report.means(rows)] == [
        ("read | write", pytest.approx(1.0), False),
        ("start <now>", pytest.approx(30.0), None),
    ]
    assert "1 of 2 targets are met." in page
    assert "| processor | one \\| two |" in page
    assert "| read \\| write | 1 s | bare | 2 s | 0.50 | – | ≤ 1 | yes |" in page
    assert "| absent | 1 s | gone | absent | – | – | ≤ 1 | – |" in page
    drawn = [
        text.text
        for text in ElementTree.fromstring(report.chart(rows)).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert drawn[3:] == ["read | write", "1.00", "start <now>", "30.00"]
