"""`katax db export|import|copy|diff` as a user runs them."""

from __future__ import annotations

import fcntl
import gzip
import os
from pathlib import Path

import pytest

from tests.cli.harness import katax, write_profile


@pytest.fixture
def shop(tmp_path: Path, sqlite_url: str) -> Path:
    write_profile(tmp_path, {"main": sqlite_url})
    made = katax("db", "exec", "create table users (id integer primary key, name text, born text)")
    assert made.code == 0
    katax("db", "exec", "insert into users values (1, 'Ada', null), (2, '', 'x,y'), (3, '😀', '02134')")
    return tmp_path


def test_export_writes_the_format_that_the_name_says(shop: Path) -> None:
    plain = katax("db", "export", "users")
    named = katax("db", "export", "users", "-o", "users.jsonl.gz")
    forced = katax("db", "export", "users", "-o", "users.txt", "-f", "sql")
    tabs = katax("db", "export", "--query", "select id from users", "--delimiter", "tab", "--no-header")

    assert (plain.code, plain.out) == (0, 'id,name,born\n1,Ada,\n2,"","x,y"\n3,😀,02134\n')
    assert plain.err == "exported 3 rows\n"
    assert named.out == ""
    assert gzip.decompress((shop / "users.jsonl.gz").read_bytes()).startswith(b'{"id": 1, "name": "Ada"')
    assert (forced.code, (shop / "users.txt").read_text()[:23]) == (0, 'INSERT INTO "users" ("i')
    assert tabs.out == "1\n2\n3\n"


def test_a_half_export_has_no_name(shop: Path) -> None:
    failed = katax(
        "db", "export", "--query", "select 1 union all select abs(-9223372036854775808)", "-o", "x.csv"
    )

    assert (failed.code, sorted(path.name for path in shop.glob("x.csv*"))) == (1, [])


