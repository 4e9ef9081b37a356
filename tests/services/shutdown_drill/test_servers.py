"""How long servers are asked for what a program left; what they answer is in test_drill.py."""

from __future__ import annotations

from typing import cast

from katax_cli.engines.sessions import ServerSession
from katax_cli.services.shutdown_drill.servers import Server, SessionFilter, settled
from katax_cli.services.shutdown_drill.values import Leftovers

SESSION = Leftovers((ServerSession("9@now", "app", 4000, "", busy=False),))
WHOSE = SessionFilter("mark", None, frozenset)


class Answers:
    """A server that tells these, one after the other, and the last for ever."""

    name = "main"

    def __init__(self, *answers: Leftovers) -> None:
        self._answers = list(answers)

    def left(self, _whose: SessionFilter) -> Leftovers:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def test_a_look_that_took_all_the_time_is_not_the_last_one() -> None:
    """It began before the server could notice the end."""
    slow, leaking = Answers(SESSION, Leftovers()), Answers(SESSION)

    assert settled([cast("Server", slow)], WHOSE, seconds=0.0) == {"main": Leftovers()}
    assert settled([cast("Server", leaking)], WHOSE, seconds=0.0) == {"main": SESSION}
