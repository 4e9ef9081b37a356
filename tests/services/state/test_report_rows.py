"""Slow calls of katax's own processes, for each statement; test_state_source.py has the shapes of rows."""

from pathlib import Path

from katax_cli.services.state.report_rows import own_slow_queries
from katax_cli.services.state.store import StateStore
from katax_cli.snapshot import Process
from tests.fake_clock import FakeClock
from tests.services.profiles import profile


def call(statement: str, duration_ms: float, connection: str = "main") -> dict[str, object]:
    return {
        "connection": connection,
        "statement": statement,
        "duration_ms": duration_ms,
        "happened_at": FakeClock.EPOCH + duration_ms,
    }


def test_calls_of_all_processes_are_summed_up(tmp_path: Path) -> None:
    made, clock = profile(tmp_path, {"main": "sqlite:///x.db", "other": "sqlite:///y.db"}), FakeClock()
    assert own_slow_queries(made, "main", 0, clock=clock) == []
    assert not (tmp_path / ".katax").exists(), "a look makes no file"
    slow: list[object] = [
        call("SELECT ?", 200.0),
        call("UPDATE t", 150.0),
        call("SELECT ?", 900.0, "other"),
        {"odd": 1},
    ]
    others: list[object] = [call("SELECT ?", 300.0), call("SELECT ?", 20.0)]
    with StateStore(made, clock=clock) as store:
        for number, rows in enumerate([slow, others]):
            process = Process(str(number), "app", "host", number, clock.now(), clock.now())
            store.report(process, parts={"slow": rows})

    first, second = own_slow_queries(made, "main", 100, clock=clock)

    assert (first.query, first.calls, first.avg_ms, first.max_ms, first.total_ms) == (
        *("SELECT ?", 2),
        *(250.0, 300.0, 500.0),
    )
    assert first.last_seen is not None
    assert first.last_seen.timestamp() == FakeClock.EPOCH + 300
    assert (second.query, second.calls) == ("UPDATE t", 1)
