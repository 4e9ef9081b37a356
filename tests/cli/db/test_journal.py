"""`katax db journal`: what commands wrote, the newest first."""

from pathlib import Path

from tests.cli.harness import katax, write_profile
from tests.cli.terminal import at_terminal


def test_it_shows_the_latest_writes(tmp_path: Path) -> None:
    write_profile(tmp_path, {"one": "sqlite:///1.db", "two": "sqlite:///2.db"})
    empty = katax("db", "journal", "-f", "json")
    katax("db", "exec", "create table t (n int)", "-c", "*")
    for number in range(3):
        katax("db", "insert", "t", f"n={number}", "-c", "one")
    with Path(".katax/journal.jsonl").open("a") as file:
        file.write("no entry\n")

    every = katax("db", "journal", "-f", "json")
    table = katax("db", "journal", "--limit", "2", "-f", "csv", "--columns", "command,outcome,rows")
    other = katax("db", "journal", "-c", "two", "-f", "json")
    screen = at_terminal("db", "journal", typed=None, width=80)

    assert (empty.code, empty.json) == (0, [])
    assert [row["command"] for row in every.json] == ["db insert"] * 3 + ["db exec"] * 2
    assert list(every.json[0]) == [
        *("started_at", "user", "host", "profile", "role", "connection", "command", "statement"),
        *("rows", "duration_ms", "outcome"),
    ]
    assert every.err == ""
    assert table.out == "command,outcome,rows\ndb insert,done,1\ndb insert,done,1\n"
    assert table.err == "1 lines are no entries of the journal and were left out\n"
    assert [row["connection"] for row in other.json] == ["two"]
    assert max(map(len, screen.out.splitlines())) <= 80
    assert katax("db", "journal", "--since", "1h", "-f", "csv", "--no-header").out.count("\n") == 5
    assert katax("db", "journal", "--since", "0s", "-f", "json").json == []
    assert katax("db", "journal", "--since", "yesterday").code == 2
