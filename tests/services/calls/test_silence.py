"""A server is asked where nothing moves, and ended only while it is silent and nothing moved meanwhile."""

from threading import Event

import pytest

from katax_cli.services.calls import silence
from katax_cli.services.calls.silence import Silence
from tests.waiting import until


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASK_AFTER", "ASK_AGAIN"):
        monkeypatch.setattr(silence, name, 0.01)


def test_a_silent_server_is_ended_again_until_the_watch_stops() -> None:
    ended: list[str] = []
    watch = Silence(lambda: "main", ended.append)
    watch.start()
    until(lambda: len(ended) >= 3)
    watch.stop()
    assert set(ended) == {"main"}


def test_one_that_lives_or_moved_meanwhile_is_not_ended() -> None:
    asked = 0
    enough = Event()

    def find() -> str | None:
        nonlocal asked
        asked += 1
        if asked % 2:
            return None
        watch.moved()
        if asked > 10:
            enough.set()
        return "main"

    ended: list[str] = []
    watch = Silence(find, ended.append)
    watch.start()
    until(enough.is_set)
    watch.stop()
    assert ended == []


def test_a_server_is_asked_twice_and_not_at_all_once_the_watch_stopped() -> None:
    asked: list[float] = []
    watch: Silence[float] = Silence(lambda: None, asked.append)

    def deaf(seconds: float) -> bool:
        asked.append(seconds)
        return False

    assert (watch.answered(deaf), asked) == (False, [silence.ANSWER_WITHIN] * 2)
    watch.stop()
    assert (watch.answered(deaf), len(asked)) == (True, 2)
