"""The exponents of docs/scale.md, and that its table holds what was measured."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def growing(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """The modules `fit` and `page`."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("harness", "machine", *(name for name in sys.modules if name.startswith("growing"))):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("growing.fit"), importlib.import_module("growing.page")


def test_the_exponent_is_that_of_the_growth(growing: tuple[ModuleType, ModuleType]) -> None:
    """What a start costs is taken off, and sizes that cost no more than that say nothing."""
    fit, page = growing
    for power in (0.5, 1.0, 2.0):
        growth = fit.Growth("work", "sqlite", (1, 100, 200, 400, 800), (), lambda _size, _place: None)
        found = fit.measured(growth, lambda size, to=power: fit.Cost(0.4 + (size - 1) ** to), large=False)
        assert found.started == 0.4
        assert found.seconds[0] == 0.0
        assert found.fit.exponent == pytest.approx(power, rel=0.01)
        assert page.exponent(found).startswith(f"{found.fit.exponent:.2f} ± 0.0")
    flat = fit.measured(growth, lambda size: fit.Cost(0.4 + size / 1e5), large=False)
    assert flat.fit is None
    assert page.exponent(flat) == "–"


def test_the_page_holds_the_figures_and_keeps_what_people_wrote(
    growing: tuple[ModuleType, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, page = growing
    monkeypatch.setattr(page, "PAGE", tmp_path / "scale.md")
    monkeypatch.setattr(page, "FIGURES", tmp_path / "growth.json")
    (tmp_path / "scale.md").write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    for seconds in (9.0, 0.5):
        page.keep(
            fit.Measured("keys", "redis", [10, 20], [0.0, seconds], [20.0, 30.4], [0.1, 12.0], 0.3, ["", ""])
        )

    page.write()

    text = (tmp_path / "scale.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("| keys | redis | 10: 0 ms, 20: 0.50 s | 12 s | – | 20 → 30 MB |") == 1


def test_the_page_of_this_repository_says_what_its_figures_say(
    growing: tuple[ModuleType, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python benchmarks/growth.py --large` writes both."""
    _, page = growing
    text = page.PAGE.read_text()
    monkeypatch.setattr(page, "PAGE", tmp_path / "scale.md")
    (tmp_path / "scale.md").write_text(text)

    page.write()

    assert (tmp_path / "scale.md").read_text() == text
    assert re.search(r"scale\.md", (ROOT / "README.md").read_text())
    assert "- scale.md" in (ROOT / "mkdocs.yml").read_text()
