"""One panel on the screen: its table, or why there is none. What did not change is not drawn again."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Static

from katax_cli.core.text.text import printable
from katax_cli.snapshot import Snapshot
from katax_cli.tui.panels import Panel
from katax_cli.tui.table import GAP, Drawn, Row, alike, colourless, fitted, found


class Pane(Vertical):
    """Draws its panel from the last Snapshot that it was shown."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(id=panel.name, classes="minor" if panel.minor else None)
        self.panel = panel
        self.drawn: Drawn | None = None
        self._snapshot: Snapshot | None = None
        self._words = ""
        self._rows: tuple[Row, ...] = ()
        self._columns: tuple[tuple[int, int], ...] = ()
        self._width = 0
        self._current = False
        self._title = ""
        self._said = ""
        self.table: DataTable[Text] = DataTable(cursor_type="row", cell_padding=GAP // 2, show_cursor=False)
        self._empty = Static(classes="empty", markup=False)
        self._empty.display = False

    def compose(self) -> ComposeResult:
        self._entitle(self.panel.title)
        yield self.table
        yield self._empty

    @property
    def chosen(self) -> Row | None:
        """The row under the cursor."""
        at = self.table.cursor_row
        return self._rows[at] if 0 <= at < len(self._rows) else None

    def show(self, snapshot: Snapshot, words: str) -> None:
        """Takes what there is to show; `words` filter the rows."""
        self._snapshot, self._words, self._current = snapshot, words, False
        if self.display:
            self._draw()

    def on_resize(self) -> None:
        self._draw()

    def on_show(self) -> None:
        self._draw()

    def on_descendant_focus(self) -> None:
        self.table.show_cursor = True

    def on_descendant_blur(self) -> None:
        self.table.show_cursor = False

    def _draw(self) -> None:
        width = self.size.width - self.table.styles.scrollbar_size_vertical - GAP
        if self._snapshot is None or width <= 0 or (self._current and width == self._width):
            return
        self._current = True
        drawn = self.panel.draw(self._snapshot, width)
        rows = found(drawn.rows, self._words)
        if self.app.no_color:
            rows = tuple(map(colourless, rows))
        self._say(drawn, rows)
        columns = self._fitted(rows, width)
        if columns == self._columns and [row.key for row in rows] == [row.key for row in self._rows]:
            self._update(rows)
        else:
            self._rebuild(columns, rows)
        self._rows, self._columns, self.drawn = rows, columns, drawn

    def _say(self, drawn: Drawn, rows: Sequence[Row]) -> None:
        """Sets only what differs: setting it draws it."""
        hidden = len(drawn.rows) - len(rows)
        notes = [drawn.note, f"{hidden} hidden" if hidden else ""]
        self._entitle(" · ".join(filter(None, (self.panel.title, *notes))))
        self.set_class(drawn.stale, "-stale")
        empty = "" if rows else printable(drawn.empty) if not drawn.rows else "no row matches the filter"
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

    def _fitted(self, rows: Sequence[Row], width: int) -> tuple[tuple[int, int], ...]:
        """A column does not become narrower again until the panel does, so that nothing dances."""
        had = dict(self._columns) if width == self._width else {}
        columns = [
            column if column.grows else column._replace(width=max(column.width, had.get(at, 0)))
            for at, column in enumerate(self.panel.columns)
        ]
        self._width = width
        return fitted(columns, rows, width)

    def _update(self, rows: Sequence[Row]) -> None:
        for at, (row, before) in enumerate(zip(rows, self._rows, strict=True)):
            for place, (index, _) in enumerate(self._columns):
                if not alike(row.cells[index], before.cells[index]):
                    self.table.update_cell_at(Coordinate(at, place), row.cells[index])

    def _rebuild(self, columns: Sequence[tuple[int, int]], rows: Sequence[Row]) -> None:
        chosen, top = self.chosen, self.table.scroll_y
        self.table.clear(columns=True)
        for index, wide in columns:
            self.table.add_column(self._label(index, rows), width=wide)
        for row in rows:
            self.table.add_row(*(row.cells[index] for index, _ in columns))
        keys = [row.key for row in rows]
        if chosen is not None and chosen.key in keys:
            self.table.move_cursor(row=keys.index(chosen.key), scroll=False)
        self.table.scroll_to(y=top, animate=False)

    def _label(self, index: int, rows: Sequence[Row]) -> Text:
        """Above numbers it stands on the right, as they do."""
        return Text(self.panel.columns[index].label, justify=rows[0].cells[index].justify if rows else None)
