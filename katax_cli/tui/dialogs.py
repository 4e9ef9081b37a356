"""The dialogs above the panels: a command before it runs, one row in full, and the keys."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from katax_cli.core.roles import needed
from katax_cli.core.settings import Role
from katax_cli.core.text.text import printable
from katax_cli.tui.panels import Action
from katax_cli.tui.table import TableRow


def command(action: Action, subject: str, profile: str, options: Sequence[str] = ()) -> tuple[str, ...]:
    """The katax command of an action, with the options that a person adds."""
    if subject.startswith("-"):
        return (*action.words, "-p", profile, *options, "--", subject)
    return (*action.words, subject, "-p", profile, *options)


def options(action: Action, role: Role) -> str:
    """The options that the dialog suggests; running a command from here is its confirmation."""
    asks = action.tier is not None and needed(role, action.tier) == "yes"
    return f"{action.options} --yes".strip() if asks else action.options


class Info(ModalScreen[None]):
    """Labels and what belongs to them; arrows move what is longer, and any of the usual keys closes it."""

    AUTO_FOCUS = "VerticalScroll"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter,question_mark", "dismiss", "Close")]

    def __init__(self, title: str, facts: Iterable[tuple[str, str]]) -> None:
        super().__init__()
        self._title = title
        self._facts = list(facts)
        self._body = Static(self._table())

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as box:
            box.border_title = Content(printable(self._title))
            yield self._body

    def tell(self, label: str, text: str) -> None:
        """Adds what was learnt later, or replaces what stood under the label."""
        self._facts = [*(fact for fact in self._facts if fact[0] != label), (label, text)]
        if self.is_attached:
            self._body.update(self._table())

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for label, text in self._facts:
            table.add_row(label, Text("\n".join(map(printable, text.split("\n")))))
        return table


class CommandDialog(ModalScreen[tuple[str, ...] | None]):
    """Shows the command of an action and lets its options be changed; returns its words, None for no."""

    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Leave"),
        Binding("ctrl+y", "copy", "Copy", priority=True),
    ]

    def __init__(self, action: Action, row: TableRow, *, profile: str, role: Role) -> None:
        super().__init__()
        self._action = action
        self._subject = row.subject
        self._needed = row.options
        self._profile = profile
        self._suggested = options(action, role)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = Content(printable(f"{self._action.label} {self._subject}"))
            box.border_subtitle = "Enter runs it · Ctrl+Y copies it · Esc leaves"
            yield Static(id="command", markup=False)
            entry = Input(self._suggested, placeholder="options", select_on_focus=False)
            entry.cursor_blink = False
            yield entry

    @property
    def words(self) -> tuple[str, ...]:
        """Raises ValueError for a quotation without end."""
        options = shlex.split(self.query_one(Input).value)
        return command(self._action, self._subject, self._profile, (*self._needed, *options))

    @property
    def shown(self) -> str:
        """The command as a shell takes it, or what is wrong with it."""
        try:
            return line(self.words)
        except ValueError as error:
            return f"{error}"

    def on_mount(self) -> None:
        self._preview()

    def on_input_changed(self) -> None:
        self._preview()

    def on_input_submitted(self) -> None:
        try:
            self.dismiss(self.words)
        except ValueError as error:
            self.notify(str(error), severity="warning")

    def action_copy(self) -> None:
        try:
            self.app.copy_to_clipboard(line(self.words))
            self.notify("copied")
        except ValueError as error:
            self.notify(str(error), severity="warning")

    def _preview(self) -> None:
        self.query_one("#command", Static).update(printable(self.shown))


def key_facts(bindings: Iterable[BindingType], screens: Sequence[str]) -> list[tuple[str, str]]:
    """The keys and what they do, for the help."""
    named = [binding for binding in bindings if isinstance(binding, Binding) and binding.description]
    return [
        *((_keys(binding.key), binding.description) for binding in named),
        (f"1 … {len(screens)}", f"One screen: {', '.join(screens)}"),
        ("Tab", "Next panel"),
        ("Enter", "Open the panel, then the row; of a run also its output"),
        ("Home", "The newest row again, and follow it"),
        (":", "All commands"),
    ]


def _keys(names: str) -> str:
    shown = {
        "question_mark": "?",
        "slash": "/",
        "plus": "+",
        "equals_sign": "=",
        "minus": "-",
        "escape": "Esc",
        "ctrl+c": "Ctrl+C",
        "ctrl+t": "Ctrl+T",
        "ctrl+z": "Ctrl+Z",
        "f5": "F5",
    }
    return " ".join(shown.get(name, name) for name in names.split(","))


def line(words: Sequence[str]) -> str:
    """A command as a shell takes it."""
    return shlex.join(("katax", *words))
