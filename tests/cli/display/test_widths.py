"""Texts on a terminal: what fits stays, what is longer is cut with a mark or goes on at a blank."""

from hypothesis import given
from hypothesis import strategies as st

from katax_cli.cli.display.widths import cell_width, shortened, wrapped

TEXTS = st.text("ab漢字é😀 ", max_size=60)


@given(TEXTS, st.integers(1, 30))
def test_shortened_texts_fit_and_say_so(text: str, size: int) -> None:
    cut = shortened(text, size)

    assert cell_width(cut) <= size
    assert (cut == text) is (cell_width(text) <= size)
    assert cut == text or cut.endswith("…")


@given(TEXTS, st.integers(4, 30))
def test_wrapped_texts_lose_no_word_and_break_none(text: str, size: int) -> None:
    lines = list(wrapped(text, size, "  "))

    assert " ".join(lines).split() == text.split()
    assert [line for line in lines if cell_width(line) > size and len(line.split()) > 1] == []
    if cell_width(text) <= size:
        assert lines == [text]


def test_what_goes_on_is_indented() -> None:
    text = "note: no profile named 'prdo'; known profiles: /a/path/longer/than/a/line end"

    assert list(wrapped(text, 24, "  ")) == [
        "note: no profile named",
        "  'prdo'; known",
        "  profiles:",
        "  /a/path/longer/than/a/line",
        "  end",
    ]
    assert list(wrapped("  one two  three", 8, "  ")) == ["  one", "  two", "  three"]