def test_two_exports_do_not_write_one_file(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("x.csv.part", "wb") as other:
        other.write(b"half of another export, which goes on\n")
        fcntl.flock(other, fcntl.LOCK_EX)
        refused = katax("db", "export", "users", "-o", "x.csv")
        assert [path.name for path in shop.glob("x.csv*")] == ["x.csv.part"]
    # What a killed one left is written over.
    written = katax("db", "export", "--query", "select 1 as one", "-o", "x.csv")

    assert (refused.code, refused.err) == (
        5,
        "katax: lock 'x.csv.part' is held by another process that writes it\n",
    )
    assert (written.code, (shop / "x.csv").read_text()) == (0, "one\n1\n")
    assert [path.name for path in shop.glob("x.csv*")] == ["x.csv"]

    # A file system, as some of FUSE, on which no file is the same when it is looked at again.
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    again = katax("db", "export", "--query", "select 2 as one", "-o", "x.csv")
    assert (again.code, (shop / "x.csv").read_text()) == (0, "one\n2\n")


def test_export_says_what_it_cannot(shop: Path) -> None:
    said = [
        katax("db", "export"),
        katax("db", "export", "users", "--query", "select 1"),
        katax("db", "export", "users", "-f", "table"),
        katax("db", "export", "users", "--delimiter", "ab"),
        katax("db", "export", "nothing"),
    ]

    assert [done.code for done in said] == [2, 2, 2, 2, 1]
    assert "name a table or give --query, one of the two" in said[0].err
    assert "'db export' knows the formats csv, jsonl, sql, parquet, not 'table'" in said[2].err
    assert "--delimiter is 'ab', expected one character such as ';' or 'tab'" in said[3].err
    assert said[4].err == "katax: no table named 'nothing' on 'main'; see 'katax db tables'\n"


def test_import_says_first_how_it_reads(shop: Path) -> None:
    (shop / "more.csv").write_text("id;name\n4;NULL\n5;''\n")

    planned = katax(
        "db", "import", "more.csv", "users", "--delimiter", ";", "--null", "NULL", "--dry-run", "-f", "json"
    )
    done = katax("db", "import", "more.csv", "users", "--delimiter", ";", "--null", "NULL")
    again = katax("db", "import", "more.csv", "users", "--delimiter", ";", "--null", "NULL", "-f", "json")

    assert planned.json == {"table": "users", "columns": ["id", "name"], "imported": 0, "dry_run": True}
    assert done.err.splitlines()[0] == (
        "reading more.csv: csv, utf-8, delimiter ';', NULL is 'NULL' without quotes, times without a zone are UTC; "
        "columns id, name"
    )
    assert again.json == {"table": "users", "imported": 2, "rejected": 0, "earlier": 0, "already": True}
    assert (
        katax("db", "query", "select count(*), count(name) from users", "-f", "csv", "--no-header").out
        == "5,4\n"
    )


def test_import_from_stdin_and_packed(shop: Path) -> None:
    exported = katax("db", "export", "users", "-o", "users.csv.zst")
    made = katax("db", "import", "users.csv.zst", "copies", "--create", "--key", "id")
    piped = katax(
        "db", "import", "-", "copies", "--as", "jsonl", "-f", "json", stdin=b'{"id": 7, "name": "x"}\n'
    )

    assert (exported.code, made.code, piped.code) == (0, 0, 0)
    assert "CREATE TABLE" in made.err
    assert piped.json["imported"] == 1
    assert katax("db", "export", "copies").out == 'id,name,born\n1,Ada,\n2,"","x,y"\n3,😀,02134\n7,x,\n'


def test_import_writes_refused_rows_beside(shop: Path) -> None:
    (shop / "bad.csv").write_text("id,name\n8,a\n8,b\n9\n")

    stopped = katax("db", "import", "bad.csv", "users")
    done = katax("db", "import", "bad.csv", "users", "--max-errors", "5", "-f", "json")

    assert (
        stopped.code,
        "bad.csv, line 4: has 1 cells, expected 2; nothing was imported" in stopped.err,
    ) == (1, True)
    assert (done.code, done.json["imported"], done.json["rejected"]) == (0, 1, 2)
    assert sorted((shop / "bad.csv.rejects.csv").read_text().splitlines())[:2] == [
        '3,UNIQUE constraint failed: users.id,"8,b"',
        '4,"has 1 cells, expected 2",9',
    ]


def test_import_names_the_cause_of_what_it_cannot_read(shop: Path) -> None:
    deep = '{"id": 9, "name": ' + "[" * 300 + "]" * 300 + "}\n"
    (shop / "deep.jsonl").write_text("\n" + deep)
    (shop / "long.jsonl").write_text('{"id": 9, "name": "' + "x" * 2**20 + '"}\n')
    (shop / "mac.csv").write_bytes(b"id,name\r9,a\r")
    (shop / "wide.csv").write_text("id," + "x" * 2**18 + "\n9,a\n")
    (shop / "x.csv").write_text("id,name\n9,a\n")

    names = ("deep.jsonl", "long.jsonl", "mac.csv", "wide.csv")
    said = [katax("db", "import", name, "users") for name in names]
    said += [katax("db", "import", "x.csv", "users", "--encoding", name) for name in ("hex", "rot13")]

    assert [done.code for done in said] == [2, 0, 2, 2, 2, 2]
    assert said[0].err == "katax: deep.jsonl, line 2: is no JSON object: nested deeper than 250\n"
    assert said[2].err == "katax: mac.csv, line 1: is no CSV: a carriage return alone ends no line\n"
    assert "'wide.csv': no column named 'xxx" in said[3].err
    assert "no encoding named 'hex'" in said[4].err
    assert "no encoding named 'rot13'" in said[5].err


def test_replacing_asks(shop: Path) -> None:
    (shop / "new.csv").write_text("id,name\n1,new\n")
    asked = katax("db", "import", "new.csv", "users", "--replace")
    done = katax("db", "import", "new.csv", "users", "--replace", "-y")

    written = katax("db", "journal", "-f", "json").json
    assert (asked.code, done.code) == (4, 0)
    assert [(row["statement"], row["rows"], row["outcome"]) for row in written[:2]] == [
        ("import into users", 1, "done"),
        ("import into users", None, "refused"),
    ]
    assert "replacing all rows of 'users'" in asked.err
    assert katax("db", "query", "select * from users", "-f", "csv", "--no-header").out == "1,new,\n"


def test_import_says_what_it_cannot(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop / "x.csv").write_text("id,nme\n1,a\n")
    (shop / "x.sql").write_text("")
    (shop / "empty.csv").write_text("")

    said = [
        katax("db", "import", "x.csv", "users"),
        katax("db", "import", "x.csv", "nothing"),
        katax("db", "import", "x.sql", "users"),
        katax("db", "import", "gone.csv", "users"),
        katax("db", "import", "empty.csv", "users"),
        katax("db", "import", "x.csv", "users", "--encoding", "utf-9"),
    ]
    (shop / "profiles" / "test.toml").unlink()
    unnamed = katax("db", "import", "x.csv", "users")

    assert [done.code for done in said] == [2, 1, 2, 2, 2, 2]
    assert "'x.csv': no column named 'nme'" in said[0].err
    assert "no table named 'nothing' on 'main'" in said[1].err
    assert "run it with 'katax db exec --file'" in said[2].err
    assert "has no columns; is it empty?" in said[4].err
    assert unnamed.code == 4
    assert "repeat with -p local" in unnamed.err


def test_copy_reports_types_and_counts(shop: Path, postgresql_url: str, sqlite_url: str) -> None:
    write_profile(shop, {"main": sqlite_url, "copy": postgresql_url})
    write_profile(shop, {"main": postgresql_url}, name="stage")

    planned = katax("-p", "test", "db", "copy", "main", "copy", "--dry-run", "-f", "csv")
    done = katax("-p", "test", "db", "copy", "main", "stage/main", "--checksums", "-f", "json")
    told = katax("-p", "test", "db", "copy", "main", "copy", "users", "--not-consistent")
    twice = katax("-p", "test", "db", "copy", "main", "main")
    unknown = katax("-p", "test", "db", "copy", "main", "nothing")

    assert planned.out == (
        "table,column,source_type,target_type,note\n"
        "users,id,INTEGER,bigint,\nusers,name,TEXT,text,\nusers,born,TEXT,text,\n"
    )
    assert [(row["table"], row["target_rows"], row["same"]) for row in done.json] == [("users", 3, True)]
    assert (told.code, "users: was in already, not copied again" in told.err) == (0, True)
    assert (twice.code, "'main' stands on both sides" in twice.err) == (2, True)
    assert unknown.code == 2


def test_diff_prints_what_differs(shop: Path, sqlite_url: str) -> None:
    write_profile(shop, {"main": sqlite_url, "copy": "sqlite:///copy.db"})
    katax("db", "copy", "main", "copy", "-q")
    same = katax("db", "diff", "main", "copy", "--rows")
    katax("db", "update", "users", "name=other", "--where", "id = 1", "-c", "copy")
    differ = katax("db", "diff", "main", "copy", "--rows", "-f", "json")
    on_option = katax("db", "diff", "main", "copy", "-c", "main")

    assert (same.code, same.err) == (0, "no differences\n")
    assert (differ.code, differ.json) == (
        1,
        [
            {
                "kind": "row",
                "table": "users",
                "name": "[1]",
                "source": {"name": "Ada"},
                "target": {"name": "other"},
            }
        ],
    )
    assert (on_option.code, "named as SRC and DST, not by -c" in on_option.err) == (2, True)
