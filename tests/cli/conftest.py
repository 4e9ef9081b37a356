"""Commands of these tests do not tell how far they are because the machine is busy."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes two seconds here, because the machine stands still, writes no line about its progress."""
    monkeypatch.setattr("katax_cli.cli.shell.progress._LINE_EVERY", 600.0)
