"""The end of a block by an interrupt, and what it leaves in doubt."""

import asyncio

import pytest

from katax_cli.core.interrupts import (
    doubt_of,
    if_interrupted,
    note_doubt,
    settle_doubt,
    was_interrupted,
)
from katax_cli.errors import OutcomeUnknown


@pytest.mark.parametrize(
    ("raised", "tidied"),
    [(KeyboardInterrupt(), 1), (SystemExit(1), 1), (asyncio.CancelledError(), 1), (OSError("no disk"), 0)],
)
def test_an_interrupt_is_tidied_up_and_an_error_is_not(raised: BaseException, tidied: int) -> None:
    calls: list[int] = []

    with pytest.raises(type(raised)) as error, if_interrupted(lambda: calls.append(1)):
        raise raised

    assert error.value is raised
    assert len(calls) == tidied


def test_a_block_that_ends_well_is_left_alone() -> None:
    calls: list[int] = []

    with if_interrupted(lambda: calls.append(1)):
        pass

    assert calls == []


def test_doubt_is_noted_until_it_is_settled() -> None:
    cancelled = asyncio.CancelledError()
    assert doubt_of(cancelled) is None

    note_doubt(cancelled, "main", "query")
    assert str(doubt_of(cancelled)) == (
        "outcome unknown on 'main': the query was cancelled after it was sent; "
        "the write may or may not have been applied, check before repeating it"
    )

    settle_doubt(cancelled)
    note_doubt(cancelled, "main", "query")
    assert doubt_of(cancelled) is None

    note_doubt(cancelled, "main", "query", earlier=True)
    assert doubt_of(cancelled) is not None


def test_what_an_interrupt_became() -> None:
    lost, cancelled = OutcomeUnknown("main", "not answered"), OutcomeUnknown("main", "cancelled")
    lost.__cause__, cancelled.__cause__ = OSError(), asyncio.CancelledError()

    assert [was_interrupted(each) for each in (lost, cancelled, KeyboardInterrupt(), OSError())] == [
        False,
        True,
        True,
        False,
    ]
