"""What a process tells of its calls: rates, percentiles of a minute, and slow calls without their values."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.call_report import CallWatch, EventRate
from tests.fake_clock import FakeClock
from tests.services.runtimes import OpenRuntime


class TestPace:
    def test_it_takes_two_readings(self) -> None:
        pace = EventRate()

        assert pace.of("a", 10, 100.0) is None
        assert pace.of("a", 16, 102.0) == 3.0
        assert pace.of("a", 16, 104.0) == 0.0

    def test_readings_that_are_too_near_change_nothing(self) -> None:
        pace = EventRate()
        pace.of("a", 0, 0.0)
        pace.of("a", 10, 2.0)

        assert pace.of("a", 1000, 2.9) == 5.0
        # And the next one counts from the reading before them.
        assert pace.of("a", 1000, 3.0) == 990.0

    def test_a_total_that_fell_is_of_a_new_start(self) -> None:
        pace = EventRate()
        pace.of("a", 100, 0.0)

        assert pace.of("a", 5, 2.0) is None
        assert pace.of("a", 9, 4.0) == 2.0

    def test_names_do_not_mix(self) -> None:
        pace = EventRate()
        pace.of("a", 100, 0.0)

        assert pace.of("b", 200, 2.0) is None
        assert pace.of("a", 104, 2.0) == 2.0


@pytest.fixture
def runtime(open_runtime: OpenRuntime, tmp_path: Path) -> Runtime:
    return open_runtime(main="sqlite:///x.db")


@pytest.fixture
def main(runtime: Runtime) -> SqlDatabase:
    return cast(SqlDatabase, runtime.database("main"))


def test_calls_are_counted(main: SqlDatabase, clock: FakeClock) -> None:
    watch = CallWatch(clock=clock)
    main.enable_query_logging(slow=False, slow_ms=1e6)
    (first,) = watch.traffic({"main": main})
    assert (first["per_second"], first["p95_ms"], first["slow"]) == (None, None, 0)

    for _ in range(9):
        main.query("SELECT 1")
    with pytest.raises(Exception, match="nothing"):
        main.query("SELECT nothing")
    clock.at = 4.0
    (row,) = watch.traffic({"main": main})

    assert list(row) == ["connection", "per_second", "p95_ms", "slow", "failed"]
    assert (row["connection"], row["per_second"], row["slow"], row["failed"]) == ("main", 2.5, 0, 1)
    assert row["p95_ms"] > 0


def test_what_is_slow_is_what_the_profile_says(main: SqlDatabase, clock: FakeClock) -> None:
    main.enable_query_logging(slow=False, slow_ms=0.0)
    main.query("SELECT 1")

    (row,) = CallWatch(clock=clock).traffic({"main": main})

    assert row["slow"] == 1


def test_without_metrics_nothing_is_told(main: SqlDatabase, clock: FakeClock) -> None:
    main.keep_metrics(0)
    main.query("SELECT 1")

    assert CallWatch(clock=clock).traffic({"main": main}) == [
        {"connection": "main", "per_second": None, "p95_ms": None, "slow": None, "failed": None}
    ]


class TestSlowCalls:
    def test_they_are_told_without_values(self, main: SqlDatabase, clock: FakeClock) -> None:
        watch = CallWatch(clock=clock)
        watch.follow({"main": main})
        clock.at = 3.0
        main.enable_query_logging(slow=False, slow_ms=0.0)
        main.query("SELECT 'hushhush' AS a\n  WHERE ? = 1", (77,))

        (row,) = watch.slow()
        assert (row["connection"], row["statement"], row["happened_at"]) == (
            "main",
            "SELECT ? AS a WHERE ? = ?",
            FakeClock.EPOCH + 3,
        )
        assert row["duration_ms"] >= 0

    def test_the_last_ones_are_kept_and_none_is_long(self, main: SqlDatabase, clock: FakeClock) -> None:
        watch = CallWatch(clock=clock)
        watch.follow({"main": main})
        main.enable_query_logging(slow=False, slow_ms=0.0)
        for number in range(30):
            main.query(f"SELECT 1 AS {'a' * 300}, 1 AS b{number}")
        main.query("SELECT 1 AS last")

        rows = watch.slow()
        assert len(rows) == 20
        assert rows[-1]["statement"] == "SELECT ? AS last"
        assert {len(row["statement"]) for row in rows[:-1]} == {200}

    def test_each_database_is_listened_to_once(self, main: SqlDatabase, clock: FakeClock) -> None:
        watch = CallWatch(clock=clock)
        for _ in range(3):
            watch.follow({"main": main})
        main.enable_query_logging(slow=False, slow_ms=0.0)
        main.query("SELECT 1")

        assert len(watch.slow()) == 1

    def test_one_that_was_opened_anew_is_listened_to_instead(
        self, runtime: Runtime, main: SqlDatabase, clock: FakeClock
    ) -> None:
        watch = CallWatch(clock=clock)
        watch.follow({"main": main})
        main.close()
        again = cast(SqlDatabase, runtime.database("main"))
        watch.follow({"main": again})
        again.enable_query_logging(slow=False, slow_ms=0.0)
        again.query("SELECT 1")

        assert len(watch.slow()) == 1
        assert not main.events.wants("slow_query")

    def test_the_end(self, main: SqlDatabase, clock: FakeClock) -> None:
        watch = CallWatch(clock=clock)
        watch.follow({"main": main})
        assert main.events.wants("slow_query")

        watch.close()

        assert not main.events.wants("slow_query")
