"""`katax db find|aggregate|command|insert|update|delete` on MongoDB, as a person and as a script use them."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import pytest

from katax_cli.cli.shell.output import FORMATS
from tests.cli.harness import Done, katax, write_profile
from tests.cli.processes import spawn
from tests.cli.terminal import at_terminal
from tests.servers.fixtures import MakeFresh, MakeProxy
from tests.servers.proxy import Proxy

OID = "507f1f77bcf86cd799439011"
PEOPLE = f"""[
  {{"_id": {{"$oid": "{OID}"}}, "name": "Ada", "age": 36, "born": {{"$date": "1815-12-10T00:00:00Z"}}, "zip": "01234"}},
  {{"_id": "b", "name": "Bob", "age": 17, "address": {{"city": "Paris", "geo": [1, 2.5]}}}},
  {{"_id": "c", "name": "Cleo", "age": 52, "note": null, "key": {{"$binary": {{"base64": "AP8=", "subType": "00"}}}}}}
]"""


@pytest.fixture
def docs(mongodb_url: str, tmp_path: Path) -> str:
    """The connection `docs` with three people, beside one that only reads and one of SQL."""
    write_profile(tmp_path, {"docs": mongodb_url, "lite": "sqlite:///x.db", "frozen": mongodb_url})
    file = tmp_path / "profiles/test.toml"
    file.write_text(f"{file.read_text()}read_only = true\n")
    done = katax("db", "insert", "-c", "docs", "people", "--json", "-", stdin=PEOPLE.encode())
    assert done.code == 0, done.err
    return mongodb_url


def db(*words: str) -> Done:
    """On `docs`, with its exit code 0."""
    done = katax("db", words[0], "-c", "docs", *words[1:])
    assert done.code == 0, done.err
    return done


def names(*words: str) -> str:
    lines = db("find", "people", *words, "-f", "jsonl").out.splitlines()
    return "".join(json.loads(line)["name"][0] for line in lines)


def refused(*words: str, code: int, on: str = "docs") -> str:
    """The one line that it says; the documents are as they were."""
    done = katax("db", words[0], "-c", on, *words[1:])
    assert (done.code, done.err.count("\n"), done.out) == (code, 1, ""), (words, done)
    assert names() == "ABC"
    return done.err


def test_each_format(docs: str) -> None:
    whole = db("find", "people", "--sort", "name", "-f", "json")
    assert [one["name"] for one in whole.json] == ["Ada", "Bob", "Cleo"]
    assert whole.json[1] == json.loads(PEOPLE)[1]
    assert db("find", "people", "--sort", "name", "-f", "csv").out == (
        "_id,name,age,born,zip,address,note,key\n"
        f"{OID},Ada,36,1815-12-10T00:00:00Z,01234,,,\n"
        'b,Bob,17,,,"{""city"": ""Paris"", ""geo"": [1, 2.5]}",,\n'
        "c,Cleo,52,,,,,\\x00ff\n"
    )
    canonical = db("find", "people", "--where", "name = Bob", "-f", "jsonl", "--canonical").json
    assert canonical["age"] == {"$numberInt": "17"}
    assert canonical["address"]["geo"] == [{"$numberInt": "1"}, {"$numberDouble": "2.5"}]
    for format in FORMATS:
        assert "Cleo" in db("find", "people", "-f", format).out
        assert "Ada" not in db("find", "nothing", "-f", format).out
    chosen = db("find", "people", "--columns", "name,address.city", "--sort", "name", "-f", "tsv")
    assert chosen.out == "name\taddress.city\nAda\t\\N\nBob\tParis\nCleo\t\\N\n"
    assert db("find", "people", "--columns", "age", "--limit", "1", "--sort", "age", "-f", "jsonl").json == {
        "age": 17
    }


def test_what_is_written_can_be_inserted_again(docs: str) -> None:
    for canonical in ([], ["--canonical"]):
        text = db("find", "people", "--sort", "name", "-f", "json", *canonical).out
        db("command", '{"drop": "people"}', "-y")
        Path("people.json").write_text(text)
        db("insert", "people", "--json", "@people.json")
        assert db("find", "people", "--sort", "name", "-f", "json", *canonical).out == text


def test_conditions_filters_and_values(docs: str) -> None:
    for words, expected in (
        (("--where", "age > 17"), "AC"),
        (("--where", "age > 17", "--where", "name != Ada"), "C"),
        (("--where", f"_id = {OID}"), "A"),
        (("--where", "_id in (b, c)"), "BC"),
        (("--where", "born < 1900-01-01"), "A"),
        (("--where", "zip = '01234'"), "A"),
        (("--where", "name like %o%"), "BC"),
        (("--where", "address.city = Paris"), "B"),
        (("--where", "age = :n", "--param", "n=52"), "C"),
        (("--where", "name = :n", "--param", 'n={"$gt": ""}'), ""),
        (("--filter", '{"age": {"$in": [17, 36]}}'), "AB"),
        (("--filter", '{"age": {"$gt": 1}}', "--where", "age < 30"), "B"),
    ):
        assert names(*words, "--sort", "name") == expected, words
    assert names("--sort", '{"age": -1}') == names("--sort", "age desc") == "CAB"
    assert names("--sort", "age", "--offset", "1", "--limit", "1") == "A"
    assert (
        katax(
            "db", "find", "-c", "docs", "people", "--filter", "-", "-f", "jsonl", stdin=b'{"age": 52}'
        ).json["name"]
        == "Cleo"
    )
    assert db("find", "people", "--projection", "name", "--where", "age = 17", "-f", "jsonl").json == {
        "name": "Bob"
    }
    assert db("find", "people", "--projection", '{"age": 1}', "--where", "age = 17", "-f", "jsonl").json == {
        "_id": "b",
        "age": 17,
    }


def test_a_limit_says_that_there_is_more(docs: str) -> None:
    for command in (["find", "people"], ["aggregate", "people", "[]"]):
        for limit, rows in (("0", 0), ("2", 2), ("3", 3), ("4", 3)):
            done = db(*command, "--limit", limit, "-f", "jsonl")
            assert (done.out.count("\n"), "more documents" in done.err) == (rows, int(limit) < 3)


def test_wrong_words_are_exit_2_in_one_line(docs: str) -> None:
    for words in (
        ("find", "people", "--filter", "{age: 1}"),
        ("find", "people", "--filter", "[]"),
        ("find", "people", "--filter", '{"a": NaN}'),
        ("find", "people", "--filter", '{"_id": {"$oid": "x"}}'),
        ("find", "people", "--filter", "[" * 50_000),
        ("find", "people", "--filter", "@nowhere"),
        ("find", "people", "--where", "age"),
        ("find", "people", "--where", "$where = 1"),
        ("find", "people", "--where", "lower(name) = ada"),
        ("find", "people", "--where", "age = null"),
        ("find", "people", "--where", "age = :n"),
        ("find", "people", "--where", "age = 1", "--param", "n=1"),
        ("find", "people", "--where", "age = 99999999999999999999"),
        ("find", "people", "--sort", "age up"),
        ("find", "people", "--sort", '{"age": 2}'),
        ("find", "people", "--projection", "a,,b"),
        ("find", "$cmd"),
        ("find", ""),
        ("aggregate", "people", "{}"),
        ("aggregate", "people", "[5]"),
        ("aggregate", "people", '["$out"]'),
        ("command", "[]"),
        ("command", "{}"),
        ("insert", "people"),
        ("insert", "people", "a.b=1"),
        ("insert", "people", "a=1", "--json", "{}"),
        ("insert", "people", "--json", "[]"),
        ("insert", "people", "--json", "[1]"),
        ("update", "people", "--where", "age = 1"),
        ("update", "people", "--json", '{"$set": {"a": 1}, "b": 1}', "--where", "age = 1"),
        ("update", "people", "--json", "[]", "--where", "age = 1"),
        ("update", "people", "$set=1", "--where", "age = 1"),
        ("delete", "people", "--where", "age == 1"),
    ):
        refused(*words, code=2)


def test_insert_update_and_delete(docs: str) -> None:
    made = db(
        "insert", "people", "name=Dan", "age=41", "active=true", "zip='5'", "at=2026-01-02", "-f", "json"
    ).json
    found = db("find", "people", "--where", f"_id = {made['ids'][0]['$oid']}", "-f", "jsonl").json
    assert found == {
        "_id": made["ids"][0],
        "name": "Dan",
        "age": 41,
        "active": True,
        "zip": "5",
        "at": {"$date": "2026-01-02T00:00:00Z"},
    }
    assert db("update", "people", "age=42", "--where", "name = Dan", "-f", "json").json == {
        "rows_affected": 1,
        "modified": 1,
    }
    assert names("--where", "age = 42") == "D"
    some = ("--filter", '{"age": {"$gt": 30}}')
    planned = db("update", "people", "--json", '{"$inc": {"age": 1}}', *some, "--dry-run", "-f", "json").json
    assert (planned["rows"], planned["executed"], planned["filter"]) == (3, False, {"age": {"$gt": 30}})
    assert (
        db("update", "people", "--json", '{"$inc": {"age": 1}}', *some, "-f", "json").json["rows_affected"]
        == 3
    )
    assert (
        db("update", "people", "--json", '{"tag": "x"}', *some, "--one", "-f", "json").json["rows_affected"]
        == 1
    )
    assert len(names("--where", "tag = x")) == 1
    assert db("delete", "people", *some, "--one", "--dry-run", "-f", "json").json["rows"] == 1
    assert db("delete", "people", *some, "--one", "-f", "json").json == {"rows_affected": 1}
    assert (
        db("delete", "people", "--where", "name = :n", "--param", "n=Dan", "-f", "json").json["rows_affected"]
        <= 1
    )
    assert db("delete", "people", "-y", "-f", "json").json["rows_affected"] >= 1
    assert names() == ""


def test_what_loses_data_is_asked_for(docs: str, tmp_path: Path) -> None:
    every = "on 'test/docs' needs confirmation; repeat with --yes"
    for words, what in (
        (("delete", "people"), "deleting every document of 'people'"),
        (("delete", "people", "--filter", '{"$or": [{}]}'), "deleting every document of 'people'"),
        (("delete", "people", "--where", "_id is not null"), "deleting every document of 'people'"),
        (("update", "people", "a=1"), "changing every document of 'people'"),
        (("aggregate", "people", '[{"$out": "copy"}]'), "replacing collection 'copy'"),
        (("command", '{"drop": "people"}'), "dropping collection 'people'"),
        (("command", '{"dropDatabase": 1}', "--database", "x"), "dropping the database of database 'x'"),
        (("command", '{"delete": "people", "deletes": [{"q": {}, "limit": 0}]}'), "deleting every document"),
    ):
        assert what in refused(*words, code=4)
    assert every in refused("delete", "people", code=4)
    asked = at_terminal("db", "delete", "-c", "docs", "people", typed="n")
    assert (asked.code, "[y/N]" in asked.err) == (4, True)
    write_profile(tmp_path, {"docs": docs}, role="prod")
    assert "--confirm test/docs" in refused("delete", "people", "-y", code=4)
    assert "the command 'createUser' on" in refused("command", '{"createUser": "u"}', code=4)
    assert db("delete", "people", "--confirm", "test/docs").out.split() == ["rows_affected", "3"]


def test_on_production_a_change_is_asked_for_before_it_is_sent(docs: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"docs": docs}, role="prod")
    some = ("people", "--where", "age > 17")
    for words in (("delete", *some), ("update", *some, "age=1"), ("delete", *some, "--one")):
        assert "repeat with --yes or --max-rows-affected N" in refused(*words, code=4)
        assert "would change" in refused(*words, "--max-rows-affected", "0", code=4)
        asked = at_terminal("db", words[0], "-c", "docs", *words[1:], typed="n")
        assert (asked.code, names()) == (4, "ABC")
        assert f"changes {1 if '--one' in words else 2} document" in asked.err
        assert "as they are now:" in asked.err
        assert "Ada" in asked.err
    for spec in ('{"update": "people", "updates": []}', '{"findAndModify": "people", "remove": true}'):
        assert "which cannot be rolled back, on 'test/docs' needs confirmation" in refused(
            "command", spec, code=4
        )
    assert "needs confirmation" in refused("aggregate", "people", '[{"$merge": "copy"}]', code=4)
    assert at_terminal("db", "delete", "-c", "docs", *some, typed="y").out.split() == ["rows_affected", "2"]
    assert db("delete", "people", "--where", "age = 17", "--max-rows-affected", "1").out.split()[-1] == "1"
    entries = katax("db", "journal", "-f", "json").json
    assert [(one["statement"], one["rows"], one["outcome"]) for one in entries[:2]] == [
        ("delete people {age}", 1, "done"),
        ("delete people {age}", 2, "done"),
    ]
    assert {one["outcome"] for one in entries[2:-1]} == {"refused"}
    assert entries[-1]["statement"] == "insert people {documents}"


def test_a_read_only_connection_refuses_what_is_not_known_to_read(docs: str) -> None:
    for words in (
        ("insert", "people", "a=1"),
        ("update", "people", "a=1", "--where", "age = 17"),
        ("delete", "people", "-y"),
        ("aggregate", "people", '[{"$facet": {"a": [{"$OUT": "x"}]}}]', "-y"),
        ("aggregate", "people", '[{"$lookup": {"from": "a", "as": "b", "pipeline": [{"$merge": "x"}]}}]'),
        ("aggregate", "people", '[{"$newStage": {}}]'),
        ("find", "people", "--filter", '{"$where": "true"}'),
        ("command", '{"drop": "people"}', "-y"),
        ("command", '{"explain": {"findAndModify": "people"}}', "-y"),
        ("command", '{"mapReduce": "people", "out": {"inline": 1}}'),
    ):
        assert "read-only" in refused(*words, code=4, on="frozen")
    assert katax("db", "command", "-c", "frozen", '{"count": "people"}', "-f", "json").json["n"] == 3
    assert katax("db", "aggregate", "-c", "frozen", "people", '[{"$count": "n"}]').code == 0


def test_the_answer_of_a_command(docs: str) -> None:
    assert db("command", '{"ping": 1}', "-f", "json").json == {"ok": 1}
    assert db("command", '{"ping": 1}').out.split() == ["ok", "1"]
    found = db("command", '{"find": "people", "filter": {"age": 17}}', "-f", "json").json
    assert found["cursor"]["firstBatch"][0]["_id"] == "b"
    Path("ping.json").write_text('{"ping": {"$numberInt": "1"}}')
    assert db("command", "@ping.json", "-f", "json", "--canonical").json["ok"] in (
        {"$numberInt": "1"},
        {"$numberDouble": "1.0"},
    )


def test_a_duplicate_and_a_large_document_are_one_line(docs: str) -> None:
    error = refused("insert", "people", "--json", '{"_id": "b"}', code=1)
    assert error.startswith("katax: 'docs' refused the statement: ")
    assert error.endswith("(11000)\n")
    Path("filter.json").write_text(json.dumps({"_id": "x" * 60_000_000}))
    Path("large.json").write_text(json.dumps([{"_id": "first"}, {"text": "x" * 17_000_000}]))
    error = refused("insert", "people", "--json", "@large.json", code=1)
    assert "document 2 has 17000" in error
    assert "no document was inserted" in error
    assert "too large" in refused(
        "update", "people", "--json", '{"a": 1}', "--filter", "@filter.json", code=1
    )


def test_later_fields_are_never_lost_without_a_word(docs: str) -> None:
    rows = [{"n": n} for n in range(1_000)] + [{"n": 1_000, "late": 1}]
    Path("rows.json").write_text(json.dumps(rows))
    db("insert", "rows", "--json", "@rows.json")
    for format in ("csv", "tsv"):
        done = katax("db", "find", "-c", "docs", "rows", "--sort", "n", "-f", format)
        assert (done.code, "'late'" in done.err, done.err.count("\n")) == (1, True, 1)
        done = katax("db", "find", "-c", "docs", "rows", "-f", format, "--columns", "n,late", "--no-header")
        assert (done.code, done.err, done.out.count("\n")) == (0, "", 1_001)
    done = db("find", "rows", "--sort", "n", "-f", "table")
    assert (done.out.count("\n"), "other fields, which are left out: late" in done.err) == (1_003, True)
    assert db("find", "rows", "--sort", "n", "-f", "jsonl").out.endswith('"late": 1}\n')


def test_the_other_engines_and_mongodb_say_what_to_use(docs: str) -> None:
    for command in ("query", "exec", "select"):
        assert refused(command, "people", code=2) == (
            f"katax: mongodb has no SQL; 'db {command}' works on postgresql, mysql, sqlite; "
            "on mongodb use 'katax db find', 'db aggregate' or 'db command'\n"
        )
    assert "'db find' works on mongodb" in refused("find", "people", code=2, on="lite")
    assert "for mongodb; write --where" in refused("update", "t", "a=1", "--one", code=2, on="lite")
    assert "for mongodb; write --where" in refused("delete", "t", "--filter", "{}", code=2, on="lite")
    assert "works on one connection" in refused("delete", "people", "-c", "lite", code=2)


def test_a_write_that_is_not_answered_is_exit_6(fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path) -> None:
    for words in (
        ("insert", "written", "n=1"),
        ("update", "written", "n=1", "--where", "n = 1"),
        ("delete", "written", "-y"),
    ):
        wire = proxy(fresh("mongodb"))
        write_profile(tmp_path, {"docs": wire.url})
        wire.cut_after(b"written", forward=True)
        done = katax("db", *words)
        assert (done.code, done.err.count("\n")) == (6, 1), done.err


def test_a_write_that_is_interrupted_says_that_its_outcome_is_not_known(
    fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    for words in (("insert", "written", "n=1"), ("command", '{"insert": "written", "documents": [{}]}')):
        wire = proxy(fresh("mongodb"))
        write_profile(tmp_path, {"docs": wire.url})
        sent = threading.Event()

        def hold(chunk: bytes, wire: Proxy = wire, sent: threading.Event = sent) -> None:
            if b"written" in chunk:
                wire.stall()
                sent.set()

        wire.on_client_bytes(hold)
        with spawn("db", *words) as process:
            assert sent.wait(60)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=120)
        told = b"interrupted: the insert may or may not have been applied, check before repeating it\n"
        assert (process.returncode, err) == (130, told)
    assert katax("db", "journal", "-f", "json").json[0]["outcome"] == "unknown"
