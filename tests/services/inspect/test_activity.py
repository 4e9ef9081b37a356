"""The tree of who waits for whom, made from waits as servers tell them."""

from __future__ import annotations

from katax_cli.engines.activity import ActivityList, LockWait, Pid, SessionActivity
from katax_cli.services.inspect.activity import BlockingTree, tree


def session(pid: int) -> SessionActivity:
    return SessionActivity(pid, "app", "[local]", "shop", "active", None, 9.0, 9.0, "select ?")


def tree_of(*waits: tuple[Pid, Pid | None]) -> BlockingTree:
    listed = ActivityList(tuple(session(pid) for pid in range(1000)), None)
    return tree([LockWait(waiter, holder, "a row of t", 1.5) for waiter, holder in waits], listed)


def drawn(found: BlockingTree) -> list[tuple[Pid | None, int]]:
    return [(row.pid, row.level) for row in found.rows]


def test_those_who_wait_stand_below_those_they_wait_for() -> None:
    found = tree_of((2, 1), (3, 2), (4, 1), (6, 5))

    assert drawn(found) == [(1, 0), (2, 1), (3, 2), (4, 1), (5, 0), (6, 1)]
    assert [row.blocked_by for row in found.rows] == [(), (1,), (2,), (1,), (), (5,)]
    assert (found.rows[0].lock, found.rows[0].waiting_seconds) == (None, None)
    assert (found.rows[1].lock, found.rows[1].waiting_seconds) == ("a row of t", 1.5)
    assert found.circles == ()


def test_who_waits_for_several_stands_once_below_the_one_that_waits_for_nobody() -> None:
    found = tree_of((2, 1), (3, 2), (3, 1))

    assert drawn(found) == [(1, 0), (2, 1), (3, 1)]
    assert found.rows[2].blocked_by == (2, 1)


def test_a_deadlock_of_three_and_one_who_waits_for_it() -> None:
    found = tree_of((11, 12), (12, 13), (13, 11), (14, 12))

    assert found.circles == ((11, 12, 13),)
    assert drawn(found) == [(11, 0), (13, 1), (12, 2), (14, 3)]
    assert found.rows[0].blocked_by == (12,), "it waits as well"


def test_holders_that_the_server_does_not_name_or_list() -> None:
    found = tree_of((2, None), (3, None), (4, "a prepared transaction"))

    assert drawn(found) == [(None, 0), (2, 1), (3, 1), ("a prepared transaction", 0), (4, 1)]
    assert [row.blocked_by for row in found.rows] == [(), (), (), (), ("a prepared transaction",)]
    assert found.rows[0].session.state == found.rows[3].session.state == "hidden"


def test_a_queue_where_each_waits_for_all_before_it_stays_small() -> None:
    """The server names for each of them every one that is before it, so that there are exponentially many ways."""
    queue = [(waiter, holder) for waiter in range(1, 200) for holder in range(waiter)]

    assert drawn(tree_of(*queue)) == [(0, 0), *((pid, 1) for pid in range(1, 200))]


def test_a_chain_as_long_as_a_server_has_sessions() -> None:
    found = tree_of(*((pid + 1, pid) for pid in range(5000)))

    assert drawn(found)[-1] == (5000, 5000)
