"""`katax db export|import|copy|diff` on MongoDB, as a person and as a script use them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.cli.harness import Done, katax, write_profile
from tests.servers.fixtures import MakeFresh

PEOPLE = """\
{"_id": {"$oid": "507f1f77bcf86cd799439011"}, "name": "Ada", "age": {"$numberInt": "36"}}
{"_id": "b", "name": "Bob", "born": {"$date": {"$numberLong": "-4861728000000"}}}
"""


@pytest.fixture
def docs(fresh: MakeFresh, tmp_path: Path) -> Path:
    """Two connections of MongoDB and one of SQL; a file of two documents."""
    urls = {"docs": fresh("mongodb").url, "copy": fresh("mongodb").url, "lite": "sqlite:///x.db"}
    write_profile(tmp_path, urls)
    (tmp_path / "people.jsonl").write_text(PEOPLE)
    return tmp_path


def done(*words: str) -> Done:
    result = katax(*words)
    assert result.code == 0, result.err
    return result


def test_a_collection_goes_out_and_in(docs: Path) -> None:
    planned = done("db", "import", "-c", "docs", "people.jsonl", "people", "--dry-run", "-f", "json")
    came = done("db", "import", "-c", "docs", "people.jsonl", "people", "-f", "json")
    again = done("db", "import", "-c", "docs", "people.jsonl", "people", "-f", "json")
    plain = done("db", "export", "-c", "docs", "people")
    named = done("db", "export", "-c", "docs", "people", "--filter", '{"name": "Bob"}', "-o", "bob.jsonl.gz")

    assert planned.json == {"table": "people", "imported": 0, "dry_run": True}
    assert came.json == {"table": "people", "imported": 2, "rejected": 0, "earlier": 0, "already": False}
    assert again.json["already"] is True
    assert (plain.out, plain.err) == (PEOPLE, "exported 2 documents\n")
    assert named.err == "exported 1 documents\n"
    assert gzip.decompress((docs / "bob.jsonl.gz").read_bytes()).decode() == "".join(
        PEOPLE.partition("}}\n")[2:]
    )


def test_what_would_lose_types_is_refused_in_a_sentence(docs: Path) -> None:
    done("db", "import", "-c", "docs", "people.jsonl", "people")
    (docs / "people.csv").write_text("name\nx\n")
    said = {
        2: [
            katax("db", "export", "-c", "docs", "people", "-o", "x.csv"),
            katax("db", "export", "-c", "docs", "people", "-f", "parquet"),
            katax("db", "import", "-c", "docs", "people.csv", "people"),
            katax("db", "export", "-c", "docs", "--query", "select 1"),
            katax("db", "export", "-c", "docs", "people", "--filter", "{"),
            katax("db", "export", "-c", "lite", "users", "--filter", "{}"),
            katax("db", "export", "-c", "lite", "--query", "select 1", "--filter", "{}"),
            katax("db", "copy", "docs", "lite"),
            katax("db", "diff", "lite", "docs"),
        ],
        1: [katax("db", "export", "-c", "docs", "nothing", "-o", "x.jsonl")],
    }
    texts = [one.err for code, results in said.items() for one in results if one.code == code]
    assert len(texts) == 10, [(one.code, one.err) for results in said.values() for one in results]
    assert all(text.startswith("katax: ") and text.count("\n") == 1 for text in texts[:4])
    assert "csv has no types for documents; use jsonl, which keeps every one" in texts[0]
    assert "--query is SQL, and 'docs' is mongodb; name a collection" in texts[3]
    assert "--filter is no JSON" in texts[4]
    assert "--filter is for MongoDB, not for 'lite'; use --query with a WHERE" in texts[5]
    assert "'db copy' does not work between 'docs' (mongodb) and 'lite' (sqlite)" in texts[7]
    assert "'db diff' does not work between 'lite' (sqlite) and 'docs' (mongodb)" in texts[8]
    assert not [*docs.glob("x.*")]


def test_a_copy_is_counted_and_compared(docs: Path) -> None:
    done("db", "import", "-c", "docs", "people.jsonl", "people")
    planned = done("db", "copy", "docs", "copy", "--dry-run", "-f", "json")
    copied = done("db", "copy", "docs", "copy", "--checksums", "-f", "json")
    again = done("db", "copy", "docs", "copy")
    same = done("db", "diff", "docs", "copy", "--rows", "-f", "json")
    done("db", "update", "-c", "copy", "people", "age=37", "--where", "name = Ada")
    unlike = katax("db", "diff", "docs", "copy", "--rows", "-f", "json")

    assert planned.json[0]["note"] == "is created"
    assert [(row["table"], row["source_rows"], row["same"]) for row in copied.json] == [("people", 2, True)]
    assert "people: was in already, not copied again\n" in again.err
    assert same.json == []
    assert unlike.code == 1
    assert [(row["kind"], row["source"], row["target"]) for row in unlike.json] == [
        ("row", {"age": {"$numberInt": "36"}}, {"age": {"$numberInt": "37"}})
    ]
