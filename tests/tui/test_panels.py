"""Each panel from canned Snapshots: what stands there, what fades, and what an empty one says."""

from dataclasses import replace
from datetime import timedelta

import pytest

from katax_cli.snapshot import BreakerState, Circuit, HealthReport, Part, Watched
from katax_cli.tui.layout import PANELS, SCREENS
from katax_cli.tui.panels import Panel, queries
from katax_cli.tui.table import PanelContent, fitted
from tests.tui.canned import API, AT, BROKEN, CHAT, EMPTY, FULL, NOW

BY_NAME = {panel.name: panel for panel in PANELS}


def drawn(name: str, snapshot: object = FULL) -> PanelContent:
    return BY_NAME[name].draw(snapshot, 200)  # type: ignore[arg-type]


def cell(name: str, key: str, label: str, snapshot: object = FULL) -> str:
    """The text under a label in the row whose key begins so."""
    labels = [column.label for column in BY_NAME[name].columns]
    (found,) = [row for row in drawn(name, snapshot).rows if row.key.startswith(key)]
    return found.cells[labels.index(label)].plain


def styles(name: str, key: str) -> set[str]:
    (found,) = [row for row in drawn(name).rows if row.key.startswith(key)]
    return {str(one.style) for one in found.cells}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)
def test_every_row_has_a_cell_for_each_column_and_a_key_of_its_own(panel: Panel) -> None:
    rows = panel.draw(FULL, 200).rows

    assert rows
    assert {len(row.cells) for row in rows} == {len(panel.columns)}
    assert len({row.key for row in rows}) == len(rows)
    assert sum(column.grows for column in panel.columns) <= 1


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)
def test_the_age_of_everything_is_shown(panel: Panel) -> None:
    for snapshot in (FULL, EMPTY, BROKEN):
        assert panel.draw(snapshot, 80).note, panel.name


@pytest.mark.parametrize("name", ["pools", "queries", "slow", "jobs", "runs", "sockets", "activity"])
def test_an_empty_panel_says_which_process_would_fill_it(name: str) -> None:
    part = {"queries": "traffic"}.get(name, name)
    seen = drawn(name, EMPTY)

    assert (seen.rows, seen.stale) == ((), False)
    assert seen.empty == getattr(EMPTY, part).missing


def test_old_rows_stay_and_fade_with_the_reason_and_their_age() -> None:
    seen = drawn("pools", BROKEN)

    assert seen.stale
    assert seen.note == "1m old: the state database does not answer"
    assert {str(one.style) for row in seen.rows for one in row.cells} == {"dim"}
    assert not drawn("queries", BROKEN).stale


def test_the_ill_stand_on_top() -> None:
    assert [row.key for row in drawn("connections").rows] == ["orders", "documents", "main", "cache", "local"]


def test_a_dead_server_shows_the_layer_and_the_likely_cause() -> None:
    assert cell("connections", "orders", "layer") == "tcp"
    assert cell("connections", "orders", "message").startswith("nothing listens there")
    assert cell("connections", "orders", "ping").endswith("×××")


def test_a_server_that_hangs_fades_alone_with_the_reason_and_its_age() -> None:
    assert styles("connections", "documents") == {"dim"}
    assert cell("connections", "documents", "message") == "no answer for 34.0 s; the probe still waits"
    assert cell("connections", "documents", "age") == "30s"
    assert cell("connections", "documents", "status") == "? unknown"
    assert "dim" not in styles("connections", "cache")
    assert drawn("connections").note == "30s"


def test_a_connection_that_never_answered_is_unknown() -> None:
    health = HealthReport("healthy", NOW, "shop", {})
    snapshot = replace(FULL, health=health, watched={"main": Watched(None, (), "no answer for 1.0 s")})

    assert cell("connections", "main", "status", snapshot) == "? unknown"
    assert drawn("connections", snapshot).note == ""


def test_maintenance_is_said() -> None:
    assert cell("connections", "local", "message") == "tripped by ann@ops: vacuum"


def test_what_a_probe_found_strange_is_said() -> None:
    assert cell("connections", "main", "message") == "slower than 100 ms"


def test_a_pool_over_time_and_now() -> None:
    assert cell("pools", "main", "pool") == "██████████"
    assert cell("pools", "main", "used/idle/max") == "10/0/10"
    assert cell("pools", "main", "wait") == "7"
    assert cell("pools", "main", "over time") == "▁▄▇█"


def test_a_process_that_says_nothing_more_fades() -> None:
    old = FULL.pools.rows[0]._replace(seen_at=AT - 60)
    snapshot = replace(FULL, pools=Part((old,), "state database", AT))

    assert {str(one.style) for one in drawn("pools", snapshot).rows[0].cells} == {"dim"}


