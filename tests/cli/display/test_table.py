"""Tables that fit: what is shortened, what stands upright, and that no line is ever too long."""

import re

from hypothesis import given
from hypothesis import strategies as st

from katax_cli.cli.display.table import Look, fitted, markdown, records, table
from katax_cli.cli.display.widths import cell_width

WORDS = st.lists(st.text("ab漢字éß😀 ", max_size=40), min_size=1, max_size=6)


def test_what_fits_stays() -> None:
    assert fitted((2, 5), (False, False), 9) == (2, 5)


def test_long_texts_give_way_first_and_numbers_never() -> None:
    assert fitted((4, 200, 19, 8), (True, False, False, True), 80) == (4, 43, 19, 8)
    assert fitted((30, 30, 200), (False, False, False), 80) == (25, 25, 26)
    assert fitted((12, 12, 12, 12, 12, 12), (False,) * 6, 70) == (10,) * 6


def test_rows_stand_upright_where_they_would_lose_too_much() -> None:
    wide = (20,) * 9

    assert fitted(wide, (False,) * 9, 80) is None
    assert fitted(wide, (True,) * 9, 200, "on") is None
    assert fitted(wide, (False,) * 9, 80, "off") is not None
    assert fitted((19, 19, 19, 19, 19), (True,) * 5, 80) is None


def test_upright_rows_are_whole() -> None:
    rows = [["1", "x" * 100], ["2", "漢字"]]
    look = Look(right=(True, False), width=20)

    out = "".join(table(["id", "long name"], rows, [], look))

    assert out == f"id  long name\n--  {'-' * 16}\n 1  {'x' * 15}…\n 2  漢字\n"
    upright = "".join(table(["id", "long name"], rows, [], look._replace(width=12)))
    assert upright == (
        f"-[ 1 ]-----\nid         1\nlong name  {'x' * 100}\n-[ 2 ]-----\nid         2\nlong name  漢字\n"
    )
    assert "".join(records(["id", "long name"], [rows[:1], rows[1:]], look)) == upright


def test_markdown_escapes_what_it_would_read() -> None:
    out = "".join(markdown(["a|b", "n"], [[["*x* <b> `y` [z] \\", "1"]]], Look(right=(False, True))))

    assert out == "| a\\|b | n |\n| --- | ---: |\n| \\*x\\* \\<b> \\`y\\` \\[z] \\\\ | 1 |\n"


@given(rows=st.lists(WORDS, min_size=1, max_size=5), width=st.integers(20, 100))
def test_a_table_on_a_terminal_never_wraps(rows: list[list[str]], width: int) -> None:
    columns = min(map(len, rows))
    head = [row[:columns] for row in rows]
    labels = [f"c{at}" for at in range(columns)]
    natural = [
        max(cell_width(cell) for cell in [label, *cells]) for label, *cells in zip(labels, *head, strict=True)
    ]
    widths = fitted(natural, (False,) * columns, width)

    lines = "".join(table(labels, head, [head], Look(right=(False,) * columns, width=width))).splitlines()

    assert (widths is None) is bool(re.match(r"-\[ 1 \]", lines[0]))
    if widths is not None:
        assert max(map(cell_width, lines)) <= width


def test_what_is_longer_than_measured_is_whole_where_its_line_fits() -> None:
    look = Look(right=(True, False, True), width=20)
    later = [["1000000", "ab", "2"], ["1", "x" * 30, "1000000"], ["1", "x" * 30, "10000000000000"]]

    assert "".join(table(["id", "name", "n"], [["1", "ab", "3"]], [later], look)) == (
        "id  name  n\n--  ----  -\n 1  ab    3\n1000000  ab    2\n 1  xxx…  1000000\n 1  xxx…  …\n"
    )


def test_sentences_stand_whole_in_their_line_or_below_it() -> None:
    labels = ["name", "reason", "size"]
    rows = [
        ["main", "the server is down, or its port is wrong", "7"],
        ["lite", "a file", "12"],
        ["x", "", "1"],
    ]
    look = Look(right=(False, False, True), width=26, below=1)

    assert "".join(table(labels, rows[:2], [rows[2:]], look)) == (
        "name  size  reason\n"
        "----  ----  --------------\n"
        "main     7\n"
        "  the server is down, or\n"
        "  its port is wrong\n"
        "lite    12  a file\n"
        "x        1\n"
    )
    assert "".join(table(labels, rows, [], look._replace(width=16))) == (
        "name  size\n"
        "----  ----\n"
        "main     7\n"
        "  the server is\n"
        "  down, or its\n"
        "  port is wrong\n"
        "lite    12\n"
        "  a file\n"
        "x        1\n"
    )
    for fits in (look._replace(width=80), look._replace(width=None)):
        assert "".join(table(labels, rows, [], fits)) == "".join(
            table(labels, rows, [], fits._replace(below=None))
        )
