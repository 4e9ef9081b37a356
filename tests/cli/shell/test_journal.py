"""What commands record of their writes, whatever becomes of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import MakeProxy, Target


def lines(file: str = ".katax/journal.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def test_each_write_leaves_a_line_and_reads_leave_none(sql_engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})
    katax("db", "exec", "create table t (n int, word varchar(40))")
    katax("db", "insert", "t", "n=1", "word=hunter2")
    katax("db", "update", "t", "word=hunter3", "--where", "n = 1")
    katax("db", "query", "delete from t where word = $1", "hunter3")
    katax("db", "query", "delete from nosuch where n = 1")
    katax("db", "truncate")
    katax("db", "truncate", "-y")
    for words in (("select", "t"), ("query", "select 'hunter2'"), ("tables",), ("exec", "select 1")):
        assert katax("db", *words).code == 0

    written = lines()

    assert [(line["command"], line["outcome"], line["rows"]) for line in written] == [
        ("db exec", "done", 0),
        ("db insert", "done", 1),
        ("db update", "done", 1),
        ("db query", "done", 1),
        ("db query", "failed", None),
        ("db truncate", "refused", None),
        ("db truncate", "done", None),
    ]
    assert "hunter" not in Path(".katax/journal.jsonl").read_text()
    assert {(line["profile"], line["role"], line["connection"]) for line in written} == {
        ("test", "dev", "main")
    }
    assert written[2]["statement"].lower().startswith("update")
    assert Path(".katax/journal.jsonl").stat().st_mode & 0o777 == 0o600


def test_an_unknown_outcome_is_recorded_as_such(mysql_url: str, proxy: MakeProxy, tmp_path: Path) -> None:
    way = proxy(mysql_url)
    write_profile(tmp_path, {"main": way.url})
    katax("db", "exec", "create table t (n int)")
    way.cut_after(b"insert into", forward=True)

    assert katax("db", "query", "insert into t values (1)").code == 6
    assert lines()[-1]["outcome"] == "unknown"


@pytest.mark.parametrize("place", ["missing/journal.jsonl", "log", "/dev/full"])
def test_a_journal_that_cannot_be_written_fails_no_command(place: str, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    journal = f'[journal]\nfile = "{place}"\n'
    write_profile(tmp_path, {"one": "sqlite:///1.db", "two": "sqlite:///2.db"}, extra=journal)

    done = katax("db", "exec", "create table t (n int)", "-c", "*")

    assert done.code == 0
    assert done.err.count("cannot be written") == 1
    assert katax("db", "tables", "-c", "one").out.count("\n") == 3


def test_its_file_is_named_by_the_profile(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///m.db"}, extra='[journal]\nfile = "writes.jsonl"\n')

    katax("db", "exec", "create table t (n int)")

    assert [line["statement"] for line in lines("writes.jsonl")] == ["create table t (n int)"]
