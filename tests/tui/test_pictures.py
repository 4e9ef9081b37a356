"""Pictures of each screen, drawn as SVG and compared with those in golden/.

KATAX_TEST_DRAW=1 draws them anew; look at them before you commit them. The README shows `overview-120x40`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from textual.pilot import Pilot

from katax_cli.snapshot import Snapshot
from katax_cli.tui.layout import SCREENS
from tests.tui.canned import BROKEN, EMPTY, FULL
from tests.tui.driving import dashboard, drive

GOLDEN = Path(__file__).parent / "golden"
SHOWN = Path(__file__).parents[2] / "docs" / "dashboard.svg"
SMALL, MIDDLE, LARGE = (80, 24), (120, 40), (200, 60)
LIGHT = "textual-light"


class Picture(NamedTuple):
    """What is drawn, how large, after which keys, in which theme."""

    name: str
    size: tuple[int, int] = SMALL
    snapshot: Snapshot = FULL
    keys: tuple[str, ...] = ()
    theme: str = "textual-dark"
    colour: bool = True

    @property
    def file(self) -> Path:
        width, height = self.size
        return GOLDEN / f"{self.name}-{width}x{height}.svg"


PICTURES = [
    Picture("overview"),
    Picture("overview", MIDDLE),
    Picture("overview", LARGE),
    Picture("overview-light", MIDDLE, theme=LIGHT),
    Picture("overview-no-color", colour=False),
    Picture("new-profile", snapshot=EMPTY),
    Picture("state-database-down", MIDDLE, BROKEN),
    Picture("filter", keys=("slash", *"orders")),
    Picture("help", keys=("question_mark",)),
    Picture("trip", keys=("3", "T")),
    Picture("terminate", keys=("7", "k")),
    Picture("row", keys=("1", "enter")),
]
SCREENFULS = [
    [Picture(name, keys=(str(number),)) for number, name in enumerate(SCREENS, 1)],
    [Picture(name, LARGE, keys=(str(number),), theme=LIGHT) for number, name in enumerate(SCREENS, 1)],
]
"""One dashboard shows all of a list, one after the other."""


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The log has times of day."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.file.stem)
def test_a_screen_looks_as_it_did(picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    if not picture.colour:
        monkeypatch.setenv("NO_COLOR", "1")
    [drawn] = draw(picture)
    compare(picture, drawn)


@pytest.mark.parametrize("pictures", SCREENFULS, ids=["small", "large"])
def test_the_screens_look_as_they_did(pictures: list[Picture]) -> None:
    for picture, drawn in zip(pictures, draw(*pictures), strict=True):
        compare(picture, drawn)


def compare(picture: Picture, drawn: str) -> None:
    if os.environ.get("KATAX_TEST_DRAW"):
        GOLDEN.mkdir(exist_ok=True)
        picture.file.write_text(drawn, encoding="utf-8")

    assert drawn == picture.file.read_text(encoding="utf-8")


def test_the_readme_shows_what_is_drawn() -> None:
    picture = next(each for each in PICTURES if each.file.stem == "overview-120x40")
    if os.environ.get("KATAX_TEST_DRAW"):
        [drawn] = draw(picture)
        SHOWN.write_text(drawn, encoding="utf-8")

    assert SHOWN.read_text(encoding="utf-8") == picture.file.read_text(encoding="utf-8")


def draw(*pictures: Picture) -> list[str]:
    """Of one dashboard, whose size, theme and Snapshot are the first one's."""
    first = pictures[0]
    app = dashboard(first.snapshot)
    drawn: list[str] = []

    async def body(pilot: Pilot[None]) -> None:
        app.theme = first.theme
        for picture in pictures:
            for key in picture.keys:
                await pilot.press(key)
                await pilot.pause()
            await pilot.wait_for_scheduled_animations()
            await pilot.pause()
            drawn.append(app.export_screenshot(title="katax dashboard"))

    drive(app, body, size=first.size)
    return drawn
