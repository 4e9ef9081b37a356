"""Sessions as a dashboard has them: the busiest are kept, and what is not seen is said."""

from katax_cli.engines.activity import ActivityList, SessionActivity
from katax_cli.services.dashboard.activity_rows import SHOWN, activity_rows

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
