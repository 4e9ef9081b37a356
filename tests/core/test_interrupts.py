"""The end of a block by an interrupt."""

import asyncio

import pytest

from katax_cli.core.interrupts import if_interrupted


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
