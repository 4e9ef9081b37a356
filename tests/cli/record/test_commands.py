"""`katax record`: JSON in, JSON and codes out."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import pytest
import redis as driver

from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import Throwaway
from tests.waiting import until


@pytest.fixture(autouse=True)
def redis(redis_url: str, tmp_path: Path) -> driver.Redis:
    file = write_profile(tmp_path, {"cache": redis_url})
    file.write_text(file.read_text() + 'prefix = "app:"\n')
    return driver.Redis.from_url(redis_url)


def test_a_record_from_its_beginning_to_its_end(redis: driver.Redis) -> None:
    assert katax("record", "create", "users", '{"id": 1, "n": 1.0}').json == {"id": 1, "n": 1}
    assert redis.get("app:users:1") == b'{"id":1,"n":1}'
    assert katax("record", "create", "users", '{"id": 1}').code == 1
    assert katax("record", "update", "users", '{"id": 1, "x": true}', "--ttl", "5m").json == {
        "id": 1,
        "n": 1,
        "x": True,
    }
    assert 240 < redis.ttl("app:users:1") <= 300
    assert katax("record", "get", "users", "1").json["x"] is True
    assert katax("record", "get", "users", "1", "--field", "n").json["id"] == 1
    assert katax("record", "save", "users", "-", "--ttl", "2099-01-01", stdin=b'{"id": 1}').json == {"id": 1}
    assert redis.ttl("app:users:1") > 10**9
    assert katax("record", "delete", "users", "1").json == {"id": 1}
    assert redis.keys("*") == []


def test_what_is_missing_is_null_or_no() -> None:
    for words in (["load", "users", "x"], ["delete", "users", "x"]):
        assert (katax("record", *words).code, katax("record", *words).out) == (0, "null\n")
    for words in (["get", "users", "x"], ["pick", "users", "x"], ["update", "users", '{"id": "x"}']):
        done = katax("record", *words)
        assert (done.code, done.out) == (1, "")
        assert done.err == "katax: no record at 'app:users:x'\n"


def test_list_pages_and_filters() -> None:
    for number in range(12):
        katax("record", "save", "users", json.dumps({"id": f"{number:02}", "n": number % 3}))
    page = katax("record", "list", "users", "--page", "1").json
    assert page["pager"] == {"page": 1, "size": 10, "total": 12}
    assert [record["id"] for record in page["items"]] == ["10", "11"]
    found = katax("record", "list", "users", "--where", "n=1", "--where", "id=04", "--size", "1").json
    assert (found["pager"]["total"], found["items"]) == (1, [{"id": "04", "n": 1}])


def test_list_as_rows() -> None:
    for record in ({"id": "1", "name": "漢字, x"}, {"id": "2", "tags": ["a"], "name": None}):
        katax("record", "save", "users", json.dumps(record))

    cells = katax("record", "list", "users", "-f", "csv")
    lines = katax("record", "list", "users", "--size", "1", "-f", "tsv")
    none = katax("record", "list", "nobody", "-f", "csv")

    assert cells.out == 'id,name,tags\n1,"漢字, x",\n2,,"[""a""]"\n'
    assert cells.err == "page 0: 2 of 2 records\n"
    assert (lines.out, lines.err) == ("id\tname\n1\t漢字, x\n", "page 0: 1 of 2 records\n")
    assert none.out == "id\n"


def test_key() -> None:
    assert katax("record", "key", "users", "7").out == "app:users:7\n"
    assert katax("record", "key", "users").out == "app:users\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["create", "users", '{"name": "x"}'], "a record is an object with an id"),
        (["create", "users", "{"], "the data is no JSON"),
        (["create", "users", '{"id": 1}', "--ttl", "0"], "ttl is 0, expected more than 0 seconds"),
        (["create", "users", '{"id": 1}', "--ttl", "2020-01-01"], "expected a moment in the future"),
        (["create", "users", '{"id": 1}', "--ttl", "soon-ish"], "'soon-ish' is no duration and no date"),
        (["create", "", '{"id": 1}'], "the resource has no name"),
        (["list", "users", "--where", "x"], "--where 'x' has no value"),
        (["list", "users", "--page", "-1"], "-1"),
    ],
)
def test_bad_input_is_usage(words: list[str], told: str, redis: driver.Redis) -> None:
    done = katax("record", *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert redis.keys("*") == []


def test_dry_run_changes_nothing(redis: driver.Redis) -> None:
    assert katax("record", "save", "users", '{"id": 1}', "--dry-run").code == 0
    assert redis.keys("*") == []


def test_events(tmp_path: Path) -> None:
    words = ["record", "subscribe", "users", "--key", "u1", "--count", "1", "-f", "jsonl"]
    process = subprocess.Popen(
        [sys.executable, "-m", "katax_cli", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    katax("record", "publish", "users", "1")
    while katax("record", "publish", "users", '{"a": 1.0}', "--key", "u1").out == "0\n":
        time.sleep(0.01)
    out, _ = process.communicate()
    row = json.loads(out)
    assert list(row) == ["key", "value", "received_at"]
    assert (row["key"], row["value"]) == ("u1", {"a": 1})


def test_count_and_purge(redis: driver.Redis) -> None:
    for number in range(5):
        katax("record", "save", "users", json.dumps({"id": number, "n": number % 2}))
    redis.set("app:users:archive:7", '{"id":7}')
    made = katax("record", "create", "users", '{"n": 7}', "--generate-id").json
    assert UUID(made["id"]).version == 7
    assert (
        katax("record", "create", "users", "{}", "--generate-id", "--dry-run", "-f", "json").json["id"]
        is None
    )
    assert katax("record", "create", "users", "{}").code == 2
    assert katax("record", "count", "users").json == 6
    assert katax("record", "count", "users", "--where", "n=0").json == 3
    planned = katax("record", "purge", "users", "--dry-run", "-f", "json").json
    assert (planned["matching"], planned["deleted"]) == (6, 0)
    assert katax("record", "purge", "users").code == 4
    done = katax("record", "purge", "users", "--where", "n=0", "-y", "-f", "json")
    assert done.json == {"resource": "users", "matching": 3, "deleted": 3}
    done = katax("record", "purge", "users", "-y")
    assert done.err.splitlines()[0] == "delete 3 records of 'users'"
    assert redis.keys("*") == [b"app:users:archive:7"]


def test_a_server_that_tells_nothing_cannot_be_watched(redis: driver.Redis) -> None:
    redis.config_set("notify-keyspace-events", "")
    done = katax("record", "watch", "users")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "katax: 'cache' tells of no changes to records: its notify-keyspace-events is '' and lacks 'Kg$xe'; "
        "set it on the server: CONFIG SET notify-keyspace-events Kg$xe\n"
    )


def test_watch_prints_changes_and_what_it_missed(tmp_path: Path, throwaway: Throwaway) -> None:
    server = throwaway("redis", settings={"notify-keyspace-events": "KA"})
    write_profile(tmp_path, {"cache": server.url})
    words = [sys.executable, "-m", "katax_cli", "record", "watch", "users", "--count", "3", "-f", "jsonl"]
    with (
        driver.Redis.from_url(server.url) as direct,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as watching,
        ExitStack() as over,
    ):
        over.callback(watching.kill)
        assert watching.stdout is not None
        until(lambda: direct.pubsub_numpat() == 1)
        direct.set("users:1", '{"id":1}')
        first = json.loads(watching.stdout.readline())
        assert (first["id"], first["event"]) == ("1", "saved")
        direct.client_kill_filter(_type="pubsub")
        missed = json.loads(watching.stdout.readline())
        assert (missed["id"], missed["event"]) == (None, "missed")
        direct.delete("users:1")
        last = json.loads(watching.stdout.readline())
        assert (last["id"], last["event"]) == ("1", "deleted")
        assert watching.wait(60) == 0
