"""What `katax cache` shows, from values."""

from __future__ import annotations

from katax_cli.cli.cache.views import Progress, reply_value, survey_lines, value_row
from katax_cli.services.redis.keyspace import Survey
from tests.fake_clock import FakeClock


def test_progress_is_told_every_two_seconds() -> None:
    clock, told = FakeClock(), list[str]()
    progress = Progress(told.append, "deleted", 1000, clock=clock)
    for count in (100, 200, 300, 400, 500):
        clock.at += 1.0
        progress(count)
    assert told == ["deleted 200 of 1000, 100/s, 8 s left", "deleted 400 of 1000, 100/s, 6 s left"]
    clock.at += 5.0
    progress(1500)
    assert told[-1] == "deleted 1500 of 1000, 150/s, 0 s left"


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
