"""What a later look at a server proves about a statement or session that was told to end."""

from __future__ import annotations

import pytest

from katax_cli.engines.activity import ActivityList, SessionActivity
from katax_cli.services.inspect.ending import EndAction, Fate, fate_of


def session(
    *, pid: int = 7, state: str = "active", session: str = "born", work: str | None = "first"
) -> SessionActivity:
    return SessionActivity(pid, "app", None, "shop", state, None, 1.0, 1.0, "select ?", session, work)


@pytest.mark.parametrize(
    ("action", "later", "fate"),
    [
        ("cancel", [session()], "still running"),
        ("cancel", [session(work=None, state="idle")], "cancelled"),
        ("cancel", [session(work="second")], "cancelled"),
        ("cancel", [session(session="another")], "cancelled"),
        ("cancel", [session(pid=8)], "cancelled"),
        ("cancel", [], "cancelled"),
        ("cancel", [session(state="hidden", work=None)], "unknown"),
        ("terminate", [session()], "still running"),
        ("terminate", [session(work=None, state="idle")], "still running"),
        ("terminate", [session(state="hidden", work=None)], "still running"),
        ("terminate", [session(session="another")], "terminated"),
        ("terminate", [session(pid=8)], "terminated"),
        ("terminate", [], "terminated"),
    ],
)
def test_what_a_later_look_proves(action: EndAction, later: list[SessionActivity], fate: Fate) -> None:
    assert fate_of(session(), action, ActivityList(tuple(later), None)) == fate


def test_a_statement_that_was_hidden_is_never_said_to_be_cancelled() -> None:
    hidden = session(state="hidden", work=None, session="")
    later = ActivityList((session(state="idle", work=None, session=""),), None)

    assert fate_of(hidden, "cancel", later) == "unknown"
