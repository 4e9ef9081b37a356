"""The depth of JSON is told as a parser would find it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.core.text.js_json import stringify
from katax_cli.core.text.nesting import DEEPEST, check_nesting
from katax_cli.core.text.text import to_json

TEXTS = st.text(alphabet='[]{}"\\,:a')
VALUES = st.recursive(
    TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def passes(text: str, deepest: int) -> bool:
    try:
        check_nesting(text, deepest)
    except ValueError:
        return False
    return True


@given(VALUES)
def test_the_depth_of_json_is_told_exactly(value: Any) -> None:
    text, levels = json.dumps(value), depth(value)
    assert [passes(text, deepest) for deepest in range(levels + 2)] == [False] * levels + [True, True]


@pytest.mark.parametrize("opened", ["[", '{"a":', '[{"]}":'])
def test_what_a_parser_would_go_into_is_refused_also_when_it_is_never_closed(opened: str) -> None:
    levels = len(opened.replace('"]}"', "")) - len(
        opened.replace('"]}"', "").replace("[", "").replace("{", "")
    )
    most = DEEPEST // levels
    assert passes(opened * most, DEEPEST)
    for text in (
        opened * (most + 1),
        opened * 100_000,
        opened * (most + 1) + "]" * 400,
        opened * 5_000 + '"',
    ):
        assert not passes(text, DEEPEST)


def test_the_bound_is_named() -> None:
    with pytest.raises(ValueError, match=r"^nested deeper than 250$"):
        check_nesting("[" * 251)


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_what_is_read_can_be_written_again(opened: str, closed: str) -> None:
    value = json.loads(f"{opened * DEEPEST}1{closed * DEEPEST}")
    assert json.loads(to_json(value)) == json.loads(stringify(value)) == value


def test_a_long_text_may_be_flat() -> None:
    assert passes(json.dumps([{"id": number, "name": '"[\\'} for number in range(50_000)]), 2)
