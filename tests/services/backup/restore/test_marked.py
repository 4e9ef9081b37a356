"""MySQL and Redis rename no database: a marker stands in the one that is filled until it is whole."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from katax_cli.core.sql import quote_identifier
from katax_cli.engines.mysql.backup import dump
from katax_cli.errors import BackupError, Refused
from katax_cli.profiles.load import load_profile
from katax_cli.services.backup.manifest import read_manifest, write_manifest
from katax_cli.services.backup.restore.destination import MARKER
from katax_cli.services.backup.restore.redis_number import RedisNumber
from katax_cli.services.backup.restore.run import prepare
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.tables.scratch import new_name
from tests.cli.harness import katax, write_profile
from tests.cli.processes import spawn
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, Target
from tests.services.backup.restore.rich import content, fill, mysql_connection
from tests.services.backup.server_of_backups import back_up, profile_for
from tests.waiting import SECONDS, until

ODD = "`'\" ü.x"


@pytest.fixture
def source(fresh: MakeFresh, mariadb: Server, tmp_path: Path) -> Target:
    target = fresh(mariadb)
    fill(target)
    profile_for(tmp_path, target)
    return target


@pytest.fixture
def copy(mariadb: Server, source: Target) -> Iterator[str]:
    """The name of a database that is not there yet; nor is one with `ODD` behind that name, or a dash before it."""
    name = f"{source.url.rpartition('/')[2]}_copy"
    yield name
    for made in (name, name + ODD, f"-{name}"):
        ask(mariadb, f"DROP DATABASE IF EXISTS {quote_identifier(made, 'mysql')}")


def ask(server: Server, sql: str, database: str | None = None) -> list[tuple[Any, ...]]:
    with mysql_connection(server, database or server.database) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        rows = list(cursor.fetchall())
        connection.commit()
        return rows


def databases(server: Server) -> set[str]:
    return {str(name) for (name,) in ask(server, "SHOW DATABASES")}


def restore(name: str, into: str, *words: str) -> tuple[int, str]:
    done = katax("db", "restore", name, "--into", into, "-y", *words)
    return done.code, done.err.strip()


def test_events_rest_until_all_is_restored(source: Target, mariadb: Server, copy: str) -> None:
    """The server would run them while rows are compared, and drop one whose time has passed as soon as it is made."""
    name = source.url.rpartition("/")[2]
    ask(mariadb, "CREATE EVENT once ON SCHEDULE AT now() + INTERVAL 1 SECOND DO DELETE FROM orders", name)
    odd = "CREATE DEFINER = 'no one'@'%' EVENT `a `` b` ON SCHEDULE EVERY '1 1' DAY_HOUR STARTS '2026-01-01' "
    ask(mariadb, f"{odd} ON COMPLETION PRESERVE COMMENT 'it''s' DO DELETE FROM orders WHERE id < 0", name)
    states = """SELECT event_name, definer, status, on_completion, starts, interval_value, event_comment, sql_mode
        FROM information_schema.events WHERE event_schema = '{}' ORDER BY 1"""
    before = ask(mariadb, states.format(name))
    manifest = back_up()
    has_passed = "SELECT execute_at < now() FROM information_schema.events WHERE event_name = 'once'"
    until(lambda: bool(ask(mariadb, has_passed, name)[0][0]))

    code, said = restore(manifest.name, copy)

    assert (code, "event 'once' stays disabled: its time has passed" in said) == (0, True), said
    after = ask(mariadb, states.format(copy))
    assert {row[0]: row[2:4] for row in before}["once"] == ("ENABLED", "NOT PRESERVE")
    assert {row[0]: row[2:4] for row in after}["once"] == ("DISABLED", "PRESERVE")
    assert [row for row in after if row[0] != "once"] == [row for row in before if row[0] != "once"]


def test_mysql_fills_a_new_or_an_empty_database(
    source: Target, mariadb: Server, copy: str, tmp_path: Path
) -> None:
    manifest = back_up()

    code, said = restore(manifest.name, copy, "--swap")
    assert (code, "mysql cannot rename a database" in said) == (2, True)
    assert copy not in databases(mariadb)

    ask(mariadb, f"CREATE DATABASE `{copy}`")
    code, said = restore(manifest.name, copy)
    assert (code, f"name the database {copy!r}" in said) == (0, True), said
    assert content(mariadb, copy) == content(mariadb, source.url.rpartition("/")[2])
    following = "INSERT INTO users (name) VALUES ('next') RETURNING id"
    assert ask(mariadb, following, copy) == ask(mariadb, following, source.url.rpartition("/")[2])

    code, said = restore(manifest.name, copy)
    assert (code, "is not empty, it has" in said) == (4, True)
    code, said = restore(manifest.name, copy + ODD)
    assert code == 0, said
    code, said = restore(manifest.name, f"-{copy}")
    assert code == 0, said
    profile_for(tmp_path, source.url.replace(copy.removesuffix("_copy"), f"-{copy}"), mariadb)
    assert back_up().rows == manifest.rows, "a name that looks like an option"
    profile_for(tmp_path, source)
    assert katax("db", "backups", "drill", manifest.name, "--on", "main", "--same-server", "-y").code == 0
    assert [name for name in databases(mariadb) if name.startswith("katax_drill")] == []


def test_numbers_come_from_the_sequence_of_the_same_database(
    source: Target, mariadb: Server, copy: str
) -> None:
    """The server keeps the name of the database with them; a text that looks like that is one."""
    name = source.url.rpartition("/")[2]
    text = f"  `x` DEFAULT nextval(`{name}`.`tickets`)"
    for statement in (
        "CREATE VIEW next_ticket AS SELECT nextval(tickets) AS ticket",
        f"CREATE TABLE texts (`it's` bigint DEFAULT (nextval(tickets) + 1), t text COMMENT '{text}')",
        f"INSERT INTO texts VALUES (1, '{text}\n{text}')",
    ):
        ask(mariadb, statement, name)
    manifest, texts = back_up(), ask(mariadb, "SELECT * FROM texts", name)
    ask(mariadb, f"DROP DATABASE `{name}`")

    code, said = restore(manifest.name, copy)

    assert code == 0, said
    ask(mariadb, "INSERT INTO texts () VALUES ()", copy)
    assert ask(mariadb, "SELECT * FROM texts", copy)[:1] == texts
    comment = "SELECT column_comment FROM information_schema.columns WHERE column_name = 't' AND table_name = 'texts'"
    assert ask(mariadb, comment) == [(text,)]
    assert ask(mariadb, "SELECT ticket > 100 FROM next_ticket", copy) == [(1,)]


def test_an_earlier_backup_has_the_name_of_the_database_in_its_hash(
    source: Target, mariadb: Server, copy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defaults were hashed as the server says them."""
    definitions = dump._DEFINITIONS
    said = re.sub(
        r"replace\(column_default.*\?\)", "if(? = '', column_default, NULL)", definitions["of tables"]
    )
    with monkeypatch.context() as earlier:
        earlier.setitem(definitions, "of tables", said)
        manifest = back_up()
    assert manifest.schema_hash != back_up().schema_hash

    code, told = restore(manifest.name, copy)

    assert code == 0, told
    assert ask(mariadb, "SELECT count(*) FROM seats", copy) == ask(
        mariadb, "SELECT count(*) FROM seats", source.url.rpartition("/")[2]
    )


