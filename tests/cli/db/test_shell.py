"""`katax db shell` behind a pipe, and its `--native`."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import which

from tests.cli.harness import katax, write_profile
from tests.servers import Server
from tests.servers.debian import unpacked
from tests.servers.fixtures import MakeFresh, Target

SECRET = "hush'\"\\ #word"


def lines(*words: str) -> bytes:
    return "\n".join(words).encode()


def test_lines_of_a_pipe_run_up_to_the_first_error(sql_engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})
    script = lines(
        "create table t (n int,",
        "  s varchar(20)); -- two",
        "insert into t values (1, 'a;b'), (2, null); select 'x' as x; select n from t",
        "order by n;",
        "\\d t",
        "begin;",
        "update t set n = 5 where n > 0;",
        "rollback;",
        "select nope from t;",
        "drop table t;",
    )

    done = katax("db", "shell", stdin=script)
    rows = katax("db", "shell", "-f", "jsonl", stdin=b"select n from t order by n\n")

    assert done.code == 1
    assert "nope" in done.err
    assert done.err.count("\n") <= 4
    told = [line.split()[0] for line in done.out.splitlines()]
    assert told[:8] == ["CREATE", "INSERT", "x", "-", "x", "n", "-", "1"]
    assert told[-3:] == ["BEGIN", "UPDATE", "ROLLBACK"]
    assert (rows.code, [json.loads(line) for line in rows.out.splitlines()]) == (0, [{"n": 1}, {"n": 2}])


def test_a_transaction_that_the_input_leaves_open_is_rolled_back(sql_engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})
    katax("db", "exec", "create table t (n int)")

    done = katax("db", "shell", stdin=b"begin; insert into t values (1);\n")

    assert (done.code, katax("db", "query", "select n from t", "-f", "json").json) == (1, [])
    assert done.err == (
        "katax: the input ended inside a transaction on 'main', so it was rolled back; end it with COMMIT\n"
    )


def test_it_asks_as_db_exec_does(sql_engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sql_engine.url}, role="prod")
    katax("db", "exec", "create table t (n int)")
    katax("db", "exec", "insert into t values (1)")

    refused = katax("db", "shell", "-y", stdin=b"delete from t;\n")
    kept = katax("db", "query", "select count(*) as n from t", "-f", "json").json
    done = katax("db", "shell", "--confirm", "test/main", stdin=b"delete from t;\n")

    assert (refused.code, kept) == (4, [{"n": 1}])
    assert "--confirm test/main" in refused.err
    assert (done.code, done.out) == (0, "DELETE 1\n")


def test_what_is_written_stands_in_the_journal(sql_engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})
    script = lines(
        "create table t (n int);",
        "insert into t values (1);",
        "begin;",
        "update t set n = 2 where n = 1;",
        "commit;",
        "begin;",
        "delete from t where n = 2;",
        "select nope;",
    )

    katax("db", "shell", stdin=script)

    journal = katax("db", "journal", "-f", "json").json
    assert [
        (one["statement"].split()[0].upper(), one["outcome"], one["rows"]) for one in reversed(journal)
    ] == [
        ("CREATE", "done", journal[-1]["rows"]),
        ("INSERT", "done", 1),
        ("UPDATE", "done", 1),
        ("DELETE", "rolled back", 1),
    ]


def test_redis_commands_are_answered_as_redis_cli_draws_them(redis_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"cache": redis_url})
    script = lines(
        'set k "a b"',
        "get k",
        "get nosuch",
        "rpush l 1 2",
        "lrange l 0 -1",
        "multi",
        "incr n",
        "exec",
        "flushdb",
    )

    done = katax("db", "shell", "-c", "cache", stdin=script)
    as_json = katax(
        "db", "shell", "-c", "cache", "-f", "json", stdin=b'set b "\\xff"\nget b\nlrange l 0 -1\n'
    )
    half = katax("db", "shell", "-c", "cache", stdin=b"multi\nlpush k 1\nincr n\nexec\nget n\n")

    assert done.out.splitlines() == [
        '"OK"', '"a b"', "(nil)", "(integer) 2", '1) "1"', '2) "2"', '"OK"', '"QUEUED"', "1) (integer) 1"
    ]  # fmt: skip
    assert (done.code, "repeat with --yes" in done.err) == (4, True)
    assert [json.loads(line) for line in as_json.out.splitlines()] == ["OK", {"base64": "/w=="}, ["1", "2"]]
    assert (
        half.code,
        "1 of 2 commands of the transaction were refused, the others were run" in half.err,
    ) == (1, True)


def test_mongodb_calls_answer_with_documents(mongodb_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": mongodb_url})
    script = lines(
        'db.u.insertMany([{"_id": 1, "n": {"a": 1}},',
        '  {"_id": 2, "s": "x"}])',
        'db.u.find({}).sort({"_id": 1});',
        'db.u.findOne({"_id": 2})',
        'db.u.findOne({"_id": 3})',
    )

    done = katax("db", "shell", "-f", "json", stdin=script)
    table = katax("db", "shell", stdin=b'db.u.find({}).sort({"_id": 1})\n\\d\n')
    bad = katax("db", "shell", stdin=b"db.u.find({a: 1})\ndb.u.drop()\n")
    asked = katax("db", "shell", stdin=b"db.u.drop()\n")

    inserted, rest = done.out.split("\n", 1)
    assert json.loads(inserted)["n"] == 2
    found, one, none, _ = rest.rsplit("\n", 3)
    assert json.loads(found) == [{"_id": 1, "n": {"a": 1}}, {"_id": 2, "s": "x"}]
    assert (json.loads(one), json.loads(none)) == ({"_id": 2, "s": "x"}, None)
    assert [line.split() for line in table.out.splitlines()][:4] == [
        ["_id", "n", "s"], ["---", "--------", "-"], ["1", '{"a":', "1}"], ["2", "x"]
    ]  # fmt: skip
    assert (bad.code, "JSON, with names in double quotes at column 12" in bad.err) == (2, True)
    assert (asked.code, "repeat with --yes" in asked.err) == (4, True)


def test_what_a_shell_cannot_do_is_said(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///a.db", "other": "sqlite:///b.db"})

    for words, stdin, told in (
        (("--dry-run",), b"", "a shell has no --dry-run"),
        (("-c", "*"), b"", "works on one connection"),
        ((), b"\\nosuch\n", "no command named '\\\\nosuch'"),
        ((), b"\\d a b\n", "takes one word"),
        ((), b"\\watch\n", "must be one that reads"),
        ((), b"\\x sideways\n", "takes on, off or auto"),
        ((), b"select '\xff';\n", "line 1 of the input is not UTF-8"),
    ):
        done = katax("db", "shell", *words, stdin=stdin)
        assert (done.code, told in done.err) == (2, True), done.err


def native(
    typed: bytes, *tools: Path | None, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """The server's own client, with the tools of the servers before those of PATH."""
    path = os.pathsep.join([*(str(folder) for folder in tools if folder is not None), os.environ["PATH"]])
    return subprocess.run(
        [sys.executable, "-m", "katax_cli", "db", "shell", "--native"],
        input=typed,
        capture_output=True,
        env={**os.environ, **environment, "PATH": path},
        check=False,
    )


