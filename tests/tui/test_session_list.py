"""Sessions as rows: what holds others up comes first, and nothing can be done with what is not seen."""

from dataclasses import replace

from katax_cli.tui.layout import PANELS
from katax_cli.tui.session_list import session_rows
from tests.tui.canned import AT, FULL, HOSTILE

LONG, WAITING, IDLE, UNSEEN = FULL.activity.rows


def test_the_order_and_the_subjects() -> None:
    rows = list(session_rows((UNSEEN, IDLE, WAITING, LONG), AT))

    assert [row.subject for row in rows] == ["4711", "4820", "33", ""]
    assert [row.options for row in rows] == [("-c", "main"), ("-c", "main"), ("-c", "cache"), ()]
    states = [row.cells[3].plain for row in rows]
    assert states == ["▶ active", "▲ idle in tx", "○ idle", "? unseen"]
    assert rows[3].cells[7].plain.startswith("sessions of other users")


def test_rows_of_one_age_do_not_dance() -> None:
    one, other = IDLE._replace(pid=1), IDLE._replace(pid=2)

    def order(*ages: float) -> list[str]:
        aged = [row._replace(age_seconds=age) for row, age in zip((one, other), ages, strict=True)]
        return [row.subject for row in session_rows(aged, AT)]

    assert order(5.1, 5.9) == order(5.9, 5.1) == ["1", "2"]
    assert order(5.9, 6.1) == ["2", "1"]


def test_old_rows_fade_and_hostile_ones_are_plain() -> None:
    old, fresh = session_rows((LONG, IDLE._replace(seen_at=AT - 60)), AT)
    hostile = LONG._replace(statement=HOSTILE, user=HOSTILE)
    (row,) = session_rows((hostile,), AT)

    assert {str(cell.style) for cell in fresh.cells} == {"dim"}
    assert {str(cell.style) for cell in old.cells} != {"dim"}
    assert not any("\x1b" in cell.plain or "\n" in cell.plain for cell in row.cells)


def test_rows_have_a_cell_for_each_column() -> None:
    (panel,) = (each for each in PANELS if each.name == "activity")
    drawn = panel.draw(replace(FULL), 80)
    assert {len(row.cells) for row in drawn.rows} == {len(panel.columns)}
