"""Manual pages: all there, and nothing in them that man would read as a request of its own."""

from __future__ import annotations

import re

from katax_cli.cli import app
from katax_cli.cli.completion.tree import nodes
from katax_cli.cli.manual.pages import pages

REQUESTS = {"TH", "SH", "SS", "TP", "PP", "B", "BR", "nf", "fi", "sp"}


def test_there_is_a_page_for_katax_and_one_for_each_group() -> None:
    made = pages()
    assert sorted(made) == sorted(["katax.1", *(f"katax-{name}.1" for name in app.COMMANDS)])
    for node in nodes():
        if len(node.path) == 2:
            heading = " ".join(("katax", *node.path)).replace("-", "\\-")
            assert f".SS {heading}\n" in made[f"katax-{node.path[0]}.1"]


def test_pages_are_plain_text_for_man() -> None:
    for name, text in pages().items():
        assert text.isascii()
        assert set(re.findall(r"^[.'](\w*)", text, re.MULTILINE)) <= REQUESTS
        assert text.count("\n.nf\n") == text.count("\n.fi\n")
        assert re.findall(r"\\(?![-e&(\[])", text) == []
        assert f"\n.SH NAME\n{name.removesuffix('.1')} ".replace("-", "\\-") in text
