"""Sessions as a dashboard has them: the busiest are kept, and what is not seen is said."""

from katax_cli.engines.activity import ActivityList, SessionActivity
from katax_cli.services.dashboard.activity_rows import SHOWN, activity_rows, share

IDLE = SessionActivity(1, "app", "web", "shop", "idle", None, 900.0, None, None)


def test_the_busiest_are_kept_and_the_rest_is_counted() -> None:
    waits = IDLE._replace(pid=2, state="idle in transaction", transaction_age_seconds=5.0)
    works = IDLE._replace(pid=3, state="active", age_seconds=0.1, statement="SELECT ?", work="a")
    longer = works._replace(pid=4, age_seconds=9.0, work="b")
    idle = [IDLE._replace(pid=number) for number in range(10, 10 + SHOWN)]

    rows = activity_rows("main", ActivityList((*idle, waits, works, longer), 7, ("grant more",)), 50.0)

    assert [row.pid for row in rows[:4]] == [4, 3, 2, 10]
    assert [row.busy for row in rows[:3]] == [True, True, False]
    assert len(rows) == SHOWN + 2
    assert [(row.pid, row.state, row.statement) for row in rows[-2:]] == [
        (None, "unseen", "grant more"),
        (None, "unseen", "3 more sessions; katax db activity -c main lists them"),
    ]
    assert {(row.connection, row.seen_at) for row in rows} == {("main", 50.0)}


def test_idle_ones_of_one_age_keep_their_places() -> None:
    """Each look asks at other moments, and a list that is cut would have other rows each time."""

    def kept(*ages: float) -> list[object]:
        idle = tuple(IDLE._replace(pid=number, age_seconds=age) for number, age in enumerate(ages))
        return [row.pid for row in activity_rows("main", ActivityList(idle, None, ()), 50.0, shown=2)]

    assert kept(0.1, 0.2, 0.3) == kept(0.3, 0.2, 0.1) == [0, 1, None]
    assert kept(0.1, 0.2, 1.3) == [2, 0, None]


def test_many_connections_have_a_share_each() -> None:
    """Two hundred that each list two hundred sessions would be 40,000 rows to draw."""
    assert [share(servers) for servers in (0, 1, 4, 40, 200)] == [SHOWN, SHOWN, 50, 5, 5]
    idle = tuple(IDLE._replace(pid=number) for number in range(8))

    rows = activity_rows("a", ActivityList(idle, None, ()), 50.0, shown=5)

    assert [row.pid for row in rows] == [0, 1, 2, 3, 4, None]
    assert rows[-1].statement == "3 more sessions; katax db activity -c a lists them"
