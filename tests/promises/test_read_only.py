"""Promise 2: a read-only or frozen profile cannot be written through any command or guarded API of ours.

The command tree is enumerated: a command that the table does not know fails, so that later ones are caught.
Each attempt has its bad twin: the same words on a profile that may write do change the data.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from katax_cli import Column, Mapped, Model
from katax_cli.core.engine_names import ENGINE_NAMES
from katax_cli.errors import KataxError, Refused
from katax_cli.profiles.load import load_profile
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.cli.harness import command_names, katax, write_profile
from tests.promises.witness import Witness, witness_of
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, Target
from tests.servers.fleet import Fleet
from tests.servers.fresh import fresh_database
from tests.services.runtimes import CALM
from tests.waiting import SECONDS

SQL = ("postgresql", "mysql", "sqlite")
ALL = ENGINE_NAMES


@dataclass(frozen=True)
class Writes:
    """Words that change data where they may, and are refused where they may not."""

    words: str
    on: tuple[str, ...]


@dataclass(frozen=True)
class Reads:
    """Words that change nothing on a read-only profile, and their exit code there: they work, say no or are refused."""

    words: str
    on: tuple[str, ...]
    code: int = 0


@dataclass(frozen=True)
class Exempt:
    """A command that does not talk to the servers of a profile, and why that is so."""

    why: str


COMMANDS: Mapping[str, Writes | Reads | Exempt] = {
    "health check": Reads("health --verbose --timeout 60s", ALL),
    "health serve": Exempt("serves for ever; its checks are those of health --verbose"),
    "db ping": Reads("db ping -c main", ALL),
    "db query": Writes("db query -c main|insert into kept values (2)", SQL),
    "db exec": Writes("db exec -c main|insert into kept values (2)", SQL),
    "db shell": Reads("db shell -c main", ALL),
    "db select": Reads("db select -c main kept", SQL),
    "db insert": Writes("db insert -c main kept n=2", (*SQL, "mongodb")),
    "db update": Writes("db update -c main -y kept n=2", (*SQL, "mongodb")),
    "db delete": Writes("db delete -c main -y kept", (*SQL, "mongodb")),
    "db find": Reads("db find -c main kept", ("mongodb",)),
    "db aggregate": Writes('db aggregate -c main -y kept|[{"$merge":"other"}]', ("mongodb",)),
    "db command": Writes('db command -c main -y {"drop":"kept"}', ("mongodb",)),
    "db tables": Reads("db tables -c main", (*SQL, "mongodb")),
    "db describe": Reads("db describe -q -c main kept", (*SQL, "mongodb")),
    "db size": Reads("db size -c main", ALL),
    "db metrics": Reads("db metrics -c main", ALL),
    "db activity": Reads("db activity -c main", ("postgresql", "mysql", "redis")),
    "db blocking": Reads("db blocking -c main", ("postgresql", "mysql")),
    "db cancel": Reads("db cancel -c main -y 1", ("postgresql", "mysql", "redis"), code=4),
    "db terminate": Reads("db terminate -c main -y 1", ("postgresql", "mysql", "redis"), code=4),
    # What of these keeps no slow queries says so with 2, as tests/engines/test_metrics.py holds.
    "db slow": Reads("db slow -c main", ("redis",)),
    "db export": Reads("db export -q -c main kept", (*SQL, "mongodb")),
    "db journal": Exempt("reads the profile's own file, no server's data"),
    "db import": Writes("db import -c main -q rows.csv kept", SQL),
    "db copy": Writes("db copy -q beside main", SQL),
    "db diff": Reads("db diff -q main beside", SQL, code=1),
    "db truncate": Writes("db truncate -c main -y", (*SQL, "mongodb")),
    "db create": Reads("db create -c main", SQL, code=4),
    "db drop": Reads("db drop -c main -y", SQL, code=4),
    "db reset": Writes("db reset -c main -y", (*SQL, "mongodb")),
    "db backup": Reads("db backup -c main", ("sqlite", "redis")),
    "db restore": Reads("db restore none --into x -c main -y", SQL, code=4),
    "db backups drill": Reads("db backups drill none --on main", SQL, code=4),
    "db backups list": Exempt("reads files"),
    "db backups verify": Exempt("reads files"),
    "db backups prune": Exempt("removes backups, no server's data"),
    "seed run": Writes("seed run -c main -y", (*SQL, "mongodb")),
    "seed status": Reads("seed status -c main", (*SQL, "mongodb")),
    "seed create": Exempt("writes a new file of the project, no server's data"),
    "cron list": Exempt("reads files and the state database"),
    "cron next": Exempt("reads files and the state database"),
    "cron explain": Exempt("reads files and the state database"),
    "cron check": Exempt("reads files and the state database"),
    "cron history": Exempt("reads files and the state database"),
    "cron logs": Exempt("reads files and the state database"),
    "cron export": Exempt("reads files and the state database"),
    "cron add": Exempt("writes to the state database, which is never a read-only connection"),
    "cron remove": Exempt("writes to the state database, which is never a read-only connection"),
    "cron enable": Exempt("writes to the state database, which is never a read-only connection"),
    "cron disable": Exempt("writes to the state database, which is never a read-only connection"),
    "cron import": Exempt("writes to the state database, which is never a read-only connection"),
    "cron run": Exempt("runs the profile's own programs; its statements go through the guarded services"),
    "cron run-daemon": Exempt(
        "runs the profile's own programs; its statements go through the guarded services"
    ),
    "shutdown-test run": Reads("shutdown-test -c main -- true", ("postgresql", "mysql", "redis"), code=1),
    "ws serve": Exempt("serves Socket.IO, which keeps no data; it refuses to share a read-only Redis"),
    "ws emit": Exempt("talks to katax's own server, which keeps no data"),
    "ws listen": Exempt("talks to katax's own server, which keeps no data"),
    "ws expect": Exempt("talks to katax's own server, which keeps no data"),
    "ws clients": Exempt("talks to katax's own server, which keeps no data"),
    "ws rooms": Exempt("talks to katax's own server, which keeps no data"),
    "ws kick": Exempt("talks to katax's own server, which keeps no data"),
    "ws doctor": Exempt("talks to katax's own server, which keeps no data"),
    "dashboard show": Reads("dashboard --once", ALL),
    "circuit ls": Exempt("reads the state database, no server's data"),
    "circuit trip": Exempt("writes to the state database, which is never a read-only connection"),
    "circuit reset": Exempt("writes to the state database, which is never a read-only connection"),
    "circuit disable": Exempt("writes to the state database, which is never a read-only connection"),
    "cache get": Reads("cache get -c main kept", ("redis",)),
    "cache set": Writes("cache set -c main kept 2", ("redis",)),
    "cache del": Writes("cache del -c main kept", ("redis",)),
    "cache exists": Reads("cache exists -c main kept", ("redis",)),
    "cache ttl": Reads("cache ttl -c main kept", ("redis",)),
    "cache expire": Writes("cache expire -c main kept 60s", ("redis",)),
    "cache clear": Writes("cache clear -c main -y kept*", ("redis",)),
    "cache persist": Writes("cache persist -c main cache:kept:1", ("redis",)),
    "cache incr": Writes("cache incr -c main kept", ("redis",)),
    "cache decr": Writes("cache decr -c main kept", ("redis",)),
    "cache mget": Reads("cache mget -c main kept", ("redis",)),
    "cache mset": Writes("cache mset -c main kept=2", ("redis",)),
    "cache scan": Reads("cache scan -c main", ("redis",)),
    "cache invalidate": Writes("cache invalidate -c main kept", ("redis",)),
    "cache flush": Writes("cache flush -c main -y", ("redis",)),
    "cache export": Reads("cache export -q -c main", ("redis",)),
    "cache import": Writes("cache import -c main -y --replace kept.jsonl", ("redis",)),
    "cache stats": Reads("cache stats -c main", ("redis",)),
    "cache doctor": Reads("cache doctor -q -c main", ("redis",)),
    "cache remember": Writes("cache remember -c main --ttl 60s new -- echo 2", ("redis",)),
    "cache acl": Reads("cache acl -c main", ("redis",)),
    "cache cmd": Writes("cache cmd -c main set kept 2", ("redis",)),
    "session create": Writes("session create -c main {}", ("redis",)),
    "session set": Writes("session set -c main s {}", ("redis",)),
    "session get": Reads("session get -c main kept", ("redis",)),
    "session update": Writes('session update -c main kept|{"b":2}', ("redis",)),
    "session touch": Writes("session touch -c main lasting", ("redis",)),
    "session destroy": Writes("session destroy -c main kept", ("redis",)),
    "session list": Reads("session list -c main ada", ("redis",)),
    "session revoke": Writes("session revoke -c main ada", ("redis",)),
    "pubsub publish": Exempt("a message is no data; the guard refuses PUBLISH all the same, see below"),
    "pubsub subscribe": Exempt("reads, and waits for ever"),
    "record create": Writes('record create -c main r|{"id":1}', ("redis",)),
    "record update": Writes('record update -c main session|{"id":"kept","b":2}', ("redis",)),
    "record save": Writes('record save -c main r|{"id":1}', ("redis",)),
    "record get": Reads("record get -c main session kept", ("redis",)),
    "record load": Reads("record load -c main session kept", ("redis",)),
    "record delete": Writes("record delete -c main session kept", ("redis",)),
    "record pick": Writes("record pick -c main session kept", ("redis",)),
    "record list": Reads("record list -c main session", ("redis",)),
    "record key": Reads("record key -c main session", ("redis",)),
    "record count": Reads("record count -c main session", ("redis",)),
    "record purge": Writes("record purge -c main -y session", ("redis",)),
    "record watch": Exempt("reads, and waits for ever"),
    "record publish": Exempt("a message is no data; the guard refuses PUBLISH all the same, see below"),
    "record subscribe": Exempt("reads, and waits for ever"),
    "lock run": Writes("lock run -c main job --wait 0 -- touch ran", ("redis",)),
    "lock ls": Reads("lock ls -c main job", ("redis", "postgresql", "mysql")),
    "lock release": Writes("lock release -c main kept", ("redis",)),
    "limit check": Writes("limit check -c main k", ("redis",)),
    "limit consume": Writes("limit consume -c main k 2", ("redis",)),
    "limit reset": Writes("limit reset -c main kept", ("redis",)),
    "profile list": Exempt("reads files"),
    "profile show": Exempt("reads files"),
    "profile check": Exempt("reads files, and connects at the most"),
    "profile init": Exempt("writes a new file of the project, no server's data"),
    "profile schema": Exempt("prints a constant"),
    "profile use": Exempt("writes a file of the project, no server's data"),
    "profile add": Exempt("writes new files of the project, no server's data"),
    "profile trust": Exempt("writes the user's own list of approvals"),
    "migrate up": Writes("migrate up -y", SQL),
    "migrate run": Writes("migrate run -y 001", SQL),
    "migrate baseline": Writes("migrate baseline -y 001", SQL),
    "migrate down": Reads("migrate down -y", SQL, code=4),
    "migrate redo": Reads("migrate redo -y", SQL, code=4),
    "migrate resume": Reads("migrate resume -y", SQL, code=4),
    "migrate status": Reads("migrate status", SQL),
    "migrate check": Reads("migrate check", SQL, code=1),
    "migrate repair": Reads("migrate repair -y", SQL),
    "migrate unlock": Reads("migrate unlock -y", SQL, code=4),
    "migrate plan": Reads("migrate plan", SQL, code=4),
    "migrate verify": Reads("migrate verify", SQL, code=4),
    "migrate load": Reads("migrate load -y nothing", SQL, code=2),
    "migrate dump": Exempt("writes a file of the project from what it reads"),
    "migrate rehearse": Exempt("works on a database of its own, which it makes and drops"),
    "migrate wait": Reads("migrate wait --timeout 60s", SQL),
    "migrate create": Exempt("writes a new file of the project, no server's data"),
    "completion show": Exempt("prints a script"),
    "completion values": Exempt("asks servers for names by reads alone"),
    "help show": Exempt("prints help"),
    "options list": Exempt("prints a constant"),
    "version print": Exempt("prints a constant"),
    "completion install": Exempt("writes a file of the user's shell"),
    "local status": Exempt("is about the built-in profile, which is never read-only"),
    "local stop": Exempt("is about the built-in profile, which is never read-only"),
}


def unknown(commands: Iterable[str]) -> set[str]:
    """Commands that nobody has thought about yet."""
    return set(commands) - set(COMMANDS)


def test_the_table_knows_every_command() -> None:
    assert unknown(command_names()) == set()
    assert set(COMMANDS) - set(command_names()) == set()


def test_a_later_command_would_be_caught() -> None:
    assert unknown([*command_names(), "db melt"]) == {"db melt"}


ROLES = {"frozen": "frozen", "read_only": "dev"}
"""The two ways to protect a connection, which are one setting of it: the cases take turns with them."""


def cases(kind: type[Writes] | type[Reads]) -> list[Any]:
    """Every command on each of its engines, with its case and a way to protect."""
    return [
        pytest.param(engine, case, list(ROLES)[(number + place) % 2], id=f"{name.replace(' ', '-')}-{engine}")
        for number, (name, case) in enumerate(COMMANDS.items())
        if isinstance(case, kind)
        for place, engine in enumerate(case.on)
    ]


def _split(words: str) -> list[str]:
    options, _, last = words.partition("|")
    return [*options.split(), *([last] if last else [])]


@pytest.fixture(params=ROLES)
def protected(request: pytest.FixtureRequest) -> str:
    """The two ways to say it."""
    return str(request.param)


@pytest.fixture(scope="module")
def unharmed(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Witness]]:
    """One database of each engine that nothing may change, so that all attempts can share it."""
    with ExitStack() as databases:

        @cache
        def make(engine: str) -> Witness:
            if engine == "sqlite":
                file = tmp_path_factory.mktemp("unharmed") / "kept.db"
                server = Server(engine="sqlite", url=f"sqlite:///{file}", version="", source="")
                return witness_of(Target("sqlite", server.url, server))
            server = fleet.shared(engine)
            return witness_of(Target(engine, databases.enter_context(fresh_database(server)), server))

        yield make


SEED = """
def seed(db):
    if hasattr(db, "command"):
        db.command({"insert": "kept", "documents": [{"_id": 2}]})
    else:
        db.execute("insert into kept values (2)")
