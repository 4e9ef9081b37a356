"""The dashboard: panels over one Snapshot, and keys that run katax commands.

It knows no service: it gets a callable for Snapshots and one that runs a command. Threads post messages; widgets
change in message handlers only.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Thread
from typing import ClassVar, NamedTuple, cast

from textual import on
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.markup import escape
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from katax_cli.core.clock import SYSTEM
from katax_cli.core.settings import Role
from katax_cli.core.text.text import printable
from katax_cli.snapshot import Happening, Snapshot
from katax_cli.tui.dialogs import CommandDialog, Info, key_facts, line
from katax_cli.tui.feed import Feed
from katax_cli.tui.glyphs import ago, span, state
from katax_cli.tui.layout import PANELS, SCREENS
from katax_cli.tui.pane import Pane
from katax_cli.tui.table import spans
from katax_cli.tui.terminal_guard import guarded

_LIGHT, _DARK = "textual-light", "textual-dark"
_ACTIONS = {each.name: each for panel in PANELS for each in panel.actions}
_KEPT = 100
_WIDE, _TALL = 150, 40


class CommandOutcome(NamedTuple):
    """The outcome of a command: its exit code, and a line about it; of one that reads, what it printed."""

    code: int
    text: str


Ask = Callable[[Sequence[str]], CommandOutcome]


class Dashboard(App[None]):
    """Draws what `snapshot()` returns every `interval` seconds.

    `run(words)` runs a katax command; so does `read`, whose outcome has what the command printed.
    """

    CSS_PATH = "katax.tcss"
    TITLE = "katax"
    COMMAND_PALETTE_BINDING = "colon"
    AUTO_FOCUS = "DataTable"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (_WIDE, "-wide")]  # noqa: RUF012 - Textual declares it without ClassVar
    VERTICAL_BREAKPOINTS = [(0, "-short"), (_TALL, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help"),
        Binding("slash", "filter", "Filter"),
        Binding("p", "pause", "Pause"),
        Binding("escape,0", "show('')", "Overview"),
        *(Binding(str(number), f"show({name!r})", show=False) for number, name in enumerate(SCREENS, 1)),
        *(Binding(action.key, f"act({action.name!r})", action.label) for action in _ACTIONS.values()),
        Binding("plus,equals_sign", "interval(1)", "Ask less often", show=False),
        Binding("minus", "interval(-1)", "Ask more often", show=False),
        Binding("f5", "now", "Ask now", show=False),
        Binding("ctrl+t", "theme", "Light or dark", show=False),
        Binding("ctrl+z", "suspend_process", "To the background; fg brings it back", show=False),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    class Arrived(Message):
        """The feed has a Snapshot."""

        def __init__(self, snapshot: Snapshot) -> None:
            super().__init__()
            self.snapshot = snapshot

    class Failed(Message):
        """A thread of ours raised an unexpected exception."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    class Ran(Message):
        """A command ended."""

        def __init__(self, words: Sequence[str], outcome: CommandOutcome) -> None:
            super().__init__()
            self.words = words
            self.outcome = outcome

    class Read(Message):
        """A command printed more about a row."""

        def __init__(self, info: Info, outcome: CommandOutcome) -> None:
            super().__init__()
            self.info = info
            self.outcome = outcome

    def __init__(self, snapshot: Callable[[], Snapshot], *, interval: float, run: Ask, read: Ask) -> None:
        super().__init__()
        self.feed = Feed(
            snapshot,
            interval=interval,
            arrived=lambda taken: self.post_message(self.Arrived(taken)),
            failed=lambda error: self.post_message(self.Failed(error)),
        )
        self.error: Exception | None = None
        self.showing = ""
        self.words = ""
        self._run_command = run
        self._read = read
        self._snapshot: Snapshot | None = None
        self._arrived_at = SYSTEM.monotonic()
        self._asked_at = self._arrived_at
        self._last: Pane | None = None
        self._done: list[Happening] = []
        self._top = Static(id="top", markup=False)
        self._panes = [Pane(panel) for panel in PANELS]
        self._grid = Container(id="panes", classes="overview")
        self._folded = Static(id="folded", markup=False)
        self._filter = Input(placeholder="words that rows must have", id="filter")
        self._filter.cursor_blink = False

    def compose(self) -> ComposeResult:
        yield self._top
        with self._grid:
            yield from self._panes
        yield self._folded
        yield self._filter
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self._end_by_signals()
        # After `fg` the terminal is empty, and what did not change would not be drawn.
        self.app_resume_signal.subscribe(self, lambda _: self.screen.refresh())
        self.feed.start()
        self.set_interval(1.0, self._head)

    def on_unmount(self) -> None:
        self.feed.stop()

    def on_dashboard_arrived(self, message: Arrived) -> None:
        self._snapshot, self._arrived_at = message.snapshot, SYSTEM.monotonic()
        self._draw()

    def on_dashboard_failed(self, message: Failed) -> None:
        raise message.error

    def on_dashboard_ran(self, message: Ran) -> None:
        code, said = message.outcome
        self._note(message.words, said, failed=code != 0)
        self.notify(printable(said), severity="error" if code else "information", markup=False)
        self.feed.soon()

    def on_dashboard_read(self, message: Read) -> None:
        message.info.tell("output", message.outcome.text)

    def on_resize(self) -> None:
        # A panel may have no room for now, and a line may hold more of them.
        self.call_after_refresh(self._arrange)

    @on(Pane.Folded)
    def _arrange(self) -> None:
        """The overview's grid without holes, and one line for each panel that has no rows."""
        # Not by the classes of the screen: it may not have heard of a new size yet.
        is_short, columns = self.size.height < _TALL, 3 if self.size.width >= _WIDE else 2
        roomy = [pane for pane in self._panes if not (pane.panel.minor and is_short)]
        shown = [pane for pane in roomy if pane.folded is None]
        folded = [pane.folded for pane in roomy if pane.folded is not None]
        # What happened needs long lines.
        wide = [pane for pane in shown[-1:] if columns == 2 and pane.panel.name == "log"]
        widths = [*spans(len(shown) - len(wide), columns), *(columns for _ in wide)]
        for pane, width in zip(shown, widths, strict=True):
            pane.styles.column_span = width
        self._folded.display = bool(folded) and not self.showing
        longest = max((len(title) for title, _ in folded), default=0)
        text = "\n".join(printable(f"{title:{longest}}  {why}") for title, why in folded)
        if text != str(self._folded.content):
            self._folded.update(text)

    @on(Input.Changed, "#filter")
    def _filter_by(self, event: Input.Changed) -> None:
        self.words = event.value
        self._draw()

    @on(Input.Submitted, "#filter")
    def _leave_filter(self) -> None:
        self._filter.display = bool(self.words)
        shown = [pane for pane in self._panes if pane.display]
        chosen = [pane for pane in (self._last, *shown) if pane in shown and pane.chosen is not None]
        (chosen or shown)[0].table.focus()

    def on_data_table_row_selected(self) -> None:
        """Enter or a second click: from the overview to the panel's screen, from there to the whole row."""
        pane = self._focused
        if pane is None:
            return
        if not self.showing:
            self.action_show(pane.panel.screen)
        elif pane.chosen is not None:
            labels = (column.label or "level" for column in pane.panel.columns)
            facts = zip(labels, (cell.plain for cell in pane.chosen.cells), strict=True)
            info = Info(pane.panel.title, facts)
            self.push_screen(info)
            if pane.panel.reads and self._snapshot is not None:
                profile = self._snapshot.health.profile
                words = (*pane.panel.reads, "-p", profile, "--", pane.chosen.key)
                info.tell("output", "…")
                self._in_thread(words, lambda: self.Read(info, self._read(words)))

    def action_show(self, name: str) -> None:
        """One screen's panels, or all of them for an empty name; Escape ends the filter first."""
        if not name and self._filter.display:
            self._filter.value = ""
            self._leave_filter()
            return
        self.showing = name
        self._grid.set_class(not name, "overview")
        for pane in self._panes:
            # Not a class: each would be looked up in the style sheet for all of a pane.
            pane.styles.display = "none" if name and pane.panel.screen != name else None
        self._arrange()
        chosen = next((pane for pane in self._panes if pane.panel.screen == name), self._focused)
        if chosen is not None:
            chosen.table.focus()

    def action_filter(self) -> None:
        self._filter.display = True
        self._filter.focus()

    def action_pause(self) -> None:
        self.feed.paused = not self.feed.paused
        self._asked_at = SYSTEM.monotonic()
        if not self.feed.paused:
            self.feed.soon()
        self._head()

    def action_interval(self, by: int) -> None:
        self.feed.step(by)
        self._asked_at = SYSTEM.monotonic()
        self._head()

    def action_now(self) -> None:
        self.feed.soon()

    def action_theme(self) -> None:
        self.theme = _DARK if self.theme == _LIGHT else _LIGHT

    def action_help(self) -> None:
        self.push_screen(Info("Keys", key_facts(self.BINDINGS, SCREENS)))

    def action_act(self, name: str) -> None:
        """Shows the command of an action on the row under the cursor, and runs it when that is wanted."""
        pane, snapshot, action = self._focused, self._snapshot, _ACTIONS[name]
        if pane is None or pane.chosen is None or not pane.chosen.subject or snapshot is None:
            return
        dialog = CommandDialog(
            action, pane.chosen, profile=snapshot.health.profile, role=cast("Role", snapshot.role)
        )
        self.push_screen(dialog, self._start)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of an action are there while its panel has the focus and a row."""
        if action != "act":
            return True
        pane = self._focused
        return pane is not None and _ACTIONS[str(parameters[0])] in pane.panel.actions

    def on_descendant_focus(self) -> None:
        self._last = self._focused or self._last

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Textual's own commands, the screens, and what can be done with the chosen row."""
        yield from super().get_system_commands(screen)
        for name in SCREENS:
            yield SystemCommand(
                f"Show {name}", "A screen of its own", lambda name=name: self.action_show(name)
            )
        yield SystemCommand("Pause", "Ask the servers nothing, or go on", self.action_pause)
        pane = self._focused
        chosen = pane.chosen if pane is not None else None
        for each in pane.panel.actions if pane is not None and chosen is not None and chosen.subject else ():
            title = escape(printable(f"{each.label} {chosen.subject if chosen is not None else ''}"))
            yield SystemCommand(title, line(each.words), lambda name=each.name: self.action_act(name))

    @property
    def _focused(self) -> Pane | None:
        """The pane that has the focus, also below a dialog."""
        base = self.screen_stack[0]
        parent = base.focused.parent if base.focused is not None else None
        return parent if isinstance(parent, Pane) else None

    def _draw(self) -> None:
        if self._snapshot is None:
            return
        log = self._snapshot.log
        rows = sorted((*log.rows, *self._done), key=lambda each: each.happened_at)
        snapshot = replace(self._snapshot, log=log._replace(rows=tuple(rows)))
        for pane in self._panes:
            pane.show(snapshot, self.words)
        self._keep_focus()
        self._head()

    def _keep_focus(self) -> None:
        """A table without rows has lost it. Without screens the application is being left."""
        last = self._last
        if self.screen_stack and last is not None and last.table.display:
            base = self.screen_stack[0]
            if base.focused is None:
                base.set_focus(last.table)

    def _head(self) -> None:
        """The line on top. It changes only when what it says does."""
        now = SYSTEM.monotonic()
        waited = now - max(self._arrived_at, self._asked_at)
        is_late = not self.feed.paused and waited > max(5.0, 3 * self.feed.interval)
        self._grid.set_class(is_late, "-stale")
        age = span(now - self._arrived_at)
        paused = f"paused, seen {age} ago" if self.feed.paused else ""
        text = printable(self._headline(f"no news for {age}" if is_late else paused))
        if text != str(self._top.content):
            self._top.update(text)

    def _headline(self, remark: str) -> str:
        parts = ["katax"]
        if self._snapshot is not None:
            health = self._snapshot.health
            parts += [f"{health.profile} ({self._snapshot.role})", state(self._snapshot.status).plain]
        parts += [remark, "" if self.feed.paused else f"every {self.feed.interval:g} s"]
        parts += [f"filter: {self.words}" if self.words else ""]
        parts += [_reporting(self._snapshot) if self._snapshot is not None else ""]
        return "  ".join(filter(None, parts))

    def _start(self, words: tuple[str, ...] | None) -> None:
        if words is None:
            return
        self._note(words, "started")
        self._in_thread(words, lambda: self.Ran(words, self._run_command(words)))

    def _in_thread(self, words: Sequence[str], work: Callable[[], Message]) -> None:
        """Posts the message that `work` returns once its command has ended."""

        def run() -> None:
            try:
                self.post_message(work())
            except Exception as error:  # noqa: BLE001 - the thread's boundary: the application ends with it
                self.post_message(self.Failed(error))

        Thread(target=run, name=f"katax-{words[0]}", daemon=True).start()

    def _note(self, words: Sequence[str], text: str, *, failed: bool = False) -> None:
        """Every command stands in the log, as it can be repeated."""
        happening = Happening(SYSTEM.now(), "error" if failed else "info", line(words), text)
        self._done = [*self._done[-_KEPT:], happening]
        self._draw()

    def _end_by_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # Not on the main thread, as in tests of a program that embeds it: then its signals are not ours.
            with suppress(ValueError, RuntimeError):
                loop.add_signal_handler(number, self.exit, None, 128 + number)

    def _fatal_error(self) -> None:
        """Textual would print a traceback with the values of variables: `run_dashboard` raises the error instead."""
        self.error = self._exception
        self._close_messages_no_wait()


def _reporting(snapshot: Snapshot) -> str:
    """The number of processes that report; of a source that is gone, the last number and its time."""
    part = snapshot.processes
    count = len(part.rows)
    who = "1 process" if count == 1 else f"{count} processes"
    if part.rows and part.missing:
        return f"{who} reported {ago(part.seen_at, snapshot.taken_at)} ago"
    return f"{who} report{'s' if count == 1 else ''}"


def run_dashboard(snapshot: Callable[[], Snapshot], *, interval: float, run: Ask, read: Ask) -> int:
    """Shows the dashboard until it is left; returns the exit code. Raises what went wrong inside of it."""
    app = Dashboard(snapshot, interval=interval, run=run, read=read)
    with guarded():
        app.run()
    if app.error is not None:
        raise app.error
    return app.return_code or 0
