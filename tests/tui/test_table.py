"""Which columns and rows are shown where there is little room."""

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from katax_cli.tui.table import GAP, Column, TableRow, alike, faded, fitted, found

COLUMNS = (Column("name"), Column("ms", 0, 4), Column("age", 2, 4), Column("message", 1, 6, grows=True))


def row(*cells: str) -> TableRow:
    return TableRow(cells[0], cells[0], tuple(map(Text, cells)))


ROWS = [row("main", "12", "<10s", "connection refused"), row("a-long-name", "1", "5m", "")]


def test_with_room_all_columns_are_shown_and_the_text_gets_what_is_left() -> None:
    assert fitted(COLUMNS, ROWS, 60) == ((0, 11), (1, 4), (2, 4), (3, 60 - 11 - 4 - 4 - 3 * GAP))


def test_the_text_is_cut_before_a_column_gives_way() -> None:
    assert fitted(COLUMNS, ROWS, 31) == ((0, 11), (1, 4), (2, 4), (3, 6))


def test_the_highest_rank_gives_way_first() -> None:
    assert fitted(COLUMNS, ROWS, 30) == ((0, 11), (1, 4), (3, 11))


def test_the_first_column_stays() -> None:
    assert fitted(COLUMNS, ROWS, 3) == ((0, 4),)


def test_a_long_name_takes_half_and_not_the_place_of_the_others() -> None:
    assert fitted(COLUMNS[:2], [row("n" * 90, "1", "", "")], 30) == ((0, 15), (1, 4))


def test_without_rows_the_labels_need_room() -> None:
    assert fitted(COLUMNS[:3], [], 80) == ((0, 4), (1, 4), (2, 4))


@given(st.integers(1, 200), st.lists(st.text(max_size=30), max_size=4))
def test_what_is_shown_fits_unless_it_is_one_column(width: int, names: list[str]) -> None:
    shown = fitted(COLUMNS, [row(name, "1", "5m", "text") for name in names], width)

    assert len(shown) == 1 or sum(wide + GAP for _, wide in shown) - GAP <= width
    assert [at for at, _ in shown] == sorted(at for at, _ in shown)


def test_rows_have_all_words_in_any_case() -> None:
    assert [each.key for each in found(ROWS, "REFUSED main")] == ["main"]
    assert [each.key for each in found(ROWS, " ")] == ["main", "a-long-name"]
    assert not found(ROWS, "refused 5m")


def test_what_fades_keeps_its_place() -> None:
    (cell,) = faded([Text("7", "red", justify="right", overflow="ellipsis")])

    assert (cell.plain, cell.style, cell.justify, cell.overflow) == ("7", "dim", "right", "ellipsis")


def test_texts_of_different_styles_do_not_look_alike() -> None:
    assert alike(Text("7", "red"), Text("7", "red"))
    assert not alike(Text("7", "red"), Text("7", "dim"))
    assert not alike(Text("7", "red"), Text("8", "red"))
