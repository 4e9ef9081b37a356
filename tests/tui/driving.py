"""A dashboard on canned Snapshots, with somebody at its keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from textual.pilot import Pilot

from katax_cli.snapshot import Snapshot
from katax_cli.tui.app import CommandOutcome, Dashboard
from katax_cli.tui.pane import Pane
from tests.tui.canned import FULL

Body = Callable[[Pilot[None]], Awaitable[Any]]
PATIENCE = 60.0
"""Seconds after which a test that waits has failed."""
_ROUNDS = 50
"""More than any chain of messages is long; a dashboard that is asked without end never has nothing to do."""
_TURNS = 8
"""A key is handed to the event loop as a thread would: it stands in a queue some turns later."""


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
    """Runs `app` and `body` beside it; `drawn`: not before the first Snapshot is on the screen.

    Textual takes a process that used no processor for 20 ms for one that has done all it was told; on a busy machine
    it has not. Here every key and pause waits until nothing is left to do.
    """

    async def run() -> None:
        async with app.run_test(size=size, headless=headless) as pilot:
            if drawn:
                await until(pilot, lambda: pane(app, "log").drawn is not None)
                await pilot.pause()
            await body(pilot)

    async def idle(*_seconds: float) -> None:
        await _settled(app)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textual.app.wait_for_idle", idle)
        patch.setattr("textual.pilot.wait_for_idle", idle)
        asyncio.run(run())


async def _settled(app: Dashboard) -> None:
    """Returns when all messages are handled, those that they led to as well, and what changed is drawn."""
    pilot = Pilot(app)
    for _ in range(_ROUNDS):
        await _turn()
        if not await pilot._wait_for_screen(PATIENCE):
            return
        await _turn()
        if _is_quiet(app):
            return
        # What a timer would do in its time.
        app._check_resize()
        app.screen._on_timer_update()


async def _turn() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def _is_quiet(app: Dashboard) -> bool:
    screen = app.screen
    pumps = (app, *screen.walk_children(with_self=True))
    awaited = (
        app._resize_event,
        screen._layout_required,
        screen._scroll_required,
        screen._repaint_required,
        screen._dirty_widgets,
    )
    return not any((*awaited, screen._callbacks)) and not any(
        each.message_queue_size or each._next_callbacks for each in pumps
    )


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