def tools_in(folder: Path) -> str:
    return f'[backup]\ntools = "{folder}"\n'


def broken_client(folder: Path, tools: Path, ending: str) -> Path:
    """A client that reads half of the dump and then ends in some way."""
    broken = folder / f"broken-{len(ending)}"
    broken.mkdir()
    for tool in tools.iterdir():
        if tool.name not in ("mariadb", "mysql"):
            (broken / tool.name).symlink_to(tool)
    script = broken / "mariadb"
    script.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--version*) exec {tools}/mariadb --version;; esac\n'
        f'head -c 2500 | {tools}/mariadb "$@"; {ending}\n'
    )
    script.chmod(0o755)
    return broken


def test_mysql_is_as_it_was_when_a_restore_fails(
    source: Target, mariadb: Server, copy: str, tmp_path: Path
) -> None:
    manifest, before = back_up(), databases(mariadb)
    assert mariadb.tools is not None
    for ending in ("echo 'ERROR 3 (HY000): disk full' >&2; exit 1", "kill -9 $$"):
        tools = broken_client(tmp_path, mariadb.tools, ending)
        write_profile(tmp_path, {"main": source.url}, extra=tools_in(tools), connect_timeout=SECONDS)
        code, said = restore(manifest.name, copy)
        assert code == 1, said
        assert databases(mariadb) == before

    write_profile(tmp_path, {"main": source.url}, extra=tools_in(mariadb.tools), connect_timeout=SECONDS)
    name = source.url.rpartition("/")[2]
    for sql in ("CREATE USER gone@'%'", f"GRANT SELECT ON `{name}`.* TO gone@'%'"):
        ask(mariadb, sql)
    ask(mariadb, "CREATE DEFINER = gone@'%' VIEW of_gone AS SELECT * FROM users", name)
    ask(mariadb, "DROP USER gone@'%'")
    code, said = restore(back_up().name, copy)
    assert (code, said.startswith("katax: mariadb failed: ERROR ")) == (1, True), said
    assert "CREATE ALGORITHM" not in said, "the statement before the server's words may hold rows"
    assert databases(mariadb) == before