def test_native_clients_reach_the_same_server(
    fresh: MakeFresh, postgresql: Server, mysql: Server, redis7: Server, tmp_path: Path
) -> None:
    """psql, mariadb, redis-cli and sqlite3, each run for real; libpq's variables mean another server."""
    services = tmp_path / "services.conf"
    services.write_text("[other]\nhost=other.invalid\ndbname=other\n")
    elsewhere = {"PGSERVICE": "other", "PGSERVICEFILE": str(services), "PGHOSTADDR": "192.0.2.1"}
    asked = {
        "postgresql": b"\\t\nselect 'in ' || current_database();\n",
        "mysql": b"select concat('in ', database());\n",
        "redis": b"set here 'in it'\nget here\n",
        "sqlite": b"select 'in ' || name from pragma_table_info('t');\n",
    }
    sqlite3 = None if which("sqlite3") else unpacked("sqlite3")
    for server, tools in ((postgresql, None), (mysql, None), (redis7, None), ("sqlite", sqlite3)):
        target = fresh(server)
        write_profile(tmp_path, {"main": target.url})
        if target.engine == "sqlite":
            assert katax("db", "exec", "create table t (it int)").code == 0
        of_server = target.server.tools if target.server else None
        done = native(asked[target.engine], of_server, tools, environment=elsewhere)

        name = target.url.rpartition("/")[2] if target.engine in ("postgresql", "mysql") else "it"
        assert (done.returncode, done.stderr) == (0, b""), target.engine
        assert f"in {name}".encode() in done.stdout, target.engine


def test_the_password_of_mariadbs_client_stands_in_a_file_without_a_name(tmp_path: Path) -> None:
    """A program in its place says what it was given; MariaDB's client itself reads the same file."""
    from urllib.parse import quote

    write_profile(tmp_path, {"main": f"mysql://app:{quote(SECRET, safe='')}@db.example/shop"})
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "mariadb"
    program.write_text(
        '#!/bin/sh\necho "$@"\nfile="${1#--defaults-file=}"\ncat "$file"\nstat -Lc %a:%h "$file"\nenv\n'
    )
    program.chmod(0o755)

    done = subprocess.run(
        [sys.executable, "-m", "katax_cli", "db", "shell", "--native"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        check=True,
    )

    arguments, *file = done.stdout.splitlines()
    assert arguments.startswith("--defaults-file=/dev/fd/")
    assert 'password="hush\'\\"\\\\ #word"' in file
    assert "600:0" in file
    assert done.stdout.count("hush") == 1, "not in the environment either"
