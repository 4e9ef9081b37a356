"""What people get wrong, and what is wrong with servers: one line that helps, and the right exit code."""

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from katax_cli.cli.shell.target import ANY
from katax_cli.core.engine_names import ENGINE_NAMES
from tests.cli.harness import Done, katax, write_profile
from tests.cli.processes import spawn
from tests.profiles.conftest import make_foreign
from tests.servers import PASSWORDS, Server
from tests.servers.certificates import Certificates
from tests.servers.fixtures import MakeFresh, MakeProxy, Target

NETWORKED = ("postgresql", "mysql", "mongodb", "redis")
WITH_PASSWORD = ("postgresql", "mysql", "redis")


def failed(done: Done, code: int, *texts: str) -> None:
    """It failed with this code, one line that holds the texts, and nothing on stdout."""
    assert (done.code, done.stdout, done.err.count("\n")) == (code, b"", 1), done.err
    assert done.err.startswith("katax: ")
    assert not [text for text in texts if text not in done.err], done.err


def connection(folder: Path, toml: str, *, role: str = 'role = "dev"', name: str = "test") -> Path:
    """A profile whose connection `main` has these keys."""
    file = folder / "profiles" / f"{name}.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{role}\n\n[connections.main]\n{toml}\n")
    return file


def test_no_such_profile(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"}, name="prod")
    write_profile(tmp_path, {"main": "sqlite:///x.db"}, name="dev")

    failed(
        katax("-p", "prdo", "health"),
        2,
        "no profile named 'prdo'; did you mean 'prod'? known profiles: dev, prod",
    )


def test_no_such_connection(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db", "other": "sqlite:///y.db"})

    wanted = (
        "no connection named 'mian'; did you mean 'main'? known connections of profile 'test': main, other"
    )
    failed(katax("db", "ping", "-c", "mian"), 2, wanted)
    failed(katax("health", "mian"), 2, wanted)
    failed(
        katax("health", "nothing*"), 2, "no connection named 'nothing*'; known connections of profile 'test'"
    )


def test_several_profiles_and_none_chosen(tmp_path: Path) -> None:
    for name in ("blue", "green"):
        write_profile(tmp_path, {"main": "sqlite:///x.db"}, name=name)

    failed(katax("health"), 2, "blue", "green", "--profile")


def test_broken_toml(tmp_path: Path) -> None:
    file = connection(tmp_path, 'url = "sqlite:///x.db')

    failed(katax("health"), 2, f"{file}:4", "not valid TOML")


def test_an_unknown_key(tmp_path: Path) -> None:
    file = connection(tmp_path, 'url = "sqlite:///x.db"\nread_olny = true')

    failed(katax("health"), 2, f"{file}:5", "read_olny", "read_only")


def test_a_missing_role(tmp_path: Path) -> None:
    connection(tmp_path, 'url = "sqlite:///x.db"', role="")

    failed(katax("health"), 2, "role", "dev", "frozen")


def test_a_missing_environment_variable(tmp_path: Path) -> None:
    file = connection(tmp_path, 'url = "${env:NOT_THERE}"')

    failed(katax("health"), 2, f"{file}:4", "NOT_THERE")


@pytest.mark.parametrize("name", WITH_PASSWORD)
@pytest.mark.parametrize(
    "words", [("db", "ping"), ("db", "query", "select 1"), ("profile", "check", "--connect")]
)
def test_a_wrong_password_is_tried_once(
    name: str, words: tuple[str, ...], fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    """A second attempt would lock accounts twice as fast."""
    if name == "redis" and words[:2] == ("db", "query"):
        words = ("cache", "get", "-c", "main", "k")
    door = proxy(fresh(name))
    said: list[bytes] = []
    door.on_client_bytes(said.append)
    write_profile(tmp_path, {"main": door.url.replace(PASSWORDS[name], "wr0ng-s3cret")})

    done = katax(*words)

    assert done.code == 2
    assert "'main' refused the login" in done.err + done.out
    assert "check its user and password" in done.err + done.out
    assert "wr0ng-s3cret" not in done.err + done.out
    assert door.connections == 1
    assert b"".join(said).count(b"wr0ng-s3cret") <= 1


@pytest.mark.parametrize("name", NETWORKED)
def test_an_unknown_host(name: str, tmp_path: Path) -> None:
    write_profile(
        tmp_path, {"main": f"{name}://katax.invalid/x" if name != "redis" else "redis://katax.invalid/0"}
    )

    failed(katax("db", "ping"), 3, "'main' is not available", "katax.invalid")


@pytest.mark.parametrize("name", NETWORKED)
def test_a_refused_port(name: str, closed_port: int, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": url_of(name, closed_port)})

    failed(katax("db", "ping"), 3, "'main' is not available", f"127.0.0.1:{closed_port}")


@pytest.mark.parametrize("name", NETWORKED)
@pytest.mark.parametrize("port", ["deaf_port", "unreachable_port"])
def test_a_port_that_says_nothing(
    name: str, port: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Ends because of --timeout: without it, the test would run into its own limit."""
    write_profile(tmp_path, {"main": url_of(name, request.getfixturevalue(port))})

    done = katax("db", "ping", "--timeout", "300ms", "-f", "json")

    assert done.code == 3, done.err
    assert '"exit": 3' in done.err
    assert "'main'" in done.err


@pytest.mark.parametrize("name", WITH_PASSWORD)
def test_a_server_without_tls_where_tls_is_wanted(name: str, fresh: MakeFresh, tmp_path: Path) -> None:
    connection(tmp_path, f'url = "{fresh(name).url}"\ntls = {{ mode = "require" }}')

    done = katax("db", "ping")

    assert done.code in (2, 3), done.err
    assert "'main'" in done.err
    assert any(word in done.err.lower() for word in ("tls", "ssl")), done.err
    assert PASSWORDS[name] not in done.err


@pytest.mark.parametrize("name", WITH_PASSWORD)
def test_a_server_with_tls_only_where_none_is_wanted(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(f"tls_{name}")
    connection(tmp_path, f'url = "{plain(server.url)}"\ntls = {{ mode = "disable" }}')

    done = katax("db", "ping", "--timeout", "5s")

    assert done.code in (2, 3), done.err
    assert "'main'" in done.err


@pytest.mark.parametrize("name", WITH_PASSWORD)
def test_a_certificate_of_somebody_else(
    name: str, certificates: Certificates, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """verify-full without the authority that signed: not trusted; with it: the ping works."""
    server: Server = request.getfixturevalue(f"tls_{name}")
    url = plain(server.url).replace("127.0.0.1", "localhost")
    connection(tmp_path, f'url = "{url}"\ntls = {{ mode = "verify-full" }}')
    done = katax("db", "ping")
    assert done.code in (2, 3), done.err
    assert "certificate" in done.err.lower()

    connection(tmp_path, f'url = "{url}"\ntls = {{ mode = "verify-full", ca = "{certificates.ca}" }}')
    assert katax("db", "ping").code == 0


def plain(url: str) -> str:
    """The URL without what it says about TLS."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(scheme=parts.scheme.replace("rediss", "redis"), query=""))


def url_of(name: str, port: int) -> str:
    return f"{name}://katax:x@127.0.0.1:{port}/{0 if name == 'redis' else 'katax'}"


ABILITIES = {
    "db query": ("SQL", ("postgresql", "mysql", "sqlite"), ("select 1",)),
    "db exec": ("SQL", ("postgresql", "mysql", "sqlite"), ("select 1",)),
    "db tables": ("tables", ("postgresql", "mysql", "sqlite", "mongodb"), ()),
    "db describe": ("tables", ("postgresql", "mysql", "sqlite", "mongodb"), ("t",)),
    "db slow": ("list of slow queries", ("postgresql", "mysql", "mongodb", "redis"), ()),
    "cache get": ("Redis commands", ("redis",), ("k",)),
    "cache clear": ("Redis commands", ("redis",), ("k*",)),
}


@pytest.mark.parametrize("command", ABILITIES)
def test_an_engine_without_the_ability(command: str, tmp_path: Path) -> None:
    """Said before anybody connects: these servers do not exist."""
    lacks, works_on, words = ABILITIES[command]
    for name in ANY.types:
        if name in works_on:
            continue
        url = "sqlite:///x.db" if name == "sqlite" else url_of(name, 1)
        write_profile(tmp_path, {"main": url})
        message = f"{name} has no {lacks}; {command!r} works on {', '.join(works_on)}"
        failed(katax(*command.split(), "-c", "main", *words), 2, message)


def test_every_engine_is_asked_for_its_abilities() -> None:
    assert set(ANY.types) == set(ENGINE_NAMES)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "[1, -Infinity]", '{"a": NaN}', "1e999"])
def test_what_json_cannot_hold_is_no_value(value: str, redis_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"cache": redis_url})

    failed(katax("cache", "set", "k", value), 2, "JSON")
    assert katax("cache", "exists", "k").code == 1


@pytest.mark.parametrize(
    ("format", "nothing"),
    [
        ("table", b"a  b\n-  -\n"),
        ("csv", b"a,b\n"),
        ("tsv", b"a\tb\n"),
        ("json", b"[]\n"),
        ("jsonl", b""),
    ],
)
def test_an_empty_result_keeps_its_header(
    format: str, nothing: bytes, sql_engine: Target, tmp_path: Path
) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})

    done = katax("db", "query", "select 1 as a, 2 as b from (select 1 as x) as t where x = 2", "-f", format)

    assert (done.code, done.stdout, done.err) == (0, nothing, "")