def test_mysql_is_emptied_after_a_killed_restore(
    source: Target, mariadb: Server, copy: str, tmp_path: Path
) -> None:
    manifest = back_up()
    assert mariadb.tools is not None
    # The killed program's own client has ended by then: it would go on filling the database.
    half = tmp_path / "half"
    slow = broken_client(tmp_path, mariadb.tools, f"touch {half}; sleep 300")
    write_profile(tmp_path, {"main": source.url}, extra=tools_in(slow), connect_timeout=SECONDS)

    with spawn("db", "restore", manifest.name, "--into", copy, "-y", cwd=tmp_path) as process:
        until(half.exists)
        assert len(ask(mariadb, "SHOW TABLES", copy)) > 1
        process.send_signal(signal.SIGSTOP)
        code, said = restore(manifest.name, copy)
        assert (code, "is being restored by katax_restore_" in said) == (4, True), said
        process.send_signal(signal.SIGKILL)

    profile_for(tmp_path, source)
    code, said = restore(manifest.name, copy)
    assert (code, f"emptied {copy!r}, which a killed restore left half full" in said) == (0, True), said
    assert content(mariadb, copy) == content(mariadb, source.url.rpartition("/")[2])


def test_a_plain_user_of_mysql_is_told_what_is_missing(
    source: Target, mariadb: Server, copy: str, tmp_path: Path
) -> None:
    """With rights on one database it works; what others defined needs one more."""
    name, user = source.url.rpartition("/")[2], f"plain_{os.getpid()}"
    ask(mariadb, f"CREATE USER {user} IDENTIFIED BY 'plain'")
    try:
        ask(mariadb, f"GRANT ALL ON `{name}`.* TO {user}")
        ask(mariadb, f"GRANT ALL ON `{copy}`.* TO {user}")
        url = source.url.replace(f"{mariadb.user}:{mariadb.password}@", f"{user}:plain@")
        by_root = back_up()
        profile_for(tmp_path, url, mariadb)

        code, said = restore(by_root.name, copy)
        assert (code, "grant SET USER on *.* to restore what others defined" in said) == (1, True), said
        assert copy not in databases(mariadb)
        code, said = restore(by_root.name, f"{name}_other")
        assert (code, "Access denied" in said and "grant all on this database" in said) == (1, True), said

        for what in ("VIEW grown", "FUNCTION twice", "PROCEDURE clear", "TRIGGER noted", "EVENT nightly"):
            ask(mariadb, f"DROP {what}", name)
        mine = back_up()
        assert restore(mine.name, copy)[0] == 0
        assert content(mariadb, copy) == content(mariadb, name)
    finally:
        ask(mariadb, f"DROP USER {user}")


