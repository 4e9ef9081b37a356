"""`katax db export|import|copy|diff` as a user runs them."""

from __future__ import annotations

import gzip
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
