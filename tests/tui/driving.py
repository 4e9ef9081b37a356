"""A dashboard on canned Snapshots, with somebody at its keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from textual.pilot import Pilot

from katax_cli.snapshot import Snapshot
from katax_cli.tui.app import CommandOutcome, Dashboard
from katax_cli.tui.pane import Pane
from tests.tui.canned import FULL

Body = Callable[[Pilot[None]], Awaitable[Any]]
PATIENCE = 20.0
"""Seconds after which a test that waits has failed."""


class Source:
    """Hands out Snapshots and counts how often it was asked."""

    def __init__(self, snapshot: Snapshot = FULL) -> None:
        self.snapshot = snapshot
        self.asked = 0

    def __call__(self) -> Snapshot:
        self.asked += 1
        return self.snapshot


class Commands:
    """Notes what it is to run."""

    def __init__(self, outcome: CommandOutcome | None = None) -> None:
        self.outcome = outcome or CommandOutcome(0, "done")
        self.ran: list[Sequence[str]] = []

    def __call__(self, words: Sequence[str]) -> CommandOutcome:
        self.ran.append(words)
        return self.outcome


def dashboard(
    source: Callable[[], Snapshot] | Snapshot = FULL,
    *,
    interval: float = 60.0,
    run: Callable[[Sequence[str]], CommandOutcome] | None = None,
    read: Callable[[Sequence[str]], CommandOutcome] | None = None,
) -> Dashboard:
    snapshot = Source(source) if isinstance(source, Snapshot) else source
    return Dashboard(snapshot, interval=interval, run=run or Commands(), read=read or Commands())


def drive(
    app: Dashboard, body: Body, *, size: tuple[int, int] = (80, 24), drawn: bool = True, headless: bool = True
) -> None:
    """Runs `app` and `body` beside it; `drawn`: not before the first Snapshot is on the screen."""

    async def run() -> None:
        async with app.run_test(size=size, headless=headless) as pilot:
            if drawn:
                await until(pilot, lambda: pane(app, "log").drawn is not None)
            await body(pilot)

    asyncio.run(run())


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Waits for what a thread or a message does."""
    for _ in range(int(PATIENCE / 0.01)):
        if true():
            return
        await pilot.pause(0.01)
    raise AssertionError("it did not happen")


def pane(app: Dashboard, name: str) -> Pane:
    return app.screen_stack[0].query_one(f"#{name}", Pane)


def visible(app: Dashboard) -> list[str]:
    """The panels that have room on the screen."""
    return [each.panel.name for each in app.screen_stack[0].query(Pane) if each.size.area]


def head(app: Dashboard) -> str:
    return str(app.screen_stack[0].query_one("#top").render())