@pytest.fixture
def keys(fresh: MakeFresh, redis7: Server, tmp_path: Path) -> Iterator[redis.Redis]:
    """A client of database 0, which the connection `main` names; its databases are empty before and after."""
    client = redis.Redis(host=redis7.host, port=redis7.port, password=redis7.password or None)
    client.flushall()
    write_profile(tmp_path, {"main": redis7.database_url("0")}, connect_timeout=SECONDS)
    yield client
    client.flushall()
    client.close()


def keys_url(client: redis.Redis, number: int) -> str:
    options = client.connection_pool.connection_kwargs
    return f"redis://:{options['password'] or ''}@{options['host']}:{options['port']}/{number}"


def other(client: redis.Redis, number: int) -> redis.Redis:
    options = client.connection_pool.connection_kwargs
    return redis.Redis(host=options["host"], port=options["port"], password=options["password"], db=number)


def dumped(client: redis.Redis) -> dict[bytes, tuple[bytes, int]]:
    """Every key with its value and the moment of its end."""
    return {key: (client.dump(key), client.pexpiretime(key)) for key in client.scan_iter(count=1000)}  # type: ignore[misc]


def test_redis_gets_every_key_with_its_end(keys: redis.Redis, tmp_path: Path) -> None:
    with keys.pipeline() as pipe:
        for number in range(1500):
            pipe.set(f"k{number}", os.urandom(20), ex=1000 + 100 * number if number % 3 else None)
        pipe.rpush("list", *range(500))
        pipe.hset("hash", mapping={"a": b"\xff", "b": 2})
        pipe.zadd("z", {"m": 1.5})
        pipe.xadd("stream", {"f": "v"})
        # Of one member: DUMP gives those of a hash table in an order that a restore may change.
        pipe.sadd(b"set\xff", "x")
        pipe.set("large", os.urandom(3 * 2**20))
        pipe.execute()
    manifest = back_up()
    before = dumped(keys)

    def same(restored: dict[bytes, tuple[bytes, int]]) -> bool:
        """A pause between two questions of the backup moves an end, but by far less than the ends are apart."""
        values = {key: value for key, (value, _) in restored.items()}
        ends = [abs(end - before[key][1]) for key, (_, end) in restored.items()]
        return values == {key: value for key, (value, _) in before.items()} and max(ends) < 60_000

    with other(keys, 1) as target:
        assert restore(manifest.name, "1")[0] == 0
        assert same(dumped(target))
        code, said = restore(manifest.name, "1")
        assert (code, "is not empty, it has 1,506 keys" in said) == (4, True), said
        target.flushdb()

        target.set(MARKER, new_name("restore").replace(f"_{os.getpid()}_", "_1_"))
        code, said = restore(manifest.name, "1")
        assert (code, "is being restored by katax_restore_" in said) == (4, True), said
        with spawn("version") as ended:
            ended.wait()
        target.set(MARKER, new_name("restore").replace(f"_{os.getpid()}_", f"_{ended.pid}_"))
        target.set("half", 1)
        code, said = restore(manifest.name, "1")
        assert (code, "which a killed restore left half full" in said) == (0, True), said
        assert same(dumped(target))

    assert restore(manifest.name, "one")[0] == 2
    assert restore(manifest.name, "1", "--swap")[0] == 2
    assert dumped(keys) == before