def test_a_connection_has_one_circuit_and_its_processes_below_it() -> None:
    def circuit(state: BreakerState, process: str | None, connection: str = "main") -> Circuit:
        return Circuit(connection, state, 3, None, NOW + timedelta(seconds=48), None, process)

    rows = (
        *(circuit("closed", None), circuit("closed", "api a:1"), circuit("open", "api b:2")),
        *(circuit("closed", None, "cache"), circuit("forced_open", None, "spare")),
        circuit("half_open", "api a:1", "spare/replica1"),
    )
    snapshot = replace(FULL, circuits=Part(rows, "state database", AT))

    assert [[row.cells[at].plain for at in (0, 1, 5)] for row in drawn("circuits", snapshot).rows] == [
        ["main", "✖ open", "1 of 2"],
        ["└ api a:1", "● closed", ""],
        ["└ api b:2", "✖ open", ""],
        ["spare", "✖ forced_open", "all"],
        ["└ replica1 api a:1", "▲ half_open", ""],
        ["cache", "● closed", ""],
    ]
    assert {row.subject for row in drawn("circuits", snapshot).rows} == {"main", "spare", "cache"}


def test_circuits_say_why_and_when_they_are_probed() -> None:
    assert cell("circuits", "orders api", "probe") == "in 40s"
    assert cell("circuits", "local", "where") == "all"
    assert cell("circuits", "local", "reason") == "vacuum"


def test_what_is_wrong_comes_first() -> None:
    pools = FULL.pools._replace(rows=FULL.pools.rows[::-1])
    traffic = FULL.traffic._replace(rows=FULL.traffic.rows[::-1])
    (server,) = FULL.sockets.rows
    sick = server._replace(name="sick", trouble="its Redis is gone")
    sockets = FULL.sockets._replace(rows=(server, sick))
    snapshot = replace(FULL, pools=pools, traffic=traffic, sockets=sockets)

    first = {
        name: drawn(name, snapshot).rows[0].key
        for name in ("pools", "queries", "jobs", "sockets", "circuits")
    }
    assert first == {
        "pools": f"main {API.label}",
        "queries": f"main {API.label}",
        "jobs": "report",
        "sockets": f"sick {CHAT.label}",
        "circuits": "orders",
    }


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("connections", {"status"}),
        ("pools", {"wait"}),
        ("circuits", {"state"}),
        ("queries", {"slow", "failed"}),
        ("jobs", {"last"}),
        ("sockets", {"trouble"}),
        ("runs", {"result"}),
        ("log", {"", "what happened"}),
    ],
)
def test_a_small_panel_still_says_whether_something_is_wrong(name: str, labels: set[str]) -> None:
    columns = BY_NAME[name].columns
    rows = BY_NAME[name].draw(FULL, 36).rows

    assert labels <= {columns[at].label for at, _ in fitted(columns, rows, 36)}


def test_a_circuit_of_a_replica_is_tripped_with_its_connection() -> None:
    replica = Circuit("main/replica1", "open", 5, None, None, None, "api web-1:4711")
    snapshot = replace(FULL, circuits=Part((replica,), "state database", AT))

    assert drawn("circuits", snapshot).rows[0].subject == "main"


def test_queries_of_the_server_and_of_a_process() -> None:
    assert cell("queries", "main server", "per s") == "1240"
    assert cell("queries", "main server", "p95 ms") == ""
    assert cell("queries", "main api", "p95 ms") == "48"
    assert cell("queries", "main api", "slow") == "3"


def test_trends_are_longer_where_there_is_room() -> None:
    long = replace(FULL, traffic=Part((FULL.traffic.rows[0]._replace(trail=(1.0,) * 100),), "x", AT))

    assert [queries(long, width).rows[0].cells[2].cell_len for width in (40, 200, 4000)] == [8, 25, 60]


def test_the_slowest_call_is_first() -> None:
    turned = replace(FULL, slow=FULL.slow._replace(rows=FULL.slow.rows[::-1]))

    assert [row.cells[0].plain for row in drawn("slow", turned).rows] == ["812", "131"]


def test_jobs_say_when_they_are_due_and_how_they_ended() -> None:
    labels = ("now", "next", "last", "ended", "reason")
    assert [cell("jobs", "report", label) for label in labels] == [
        "▶ running",
        "in 40s",
        "✖ failed",
        "5m",
        "exit 3",
    ]
    assert [cell("jobs", "sync", label) for label in labels] == ["○ off", "", "never", "", ""]


def test_several_runs_of_one_job_are_counted() -> None:
    job = replace(FULL.jobs.rows[1], running=3)
    snapshot = replace(FULL, jobs=Part((job,), "x", AT))

    assert cell("jobs", "report", "now", snapshot) == "▶ 3 running"


def test_what_happened_last_is_first() -> None:
    assert [row.subject for row in drawn("log").rows] == ["orders", "report", "local", "cleanup"]


def test_each_panel_is_on_one_screen_and_each_key_does_one_thing() -> None:
    keys = [action.key for panel in PANELS for action in panel.actions]

    assert len(keys) == len(set(keys))
    assert SCREENS == ("connections", "pools", "circuits", "queries", "jobs", "sockets", "activity", "log")
