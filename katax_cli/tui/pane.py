"""One panel on the screen: its table, or why there is none. What did not change is not drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.coordinate import Coordinate
from textual.message import Message
from textual.widgets import DataTable, Static

from katax_cli.core.text.text import printable
from katax_cli.snapshot import Snapshot
from katax_cli.tui.panels import Panel
from katax_cli.tui.table import GAP, PanelContent, TableRow, alike, colourless, faded, fitted, found

CHANGES_KEPT = 50
"""Changes after which a table forgets how it drew cells: it would keep 10,000, most of them of old values."""


class RowTable(DataTable[Text]):
    """A table whose Home and End are its first and last row, wherever the view is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home,g", "first", show=False),
        Binding("end,G", "scroll_bottom", show=False),
    ]

    def action_first(self) -> None:
        self.action_scroll_top()
        self.scroll_home(animate=False)


class Pane(Vertical):
    """Draws its panel from the last Snapshot that it was shown; without rows it folds to one line."""

    class Folded(Message):
        """The one line has another text now, or there are rows again."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(id=panel.name, classes="minor" if panel.minor else None)
        self.panel = panel
        self.drawn: PanelContent | None = None
        self._snapshot: Snapshot | None = None
        self._words = ""
        self._rows: tuple[TableRow, ...] = ()
        self._columns: tuple[tuple[int, int], ...] = ()
        self._width = 0
        self._current = False
        self._changes = 0
        self._held: tuple[TableRow, ...] | None = None
        self.folded: tuple[str, str] | None = None
        """The title and why there are no rows; None while there are."""
        self._title = ""
        self._said = ""
        self.table = RowTable(cursor_type="row", cell_padding=GAP // 2, show_cursor=False)
        self._empty = Static(classes="empty", markup=False)
        self._empty.display = False

    def compose(self) -> ComposeResult:
        self._entitle(self.panel.title)
        yield self.table
        yield self._empty

    def on_mount(self) -> None:
        self.watch(self.table, "scroll_y", self._scrolled, init=False)

    @property
    def chosen(self) -> TableRow | None:
        """The row under the cursor."""
        at = self.table.cursor_row
        return self._rows[at] if 0 <= at < len(self._rows) else None

    def show(self, snapshot: Snapshot, words: str) -> None:
        """Takes what there is to show; `words` filter the rows."""
        self._snapshot, self._words, self._current = snapshot, words, False
        if self.display or self.folded is not None:
            self._draw()

    def on_resize(self) -> None:
        self._draw()

    def on_show(self) -> None:
        self._draw()

    def _scrolled(self) -> None:
        """A table that is rebuilt scrolls too: judged when that is over."""
        self.call_later(self._follow_or_hold)

    def on_data_table_row_highlighted(self) -> None:
        self._follow_or_hold()

    def on_descendant_focus(self) -> None:
        self.table.show_cursor = True

    def on_descendant_blur(self) -> None:
        self.table.show_cursor = False

    def _draw(self) -> None:
        width = self.size.width - self.table.styles.scrollbar_size_vertical - GAP
        if self._snapshot is None or (self._current and width == self._width):
            return
        if width <= 0 and self.folded is None:
            return
        self._current = True
        drawn = self.panel.draw(self._snapshot, width)
        self._fold(drawn)
        newer = self._hold(drawn.rows)
        listed = drawn.rows if self._held is None else self._held
        rows = found(listed, self._words)
        if self.app.no_color:
            rows = tuple(map(colourless, rows))
        self._say(drawn, rows, hidden=len(listed) - len(rows), newer=newer)
        columns = self._fitted(rows, width)
        if columns == self._columns and len(rows) == len(self._rows):
            self._update(rows)
        else:
            self._rebuild(columns, rows)
        self._rows, self._columns, self.drawn = rows, columns, drawn

    @property
    def _at_top(self) -> bool:
        return self.table.cursor_row <= 0 and self.table.scroll_target_y <= 0

    def _follow_or_hold(self) -> None:
        """Draws a stream again when the cursor left its newest row or came back to it."""
        if self.panel.is_stream and self._at_top is (self._held is not None):
            self._current = False
            self._draw()

    def _hold(self, rows: tuple[TableRow, ...]) -> int:
        """Away from the top of a stream its rows stay where they are; returns how many came since."""
        if not self.panel.is_stream or self._at_top or self.drawn is None:
            self._held = None
            return 0
        held = self.drawn.rows if self._held is None else self._held
        now = {row.key: row for row in rows}
        # A row that the source lists no more is kept as it was seen last.
        self._held = tuple(now.get(row.key) or row._replace(cells=faded(row.cells)) for row in held)
        return len(now.keys() - {row.key for row in held})

    def _fold(self, drawn: PanelContent) -> None:
        title = f"{self.panel.title} · {drawn.note}" if drawn.note else self.panel.title
        folded = None if drawn.rows or self._held else (title, drawn.empty)
        if folded != self.folded:
            self.folded = folded
            self.set_class(folded is not None, "-folded")
            self.post_message(self.Folded())

    def _say(self, drawn: PanelContent, rows: Sequence[TableRow], *, hidden: int, newer: int) -> None:
        """Sets only what differs: setting it draws it."""
        paused = f"paused, {newer} newer" if self._held is not None else ""
        notes = [paused, drawn.note, f"{hidden} hidden" if hidden else ""]
        self._entitle(" · ".join(filter(None, (self.panel.title, *notes))))
        self.set_class(drawn.stale, "-stale")
        empty = "" if rows else printable(drawn.empty) if not hidden else "no row matches the filter"
        if empty != self._said:
            self._empty.update(empty)
            self._said = empty
        if self.table.display is not bool(rows):
            self.table.display, self._empty.display = bool(rows), not rows

    def _entitle(self, title: str) -> None:
        """As it is: a string would be read as Textual's markup."""
        if title != self._title:
            self.border_title = Content(printable(title))
            self._title = title

    def _fitted(self, rows: Sequence[TableRow], width: int) -> tuple[tuple[int, int], ...]:
        """A column does not become narrower again until the panel does, so that nothing dances."""
        had = dict(self._columns) if width == self._width else {}
        columns = [
            column if column.grows else column._replace(width=max(column.width, had.get(at, 0)))
            for at, column in enumerate(self.panel.columns)
        ]
        self._width = width
        return fitted(columns, rows, width)

    def _update(self, rows: Sequence[TableRow]) -> None:
        changed = False
        for at, (row, before) in enumerate(zip(rows, self._rows, strict=True)):
            for place, (index, _) in enumerate(self._columns):
                if not alike(row.cells[index], before.cells[index]):
                    self.table.update_cell_at(Coordinate(at, place), row.cells[index])
                    changed = True
        self._changes += changed
        if changed and self._changes % CHANGES_KEPT == 0:
            self.table.notify_style_update()
        if [row.key for row in rows] != [row.key for row in self._rows]:
            self._place_cursor(self.chosen, rows)

    def _rebuild(self, columns: Sequence[tuple[int, int]], rows: Sequence[TableRow]) -> None:
        chosen, top = self.chosen, self.table.scroll_y
        self.table.clear(columns=True)
        for index, wide in columns:
            self.table.add_column(self._label(index, rows), width=wide)
        for row in rows:
            self.table.add_row(*(row.cells[index] for index, _ in columns))
        self._place_cursor(chosen, rows)
        # The scrolling waits for the next refresh; until then this says where the view is.
        self.table.scroll_target_y = top
        self.table.scroll_to(y=top, animate=False)

    def _place_cursor(self, chosen: TableRow | None, rows: Sequence[TableRow]) -> None:
        """On the row that was chosen, wherever that is now; on the first where it is gone, or a stream is followed."""
        is_kept = self._held is not None or not self.panel.is_stream
        keys = [row.key for row in rows] if is_kept else []
        at = keys.index(chosen.key) if chosen is not None and chosen.key in keys else 0
        self.table.move_cursor(row=at, scroll=False)

    def _label(self, index: int, rows: Sequence[TableRow]) -> Text:
        """Above numbers it stands on the right, as they do."""
        return Text(self.panel.columns[index].label, justify=rows[0].cells[index].justify if rows else None)