def test_of_two_that_find_a_killed_restore_one_empties_the_database(
    keys: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked before one of them begins. Later, the bad twin, there is nothing to find."""
    keys.set("a", 1)
    folder = Path("backups", back_up().name).absolute()
    with spawn("version") as ended:
        ended.wait()
    with other(keys, 1) as target, Runtime(load_profile()) as runtime:
        target.set(MARKER, new_name("restore").replace(f"_{os.getpid()}_", f"_{ended.pid}_"))
        work = StoppableWork("main")
        first, second = (prepare(folder, runtime.database("main"), "1", work=work) for _ in "ab")
        monkeypatch.setattr(RedisNumber, "refuse", lambda self, *, swap: False)
        destination = first._destination
        destination.make(None)
        maker = target.get(MARKER)
        with pytest.raises(Refused, match="is being restored by another process"):
            second.run()
        assert (target.get(MARKER), target.dbsize()) == (maker, 1)
        destination.discard()
        second.run()
        assert target.keys() == [b"a"]


def test_redis_is_empty_again_when_a_restore_fails(keys: redis.Redis, tmp_path: Path) -> None:
    keys.set("a", 1)
    keys.hset("h", "f", "v")
    manifest = back_up()
    keys.execute_command("ACL", "SETUSER", "weak", "on", ">weak", "~*", "+@all", "-restore")  # type: ignore[no-untyped-call]
    try:
        url = f"redis://weak:weak@{keys.connection_pool.connection_kwargs['host']}"
        write_profile(tmp_path, {"main": f"{url}:{keys.connection_pool.connection_kwargs['port']}/0"})
        code, said = restore(manifest.name, "2")
        assert (code, "was refused: " in said and "no permissions" in said.lower()) == (1, True), said
        with other(keys, 2) as target:
            assert target.dbsize() == 0
    finally:
        keys.execute_command("ACL", "DELUSER", "weak")  # type: ignore[no-untyped-call]


def test_redis_that_loses_what_it_took_is_no_restore(keys: redis.Redis) -> None:
    """By eviction, and by another who empties the number. The bad twin: the same server with room."""
    with keys.pipeline() as pipe:
        for number in range(3000):
            pipe.set(f"k{number}", os.urandom(2000))
        pipe.execute()
    manifest = back_up()
    room = int(keys.info("memory")["used_memory"]) + 2 * 2**20
    with other(keys, 2) as target:
        try:
            keys.config_set("maxmemory-policy", "allkeys-lru")
            keys.config_set("maxmemory", room)
            code, said = restore(manifest.name, "2")
        finally:
            keys.config_set("maxmemory", 0)
            keys.config_set("maxmemory-policy", "noeviction")
        assert (code, "the server evicted " in said and "raise its maxmemory" in said) == (1, True), said
        until(lambda: target.dbsize() == 0)

        with Runtime(load_profile()) as runtime:
            database, work = runtime.database("main"), StoppableWork("main")
            emptied = prepare(
                Path("backups", manifest.name).absolute(),
                database,
                "2",
                work=work,
                told=lambda _: target.flushdb(),
            )
            with pytest.raises(BackupError, match=r"the database was emptied meanwhile; keys without an end"):
                emptied.run()
            target.set("precious", 1)
            with pytest.raises(Refused, match="is not empty, it has 1 key"):
                emptied.run()
            assert (target.keys(), target.flushdb()) == ([b"precious"], True)
        folder = Path("backups", manifest.name)
        write_manifest(folder, replace(manifest, server_id="redis:1"))
        write_profile(Path(), {"second": keys_url(keys, 2)}, connect_timeout=SECONDS)
        try:
            keys.config_set("maxmemory", room)
            done = katax("db", "backups", "drill", manifest.name, "--on", "second", "--out", "backups")
        finally:
            keys.config_set("maxmemory", 0)
        assert (done.code, "says nothing of it: key" in done.err and "'maxmemory'" in done.err) == (
            1,
            True,
        ), done.err
        assert read_manifest(folder).drills == ()
        write_manifest(folder, manifest)
        write_profile(Path(), {"main": keys_url(keys, 0)}, connect_timeout=SECONDS)
        assert restore(manifest.name, "2")[0] == 0
        assert target.dbsize() == 3000


def test_redis_is_drilled_on_a_server_of_its_own(keys: redis.Redis, tmp_path: Path) -> None:
    keys.set("a", 1, ex=1000)
    back_up()
    done = katax("db", "backups", "drill", "--latest", "--embedded", "-f", "json")
    assert (done.code, done.json["passed"]) == (0, True), done.err
    assert katax("db", "backups", "drill", "--latest", "--on", "main").code == 4