"""


def profile(folder: Path, target: Target, protected: str) -> None:
    """A profile with one connection, `main`, a pending migration and a seed; `writable` protects nothing."""
    seeds = folder / "seeds"
    seeds.mkdir(exist_ok=True)
    (seeds / "more.py").write_text(SEED)
    migrations = folder / "migrations"
    migrations.mkdir(exist_ok=True)
    (migrations / "001_more.sql").write_text(
        "-- UP\ninsert into kept values (2);\n-- DOWN\ndelete from kept where n = 2;\n"
    )
    (folder / "rows.csv").write_text("n\n2\n")
    (folder / "kept.jsonl").write_text('{"key":"kept","ttl_ms":null,"dump":"AMACCQBfUOFwrFIdeg=="}\n')
    with closing(sqlite3.connect(folder / "beside.db")) as beside:
        beside.executescript("create table if not exists more (n integer); insert into more values (2)")
    file = write_profile(
        folder,
        {"beside": "sqlite:///beside.db", "main": target.url},
        role=ROLES.get(protected, "dev"),
        extra=CALM,
        connect_timeout=SECONDS,
    )
    if protected == "read_only":
        file.write_text(file.read_text() + "read_only = true\n")


def test_both_ways_to_protect_are_one_setting(engine: Target, tmp_path: Path) -> None:
    found = []
    for protected in ROLES:
        profile(tmp_path, engine, protected)
        found.append(load_profile(None).connection("main"))

    assert found[0] == found[1]
    assert found[0].read_only


@pytest.mark.parametrize(("engine", "case", "protected"), cases(Writes))
def test_a_command_that_writes_is_refused(
    engine: str, case: Writes, protected: str, unharmed: Callable[[str], Witness], tmp_path: Path
) -> None:
    witness = unharmed(engine)
    before = witness.content()
    profile(tmp_path, witness.target, protected)

    done = katax(*_split(case.words))

    assert witness.content() == before
    assert (done.code, done.stdout) == (4, b"")
    assert done.err.splitlines()[-1].startswith("katax: refused: 'main' is read-only")


@pytest.mark.parametrize(("engine", "case", "_protected"), cases(Writes))
def test_it_writes_where_it_may(
    engine: str, case: Writes, _protected: str, fresh: MakeFresh, tmp_path: Path
) -> None:
    """The bad twin: without the guard the same words change the data."""
    witness = seen(fresh, engine)
    before = witness.content()
    profile(tmp_path, witness.target, "writable")

    done = katax(*_split(case.words))

    assert (done.code, witness.content() != before) == (0, True)


@pytest.mark.parametrize(("engine", "case", "protected"), cases(Reads))
def test_a_command_that_reads_works(
    engine: str, case: Reads, protected: str, unharmed: Callable[[str], Witness], tmp_path: Path
) -> None:
    witness = unharmed(engine)
    before = witness.content()
    profile(tmp_path, witness.target, protected)

    done = katax(*_split(case.words))

    assert done.code == case.code, done.err
    assert witness.content() == before


def seen(fresh: MakeFresh, engine: str) -> Witness:
    return witness_of(fresh(engine))


INSERT = "insert into kept values (2)"

BYPASSES: dict[str, tuple[str, ...]] = {
    "postgresql": (
        f"begin read write; {INSERT}; commit",
        f"set session characteristics as transaction read write; {INSERT}",
        f"set default_transaction_read_only = off; {INSERT}",
        f"set transaction_read_only = off; {INSERT}",
        f"begin; set transaction read write; {INSERT}; commit",
        f"reset all; {INSERT}",
        f"discard all; {INSERT}",
        f"start transaction; {INSERT}; commit",
        f"select 1; {INSERT}",
        "with w as (insert into kept values (2) returning n) select n from w",
        "select n into other from kept",
        "copy kept from program 'echo 2'",
        "do $$ begin insert into kept values (2); end $$",
        f"prepare p as {INSERT}; execute p",
        f"explain analyze {INSERT}",
        "select writes()",
        "select nextval('counter')",
        "create table other as select 1",
        "drop table kept",
        "truncate kept",
        "/* select */ delete from kept",
    ),
    "mysql": (
        f"start transaction read write; {INSERT}; commit",
        f"set session transaction read write; {INSERT}",
        f"set transaction read write; {INSERT}",
        f"select 1; {INSERT}",
        f"/*! {INSERT} */",
        f"/*!50000 {INSERT} */",
        f"prepare p from '{INSERT}'; execute p",
        "set global max_error_count = 77",
        "select writes()",
        "call writing()",
        f"lock tables kept write; {INSERT}; unlock tables",
        "create table other as select 1",
        "drop table kept",
        "truncate kept",
        "replace into kept values (2)",
    ),
    "sqlite": (
        f"pragma query_only = off; {INSERT}",
        f"begin; {INSERT}; commit",
        f"select 1; {INSERT}",
        "attach 'other.db' as other; create table other.t (a)",
        "vacuum into 'copy.db'",
        "pragma user_version = 7",
        "with w as (select 2 as n) insert into kept select n from w",
        "replace into kept values (2)",
        "create table other (a)",
        "drop table kept",
        "delete from kept",
    ),
}
MARIADB_ONLY = (
    f"execute immediate '{INSERT}'",
    f"begin not atomic {INSERT}; end",
    f"analyze {INSERT}",
    f"/*M! {INSERT} */",
)

sql_bypasses = pytest.mark.parametrize(
    ("engine", "sql"), [(engine, sql) for engine, all in BYPASSES.items() for sql in all]
)


@sql_bypasses
def test_a_bypass_is_refused_by_every_way_there_is(
    engine: str, sql: str, unharmed: Callable[[str], Witness], tmp_path: Path
) -> None:
    witness = unharmed(engine)
    before = witness.content()
    profile(tmp_path, witness.target, "frozen")

    assert refused_by(witness, sql) == {
        "db exec": True,
        "db exec in one": True,
        "db query": True,
        "run": True,
        "stream": True,
        "execute_many": True,
        "transaction": True,
        "session": True,
    }
    assert witness.content() == before


@sql_bypasses
def test_the_bypass_writes_where_it_may(engine: str, sql: str, fresh: MakeFresh, tmp_path: Path) -> None:
    """The bad twin: what the list holds are attempts to write, every one."""
    writes_where_it_may(seen(fresh, engine), sql, tmp_path)


@pytest.mark.parametrize("sql", MARIADB_ONLY)
def test_what_only_mariadb_runs_is_refused(
    sql: str, mariadb: Server, fresh: MakeFresh, tmp_path: Path
) -> None:
    witness = witness_of(fresh(mariadb))
    before = witness.content()
    profile(tmp_path, witness.target, "frozen")

    assert set(refused_by(witness, sql).values()) == {True}
    assert witness.content() == before

    writes_where_it_may(witness, sql, tmp_path)


def test_a_setting_made_by_a_function_is_held_by_the_server(
    unharmed: Callable[[str], Witness], tmp_path: Path
) -> None:
    """It reads by its looks, so the server has the last word."""
    witness = unharmed("postgresql")
    before = witness.content()
    profile(tmp_path, witness.target, "frozen")
    sql = f"select set_config('transaction_read_only', 'off', false); {INSERT}"

    assert katax("db", "exec", sql).code != 0
    assert katax("db", "exec", "--single-transaction", sql).code != 0
    assert katax("db", "exec", sql.replace("transaction_", "default_transaction_")).code == 4
    assert witness.content() == before


def writes_where_it_may(witness: Witness, sql: str, folder: Path) -> None:
    before = witness.content()
    profile(folder, witness.target, "writable")
    try:
        done = katax("db", "exec", "-y", sql)
        assert (done.code, witness.content() != before) == (0, True)
    finally:
        if "global" in sql:
            katax("db", "exec", "set global max_error_count = default")


def refused_by(witness: Witness, sql: str) -> dict[str, bool]:
    """Each way to run SQL, and whether it was refused before the end."""
    with Runtime(load_profile(None)) as runtime:
        database = runtime.database("main")
        assert isinstance(database, SqlDatabase)
        return {
            "db exec": katax("db", "exec", "-y", sql).code == 4,
            "db exec in one": katax("db", "exec", "-y", "--single-transaction", sql).code == 4,
            "db query": katax("db", "query", "-y", sql).code == 4,
            "run": is_refused(lambda: database.run(sql)),
            "stream": is_refused(lambda: streamed(database, sql)),
            "execute_many": is_refused(lambda: database.execute_many(sql, [()])),
            "transaction": is_refused(lambda: in_transaction(database, sql)),
            "session": is_refused(lambda: in_session(database, sql)),
        }


def is_refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except Refused:
        return True
    except KataxError as error:
        pytest.fail(f"refused, but as {type(error).__name__}: {error}")
    return False


def streamed(database: SqlDatabase, sql: str) -> None:
    with database.stream(sql) as rows:
        list(rows)


def in_transaction(database: SqlDatabase, sql: str) -> None:
    with database.transaction() as transaction:
        for statement in sql.split("; "):
            transaction.run(statement)


def in_session(database: SqlDatabase, sql: str) -> None:
    with database.session() as session:
        for statement in sql.split("; "):
            session.run(statement)


REDIS_WRITES: tuple[tuple[str, ...], ...] = (
    ("SET", "kept", "2"),
    ("set", "kept", "2"),
    ("EVAL", "return redis.call('set', 'kept', '2')", "0"),
    ("GETDEL", "kept"),
    ("GETEX", "kept", "EX", "60"),
    ("GETSET", "kept", "2"),
    ("SORT", "numbers", "STORE", "other"),
    ("BITFIELD", "kept", "SET", "u8", "0", "65"),
    ("RENAME", "kept", "other"),
    ("COPY", "kept", "other"),
    ("RESTORE", "other", "0", "\x00"),
    ("FLUSHDB",),
    ("FLUSHALL",),
    ("SWAPDB", "0", "1"),
    ("UNLINK", "kept"),
    ("PERSIST", "kept"),
)


@pytest.mark.parametrize("words", REDIS_WRITES, ids=" ".join)
def test_redis_refuses_by_the_api_too(
    words: tuple[str, ...], unharmed: Callable[[str], Witness], tmp_path: Path
) -> None:
    witness = unharmed("redis")
    before = witness.content()
    profile(tmp_path, witness.target, "frozen")

    with Runtime(load_profile(None)) as runtime:
        database = runtime.database("main")
        assert isinstance(database, RedisDatabase)
        assert is_refused(lambda: database.redis(*words))
        assert database.redis("GET", "kept") == b"1"

    assert witness.content() == before


@pytest.mark.parametrize("words", REDIS_WRITES[:8], ids=" ".join)
def test_redis_obeys_where_it_may(words: tuple[str, ...], fresh: MakeFresh, tmp_path: Path) -> None:
    witness = seen(fresh, "redis")
    before = witness.content()
    profile(tmp_path, witness.target, "writable")

    with Runtime(load_profile(None)) as runtime:
        database = runtime.database("main")
        assert isinstance(database, RedisDatabase)
        database.redis(*words)

    assert witness.content() != before


MONGO_WRITES: tuple[dict[str, Any], ...] = (
    {"insert": "kept", "documents": [{"_id": 2}]},
    {"update": "kept", "updates": [{"q": {}, "u": {"$set": {"n": 2}}}]},
    {"delete": "kept", "deletes": [{"q": {}, "limit": 0}]},
    {"findAndModify": "kept", "query": {}, "update": {"$set": {"n": 2}}},
    {"drop": "kept"},
    {"create": "other"},
    {"aggregate": "kept", "pipeline": [{"$out": "other"}], "cursor": {}},
    {"aggregate": "kept", "pipeline": [{"$merge": {"into": "other"}}], "cursor": {}},
    {"mapReduce": "kept", "map": "function(){}", "reduce": "function(){}", "out": "other"},
    {"renameCollection": "db.kept", "to": "db.other"},
    {"dropDatabase": 1},
    {"explain": {"insert": "kept", "documents": [{"_id": 2}]}},
)
EMULATED = 6
"""So many of them the emulator obeys; the others are real only on a mongod."""


@pytest.mark.parametrize("spec", MONGO_WRITES, ids=lambda spec: next(iter(spec)))
def test_mongodb_refuses_by_the_api(
    spec: dict[str, Any], unharmed: Callable[[str], Witness], tmp_path: Path
) -> None:
    witness = unharmed("mongodb")
    before = witness.content()
    profile(tmp_path, witness.target, "frozen")

    with Runtime(load_profile(None)) as runtime:
        database = runtime.database("main")
        assert isinstance(database, MongoDatabase)
        assert is_refused(lambda: database.command(spec))
        assert database.command({"count": "kept"})["n"] == 1

    assert witness.content() == before


@pytest.mark.parametrize("spec", MONGO_WRITES[:EMULATED], ids=lambda spec: next(iter(spec)))
def test_mongodb_obeys_where_it_may(spec: dict[str, Any], fresh: MakeFresh, tmp_path: Path) -> None:
    witness = seen(fresh, "mongodb")
    before = witness.content()
    profile(tmp_path, witness.target, "writable")

    with Runtime(load_profile(None)) as runtime:
        database = runtime.database("main")
        assert isinstance(database, MongoDatabase)
        database.command(spec)

    assert witness.content() != before


def test_the_drivers_own_client_is_not_handed_out(engine: Target, protected: str, tmp_path: Path) -> None:
    """What bypasses katax cannot be guarded by katax."""
    profile(tmp_path, engine, protected)

    with Runtime(load_profile(None)) as runtime:
        database = runtime.database("main")
        assert isinstance(database, SqlDatabase | RedisDatabase | MongoDatabase)
        assert is_refused(database.get_client)
        if isinstance(database, SqlDatabase):
            with database.session() as session:
                assert is_refused(lambda: session.connection)


class Kept(Model):
    """The table of the witness."""

    __tablename__ = "kept"

    n: Mapped[int] = Column(primary_key=True)


def _by_models(database: SqlDatabase) -> list[Callable[[], object]]:
    kept = Kept.on(database)
    [row] = kept
    return [
        lambda: kept.create(n=2),
        lambda: kept.create_many([{"n": 3}, {"n": 4}]),
        lambda: database.table("kept").create_many([{"n": 5}, {"n": 6}]),
        lambda: kept.update({"n": 7}, everywhere=True),
        lambda: row.update(n=8),
        lambda: database.transaction(lambda trx: Kept.on(trx).create(n=9)),
        lambda: kept.where("n", ">", 0).delete(),
        row.delete,
    ]


@pytest.mark.parametrize("name", SQL)
def test_models_are_refused(
    name: str, protected: str, unharmed: Callable[[str], Witness], tmp_path: Path
) -> None:
    witness = unharmed(name)
    before = witness.content()
    profile(tmp_path, witness.target, protected)

    with Runtime(load_profile(None)) as runtime:
        database = runtime.database("main")
        assert isinstance(database, SqlDatabase)
        assert [is_refused(call) for call in _by_models(database)] == [True] * 8

    assert witness.content() == before


@pytest.mark.parametrize("name", SQL)
def test_models_write_where_they_may(name: str, fresh: MakeFresh, tmp_path: Path) -> None:
    """The bad twin."""
    for number in range(7):
        witness = witness_of(fresh(name))
        before = witness.content()
        profile(tmp_path, witness.target, "")
        with Runtime(load_profile(None)) as runtime:
            database = runtime.database("main")
            assert isinstance(database, SqlDatabase)
            _by_models(database)[number]()
        assert witness.content() != before


def test_messages_are_not_sent_on_a_read_only_profile(
    protected: str, fresh: MakeFresh, tmp_path: Path
) -> None:
    profile(tmp_path, fresh("redis"), protected)
    for words in (
        ["pubsub", "publish", "-c", "main", "a", "1"],
        ["record", "publish", "-c", "main", "a", "1"],
    ):
        assert katax(*words).code == 4
