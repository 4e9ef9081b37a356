"""`katax pubsub`: messages as rows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
import redis as driver

from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import MakeProxy


@pytest.fixture
def redis(redis_url: str, tmp_path: Path) -> driver.Redis:
    write_profile(tmp_path, {"cache": redis_url})
    return driver.Redis.from_url(redis_url)


@contextmanager
def subscribed(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`katax pubsub subscribe WORDS…` that has begun to listen."""
    process = subprocess.Popen(
        [sys.executable, "-m", "katax_cli", "pubsub", "subscribe", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("subscribed to ")
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.01)


def test_messages_are_rows(redis: driver.Redis, tmp_path: Path) -> None:
    with subscribed(tmp_path, "a", "b", "--count", "3", "-f", "csv") as process:
        assert katax("pubsub", "publish", "a", '{"x": 1.0}').out == "1\n"
        assert katax("pubsub", "publish", "b", "text").out == "1\n"
        assert katax("pubsub", "publish", "b", "-", "--raw", stdin=b"raw, text").out == "1\n"
        out, _ = process.communicate()
    lines = [line.rpartition(",") for line in out.splitlines()]
    assert [line[0] for line in lines] == [
        "channel,pattern,message",
        'a,,"{""x"": 1}"',
        "b,,text",
        'b,,"raw, text"',
    ]
    assert datetime.fromisoformat(lines[1][2]).utcoffset() is not None
    assert process.returncode == 0


def test_each_message_is_one_line_of_json_at_once(redis: driver.Redis, tmp_path: Path) -> None:
    with subscribed(tmp_path, "user:*", "--pattern", "-f", "jsonl") as process:
        assert process.stdout is not None
        katax("pubsub", "publish", "user:7", "[1]")
        row = json.loads(process.stdout.readline())
        assert list(row) == ["channel", "pattern", "message", "received_at"]
        assert (row["channel"], row["pattern"], row["message"]) == ("user:7", "user:*", [1])
        process.terminate()
        assert process.wait() == 143


def test_a_gap_is_told(redis_url: str, tmp_path: Path, proxy: MakeProxy) -> None:
    way = proxy(redis_url)
    write_profile(tmp_path, {"cache": way.url})
    with subscribed(tmp_path, "a", "--count", "1") as process:
        way.cut()
        assert process.stderr is not None
        told = process.stderr.readline()
        assert told.startswith("the connection was lost for ")
        assert told.endswith(" s; messages sent meanwhile are missing\n")
        until(lambda: katax("pubsub", "publish", "a", "1").out == "1\n")
        assert process.wait() == 0


def test_nobody_listens(redis: driver.Redis) -> None:
    assert katax("pubsub", "publish", "a", "1").out == "0\n"
    assert katax("pubsub", "publish", "a", "1", "--dry-run").code == 0
    assert katax("pubsub", "publish", "a", "NaN").code == 2


def test_no_server_is_unavailable(tmp_path: Path, closed_port: int) -> None:
    write_profile(tmp_path, {"cache": f"redis://127.0.0.1:{closed_port}"})
    assert katax("pubsub", "subscribe", "a").code == 3
