"""What `katax cache` shows, from values."""

from __future__ import annotations

from katax_cli.cli.cache.views import reply_value, survey_facts, survey_lines, value_row
from katax_cli.services.redis.keyspace import Survey


def test_a_survey_in_words() -> None:
    exact = Survey(
        matching=4,
        at_least=False,
        measured=4,
        bytes=2048,
        types={"string": 3, "list": 1},
        lifetimes={"for ever": 4},
    )
    assert survey_lines(exact, "a*") == [
        "4 keys match 'a*', about 2.00K",
        "types: string 75%, list 25%",
        "lifetimes: for ever 100%",
    ]
    unfinished = Survey(matching=9000, at_least=True, measured=0, bytes=None, types={}, lifetimes={})
    assert survey_lines(unfinished, "a*") == ["at least 9000 keys match 'a*'"]
    assert survey_facts(unfinished) == {"matching": 9000, "at_least": True}


def test_values_are_json_for_programs_and_text_for_people() -> None:
    assert value_row("k", b'{"a":1}', text=True) == ("k", '{"a":1}')
    assert value_row("k", b'{"a":1}', text=False) == ("k", {"a": 1})
    assert value_row("k", b'"text"', text=True) == ("k", "text")
    assert value_row("k", b"\xff", text=True) == ("k", "\udcff")
    assert value_row("k", None, text=True) == ("k", None)


def test_replies_are_text() -> None:
    reply = [b"a", 1, None, [b"\xff"]]
    assert reply_value(reply, text=True) == ["a", 1, None, ["\udcff"]]
    assert reply_value(reply, text=False) == ["a", 1, None, [{"base64": "/w=="}]]
    assert value_row("\udcff", b"\xff", text=False) == ({"base64": "/w=="}, {"base64": "/w=="})
