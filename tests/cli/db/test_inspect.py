"""`katax db size TABLE`, and `db slow` where the server remembers nothing."""

from pathlib import Path
from typing import cast

from katax_cli.profiles.load import load_profile
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.reporter import REPORT_EVERY, Reporter
from tests.cli.harness import katax, write_profile
from tests.fake_clock import AheadClock
from tests.servers.fixtures import Target


def test_the_size_of_one_table(engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": engine.url, "other": "sqlite:///other.db"})
    if engine.engine == "redis":
        refused = katax("db", "size", "t", "-c", "main")
        assert (refused.code, "redis has no tables; 'db size' works on" in refused.err) == (2, True)
        return
    if engine.engine == "mongodb":
        with Runtime(load_profile("test")) as runtime:
            client = cast(MongoDatabase, runtime.database("main")).get_client()
            client.get_default_database().t.insert_many([{"text": "x" * 1000} for _ in range(100)])
    else:
        rows = ", ".join(f"({number}, '{'x' * 1000}')" for number in range(100))
        script = f"create table t (n int primary key, text text); insert into t values {rows}"
        assert katax("db", "exec", script).code == 0
        katax("db", "exec", {"mysql": "analyze table t"}.get(engine.engine, "analyze t"))

    (row,) = katax("db", "size", "t", "-f", "json").json
    missing = katax("db", "size", "nosuch")
    both = katax("db", "size", "t", "-c", "*", "-f", "json")

    assert (row["connection"], row["type"], row["table"].rpartition(".")[2]) == ("main", engine.engine, "t")
    if row["size_bytes"] is not None or engine.engine != "sqlite":  # where it was built without dbstat
        assert 16_000 <= row["size_bytes"] <= 10_000_000
    assert row["rows_estimate"] is None or 50 <= row["rows_estimate"] <= 200
    assert (missing.code, "no table named 'nosuch' on 'main'" in missing.err) == (1, True)
    assert (both.code, [found["connection"] for found in both.json]) == (1, ["main"])


def test_slow_calls_of_katax_itself(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///m.db"}, extra="[logging]\nslow_query_ms = 0\n")
    none = katax("db", "slow")
    with Runtime(load_profile("test")) as runtime:
        database = runtime.sql(runtime.profile.connection("main"))
        clock = AheadClock()
        reporter = Reporter(runtime.profile, "app", lambda: {"main": database}, clock=clock)
        try:
            reporter.tick()
            for number in range(3):
                database.query(f"select {number} as n")
            clock.lead = REPORT_EVERY
            reporter.tick()
            shown = katax("db", "slow", "-f", "json")
            table = katax("db", "slow")
            fast = katax("db", "slow", "--over", "1h")
        finally:
            reporter.close()

    assert (none.code, fast.code) == (2, 2)
    (row,) = shown.json
    assert (row["query"], row["calls"], row["source"]) == ("select ? as n", 3, "katax")
    assert table.code == 0
    assert table.err.endswith("; these are calls of katax's own processes\n")