@pytest.mark.parametrize("path", ["missing/out.csv", "."])
def test_a_file_that_cannot_be_written_stops_the_command_before_it_runs(
    path: str, redis_url: str, tmp_path: Path
) -> None:
    write_profile(tmp_path, {"cache": redis_url})

    failed(katax("cache", "set", "k", "1", "-o", path), 2, f"cannot write {path!r}", "-o")
    assert katax("cache", "exists", "k").code == 1


def test_a_failed_command_leaves_no_file(tmp_path: Path) -> None:
    """Neither a half one nor a lost old one."""
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    kept = tmp_path / "kept.csv"
    kept.write_text("old")
    fails_late = (
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) "
        "select abs(case i when 4000 then -9223372036854775808 else i end) from n"
    )

    for file in (kept, tmp_path / "new.csv"):
        assert katax("db", "query", fails_late, "-f", "csv", "-o", str(file)).code == 1

    assert kept.read_text() == "old"
    assert sorted(each.name for each in tmp_path.glob("*.csv*")) == ["kept.csv"]


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})

    failed(
        katax("db", "query", "select 1", "-o", "/dev/full"),
        1,
        "cannot write the output: No space left on device; the output is incomplete",
    )


def test_a_full_disk_behind_stdout_or_stderr_hides_neither_the_error_nor_the_code(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    full = "katax: cannot write the output: No space left on device; the output is incomplete\n"
    for words, code, said in (
        (("--help",), 1, full),
        (("db", "query", "--help"), 1, full),
        (("db", "query", "select 1"), 1, full),
        (("health", "nowhere"), 2, "katax: no connection named 'nowhere'"),
    ):
        with open("/dev/full", "wb") as device:
            to_full = spawn(*words, stdout=device)
            assert to_full.communicate()[1].decode().startswith(said)
            assert to_full.returncode == code
    with open("/dev/full", "wb") as device:
        mute = spawn("health", "nowhere", stderr=device)
        mute.communicate()
        assert mute.returncode == 2


def test_a_database_that_is_full_is_said(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    katax("db", "exec", "create table t (a text)")
    script = (
        "insert into t values ('a');\npragma max_page_count = 3;\ninsert into t select hex(zeroblob(200000))"
    )

    for words, first in (
        ((), "2 of 3 statements succeeded before it"),
        (("--single-transaction",), "all of it was rolled back"),
    ):
        done = katax("db", "exec", script, *words)
        assert (done.code, done.err) == (
            1,
            f"line 3 failed; {first}\nkatax: 'main' refused the statement: database or disk is full (SQLITE_FULL)\n",
        )


def test_a_profile_of_somebody_else_is_not_trusted(tmp_path: Path) -> None:
    """Asked for, it is refused; found only, it is passed over with a note."""
    file = write_profile(tmp_path, {"main": "sqlite:///x.db"})
    reason = make_foreign(str(file))

    failed(katax("-p", "test", "health"), 4, "refused: ", str(file), reason)


def test_a_file_of_arguments_that_is_not_there(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})

    failed(katax("db", "query", "@nowhere.sql"), 2, "cannot read 'nowhere.sql': No such file or directory")
    failed(katax("db", "query", "--file", "nowhere.sql"), 2, "cannot read 'nowhere.sql'")
    failed(katax("db", "query"), 2, "give the SQL as an argument or with --file, one of the two")
    failed(katax("db", "query", "select 1", "--file", "x"), 2, "one of the two")


def test_values_and_names_do_not_mix(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})

    failed(
        katax("db", "query", "select ?", "1", "--param", "a=1"), 2, "positional values or --param, not both"
    )
    failed(katax("db", "query", "select :a", "--param", "a"), 2, "--param 'a' has no value; write NAME=VALUE")


@pytest.mark.parametrize("seconds", ["0", "0ms", "-1", "soon", "1_0"])
def test_a_timeout_that_is_none(seconds: str) -> None:
    failed(katax("health", f"--timeout={seconds}"), 2, "--timeout", seconds)


def test_a_query_error_is_one_line_and_the_place_where_the_server_names_it(
    sql_engine: Target, tmp_path: Path
) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})

    done = katax("db", "query", "selekt 1")

    sentence, *place = done.err.splitlines()
    assert place == ([] if sql_engine.engine == "sqlite" else ["LINE 1: selekt 1", "        ^"])
    failed(Done(done.code, done.stdout, sentence + "\n"), 1, "'main' refused the statement: ", "selekt")
