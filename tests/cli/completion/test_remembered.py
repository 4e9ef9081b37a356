"""Names of servers: asked for by a process of its own, remembered, and shown also when the server hangs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from katax_cli.cli.completion.remembered import _FRESH_SECONDS
from tests.cli.harness import katax, write_profile
from tests.cli.processes import spawn
from tests.servers.fixtures import Throwaway
from tests.waiting import until


def offered(*words: str) -> list[str]:
    """A TAB in a process of its own, which forks."""
    out, err = spawn("completion", "values", "--", *words).communicate()
    assert err == b""
    return out.decode().split()


def cache_files() -> list[Path]:
    return sorted(Path(os.environ["HOME"], ".cache/katax/completion").iterdir())


def asking() -> list[Path]:
    """Files of those who are asking a server now."""
    return [file for file in cache_files() if file.suffix == ".asking"]


def test_tables_columns_and_keys(tmp_path: Path, postgresql_url: str, redis_url: str) -> None:
    write_profile(tmp_path, {"main": postgresql_url, "cache": redis_url})
    assert (
        katax("db", "exec", "create table customers (id int, name text); create table orders (id int)").code
        == 0
    )
    for key in ("user:1", "user:2", "user:22", "other"):
        assert katax("cache", "set", key, "1").code == 0
    for line, found in {
        "db describe c": ["customers"],
        "db truncate customers o": ["orders"],
        "db insert customers ": ["id=", "name="],
        "db select customers --order n": ["name"],
        "cache get user:2": ["user:2", "user:22"],
        "cache del user:1 oth": ["other"],
    }.items():
        until(lambda line=line, found=found: offered(*line.split(" ")) == found)  # type: ignore[misc]
    until(lambda: asking() == [])
    assert {file.stat().st_mode & 0o777 for file in cache_files()} == {0o600}


def test_a_server_that_hangs_costs_what_was_seen_last_and_no_more(
    tmp_path: Path, throwaway: Throwaway
) -> None:
    server = throwaway("redis")
    write_profile(tmp_path, {"cache": server.url}, connect_timeout=2.0)
    until(lambda: katax("cache", "set", "user:1", "1").code == 0)
    until(lambda: offered("cache", "get", "u") == ["user:1"])
    until(lambda: asking() == [])
    server.stop_signal()
    for file in cache_files():
        os.utime(file, (0, time.time() - 10 * _FRESH_SECONDS))
    assert offered("cache", "get", "u") == ["user:1"]
    assert offered("cache", "get", "x:") == []
    # Its processes give up by themselves; none asks beside another.
    assert len(asking()) <= 2
    until(lambda: asking() == [])
    server.resume()
