"""Promise 1: no command prints, logs, or passes in any argv a secret of a profile.

Every command of the tree runs in every format on servers that work, refuse, hang or reject the login; the secrets
are recognisable, and nobody may find them in what came out. Mostly under --debug, which adds to what is said without.
"""

import io
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from katax_cli.cli.health import views
from katax_cli.cli.shell.output import FORMATS
from tests.cli.harness import command_names, katax, write_profile
from tests.cli.processes import spawn
from tests.servers import PASSWORDS, Server

# Each comes into the profile by another way, and each has a part that would survive URL quoting.
IN_URL, IN_KEY, IN_ENV, IN_DOTENV, IN_FILE, FROM_COMMAND, IN_OPTION = (
    f"hush{word}hush" for word in ("url", "key", "env", "dotenv", "file", "command", "option")
)
SECRETS = (IN_URL, IN_KEY, IN_ENV, IN_DOTENV, IN_FILE, FROM_COMMAND, IN_OPTION, *PASSWORDS.values())

COMMANDS: Mapping[str, str] = {
    "health check": "health --verbose",
    "health serve": "health serve --port 0 --host 0.0.0.0",
    "db ping": "db ping -c *",
    "db query": "db query -c {} select|1",
    "db exec": "db exec -c {} select|1",
    "db shell": "db shell -c {}",
    "db select": "db select -c {} kept",
    "db insert": "db insert -c {} kept n=1",
    "db update": "db update -c {} -y kept n=1",
    "db delete": "db delete -c {} -y kept",
    "db find": "db find -c {} kept",
    "db aggregate": "db aggregate -c {} kept []",
    "db command": 'db command -c {} {{"ping":1}}',
    "db tables": "db tables -c {}",
    "db describe": "db describe -c {} kept",
    "db size": "db size -c {}",
    "db metrics": "db metrics -c {}",
    "db slow": "db slow -c {}",
    "cron list": "cron list",
    "cron next": "cron next",
    "cron explain": "cron explain x",
    "cron check": "cron check",
    "cron add": "cron add x @daily --replace --sql select|1 -c {}",
    "cron run": "cron run nothing",
    "cron run-daemon": "cron run-daemon --crontab missing",
    "cron enable": "cron enable nothing",
    "cron disable": "cron disable nothing",
    "cron remove": "cron remove nothing",
    "cron history": "cron history",
    "cron logs": "cron logs nothing",
    "cron import": "cron import missing",
    "cron export": "cron export --to crontab",
    "shutdown-test run": "shutdown-test -c {} -- true",
    "ws serve": "ws serve --redis nothing",
    "ws emit": "ws emit e 1",
    "ws listen": "ws listen --count 1",
    "ws expect": "ws expect e",
    "ws clients": "ws clients",
    "ws rooms": "ws rooms",
    "ws kick": "ws kick nobody",
    "ws doctor": "ws doctor",
    "dashboard show": "dashboard --once",
    "circuit ls": "circuit ls",
    "circuit trip": "circuit trip {} --for 1ms",
    "circuit reset": "circuit reset {}",
    "circuit disable": "circuit disable {}",
    "cache get": "cache get -c {} k",
    "cache set": "cache set -c {} k 1",
    "cache del": "cache del -c {} k",
    "cache exists": "cache exists -c {} k",
    "cache ttl": "cache ttl -c {} k",
    "cache expire": "cache expire -c {} k 60",
    "cache clear": "cache clear -c {} -y nothing*",
    "cache persist": "cache persist -c {} k",
    "cache incr": "cache incr -c {} k",
    "cache decr": "cache decr -c {} k",
    "cache mget": "cache mget -c {} k",
    "cache mset": "cache mset -c {} k=1",
    "cache scan": "cache scan -c {}",
    "cache invalidate": "cache invalidate -c {} nothing",
    "cache flush": "cache flush -c {}",
    "cache export": "cache export -c {}",
    "cache import": "cache import -c {} missing.jsonl",
    "cache stats": "cache stats -c {}",
    "cache doctor": "cache doctor -c {}",
    "cache remember": "cache remember -c {} --ttl 60s r -- echo 1",
    "cache acl": "cache acl -c {}",
    "cache cmd": "cache cmd -c {} ping",
    "session create": "session create -c {} {{}}",
    "session set": "session set -c {} s {{}}",
    "session get": "session get -c {} s",
    "session update": "session update -c {} s {{}}",
    "session touch": "session touch -c {} s",
    "session destroy": "session destroy -c {} s",
    "session list": "session list -c {} ada",
    "session revoke": "session revoke -c {} ada",
    "pubsub publish": "pubsub publish -c {} a 1",
    "pubsub subscribe": "pubsub subscribe -c {} --timeout nonsense a",
    "record create": 'record create -c {} r {{"id":1}}',
    "record update": 'record update -c {} r {{"id":1}}',
    "record save": 'record save -c {} r {{"id":1}}',
    "record get": "record get -c {} r 1",
    "record load": "record load -c {} r 1",
    "record delete": "record delete -c {} r 1",
    "record pick": "record pick -c {} r 1",
    "record list": "record list -c {} r",
    "record key": "record key -c {} r",
    "record count": "record count -c {} r",
    "record purge": "record purge -c {} -y r",
    "record watch": "record watch -c {} --timeout nonsense r",
    "record publish": "record publish -c {} r 1",
    "record subscribe": "record subscribe -c {} --timeout nonsense r",
    "lock run": "lock run -c {} job -- true",
    "lock ls": "lock ls -c {}",
    "lock release": "lock release -c {} job",
    "limit check": "limit check -c {} k",
    "limit consume": "limit consume -c {} k 2",
    "limit reset": "limit reset -c {} k",
    "profile list": "profile list",
    "profile show": "profile show --origin",
    "profile check": "profile check --connect",
    "profile init": "profile init another",
    "profile schema": "profile schema",
    "profile use": "profile use another",
    "profile add": "profile add more env:HUSH",
    "profile trust": "profile trust",
    "completion show": "completion show bash",
    "completion values": "completion values -- katax db describe ",
    "help show": "help db query",
    "options list": "options",
    "version print": "version",
    "completion install": "completion install bash --dry-run",
    "local status": "local status",
    "local stop": "local stop",
    "migrate up": "migrate up -c {}",
    "migrate down": "migrate down -y -c {}",
    "migrate redo": "migrate redo -y -c {}",
    "migrate run": "migrate run -c {} 001",
    "migrate resume": "migrate resume -c {}",
    "migrate status": "migrate status -c {}",
    "migrate check": "migrate check -c {}",
    "migrate create": "migrate create more",
    "migrate baseline": "migrate baseline -y -c {} 001",
    "migrate repair": "migrate repair -y -c {}",
    "migrate unlock": "migrate unlock -y -c {}",
    "migrate plan": "migrate plan -c {}",
    "migrate verify": "migrate verify -c {}",
    "migrate dump": "migrate dump -c {}",
    "migrate load": "migrate load -c {} nothing",
    "migrate rehearse": "migrate rehearse -c {}",
    "seed create": "seed create more",
    "seed run": "seed run -c {}",
    "seed status": "seed status -c {}",
    "db journal": "db journal -c {}",
    "db activity": "db activity -c {}",
    "db blocking": "db blocking -c {}",
    "db cancel": "db cancel -y -c {} 1",
    "db terminate": "db terminate -y -c {} 1",
    "db export": "db export -c {} nothing",
    "db backup": "db backup -c {}",
    "db restore": "db restore -y -c {} nothing --into x",
    "db backups drill": "db backups drill nothing --on {}",
    "db backups list": "db backups list",
    "db backups verify": "db backups verify",
    "db backups prune": "db backups prune --keep-last 1 -y",
    "db import": "db import -c {} - nothing",
    "db copy": "db copy {} main",
    "db diff": "db diff {} main",
    "db truncate": "db truncate -y -c {} nothing",
    "db reset": "db reset --dry-run -c {}",
    "db create": "db create -c {}",
    "db drop": "db drop --dry-run -c {}",
    "migrate wait": "migrate wait -c {}",
}


def test_the_table_knows_every_command() -> None:
    assert set(command_names()) == set(COMMANDS)


@dataclass(frozen=True)
class Seen:
    """All that came out of a command, and a message for who finds a secret in it."""

    words: tuple[str, ...]
    text: str

    def leaks(self) -> list[str]:
        return [secret for secret in SECRETS if secret in self.text]


def look(log: io.StringIO, *words: str) -> Seen:
    done = katax(*words)
    return Seen(words, done.out + done.err + log.getvalue())


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that any library logs, at the lowest level there is."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.fixture
def failing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgresql: Server,
    mysql: Server,
    redis_server: Server,
    closed_port: int,
    deaf_port: int,
) -> list[str]:
    """A profile full of secrets whose servers refuse, say nothing, or reject the login; returns the connections."""
    monkeypatch.setenv("HUSH", IN_ENV)
    (tmp_path / ".env").write_text(f"DOTTED={IN_DOTENV}\n")
    secret_file = tmp_path / "secret"
    secret_file.write_text(IN_FILE)
    secret_file.chmod(0o600)
    here, nowhere = f"@127.0.0.1:{deaf_port}", f"@127.0.0.1:{closed_port}"
    connections = {
        "pg_rejects": f'url = "{postgresql.url.replace(postgresql.password, IN_URL)}"',
        "my_rejects": f'url = "{mysql.url.replace(mysql.password, IN_URL)}"',
        "re_rejects": f'url = "{redis_server.url.replace(redis_server.password, IN_URL)}"',
        "pg_refuses": f'url = "postgresql://app:{IN_URL}{nowhere}/x?sslpassword={IN_OPTION}"',
        "my_refuses": f'url = "mysql://app{nowhere}/x"\npassword = "{IN_KEY}"',
        "mo_refuses": f'url = "mongodb://app:{IN_URL}{nowhere}/x?tlsCertificateKeyFilePassword={IN_OPTION}"',
        "re_refuses": f'url = "redis://app:${{env:DOTTED}}{nowhere}/0"',
        "pg_deaf": f'url = "postgresql://app{here}/x"\npassword = "${{env:HUSH}}"',
        "my_deaf": f'url = "mysql://app{here}/x"\npassword_file = "secret"',
        "mo_deaf": f'url = "mongodb://app:{IN_URL}{here}/x"',
        "re_deaf": f'url = "redis://app{here}/0"\npassword_command = "cat told"',
    }
    (tmp_path / "told").write_text(FROM_COMMAND)
    tables = [
        f"[connections.{name}]\n{keys}\nconnect_timeout = {5.0 if name.endswith('rejects') else 0.03}\n"
        for name, keys in connections.items()
    ]
    file = tmp_path / "profiles" / "hush.toml"
    file.parent.mkdir()
    file.write_text('role = "dev"\n\n' + "\n".join(tables))
    katax("profile", "trust")
    return list(connections)


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_shows_when_servers_fail(command: str, failing: list[str], log: io.StringIO) -> None:
    words = COMMANDS[command].replace("|", " ").split()
    for name, more in cases(command, failing):
        given = [word.format(name) for word in words]
        seen = look(log, *given, "--timeout", PATIENCE[name.partition("_")[2]], *more)
        assert seen.leaks() == [], seen.words


def cases(command: str, failing: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Connection and options: all formats, with --debug and without, on one; all others at their most talkative."""
    if "{}" not in COMMANDS[command]:
        first, others = "none", []
    elif command.partition(" ")[0] in ON_REDIS:
        # Which of the other engines is the wrong one is all the same.
        first, others = "re_rejects", ["re_refuses", "re_deaf", "pg_refuses"]
    else:
        first, others = "pg_rejects", [name for name in failing if name != "pg_rejects"]
    formats = (*FORMATS, *(views.EXTRA_FORMATS if command == "health check" else ()))
    yield from ((first, ("-f", format, "--debug")) for format in formats)
    yield from ((first, ("-f", format)) for format in ("table", "json"))
    yield from ((name, ("-f", "json", "--debug")) for name in others)


PATIENCE = {"rejects": "5s", "refuses": "100ms", "deaf": "60ms", "": "150ms"}
"""How long it takes to fail in its own way; by the end of a connection's name."""
ON_REDIS = ("cache", "session", "pubsub", "record", "lock", "limit")


def test_the_secrets_are_where_they_could_leak(failing: list[str], tmp_path: Path) -> None:
    """The bad twin: the profile holds them, so a command that printed its file would be caught."""
    text = (tmp_path / "profiles" / "hush.toml").read_text()

    assert Seen((), text).leaks()
    assert not [name for name in ("pg_deaf", "my_refuses") if name not in failing]


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_shows_when_servers_work(
    command: str, postgresql: Server, redis_server: Server, tmp_path: Path, log: io.StringIO
) -> None:
    """The working passwords of the tests' servers are recognisable too."""
    write_profile(tmp_path, {"main": postgresql.url, "cache": redis_server.url})
    words = COMMANDS[command].replace("|", " ").format("cache" if command.startswith("cache") else "main")

    for format in ("table", "json"):
        assert look(log, *words.split(), "-f", format, "--debug").leaks() == []


@pytest.mark.parametrize(
    "broken", ['url = "postgresql://app:{}@[::1/x"', 'password = "{}"\nhost = 5', 'pasword = "{}"']
)
def test_a_broken_profile_does_not_show_its_values(broken: str, tmp_path: Path, log: io.StringIO) -> None:
    file = tmp_path / "profiles" / "hush.toml"
    file.parent.mkdir()
    file.write_text(f'role = "dev"\n[connections.main]\n{broken.replace("{}", IN_KEY)}\n')

    for words in (("health",), ("profile", "check"), ("profile", "show"), ("profile", "list")):
        for debug in ((), ("--debug",)):
            assert look(log, *words, *debug).leaks() == []


RECORDING = """#!/bin/sh
for process in $$ $PPID; do tr '\\0' ' ' < /proc/$process/cmdline; echo; done >> {seen}
{then}
"""


def test_no_secret_is_an_argument_of_a_process(
    postgresql: Server, mysql: Server, redis_server: Server, deaf_port: int, tmp_path: Path
) -> None:
    """What katax and its children were started with, told by these children and seen by a watcher.

    Children are the password command, and the tools that dump a schema: here they tell on their parent too.
    """
    recorded = tmp_path / "recorded"
    (tmp_path / "migrations").mkdir()
    passwords = {"main": postgresql.password, "cache": redis_server.password}
    for name, password in passwords.items():
        (tmp_path / f"told-{name}").write_text(password)
    for name, then in {
        **{f"ask-{name}": f"cat {tmp_path}/told-{name}" for name in passwords},
        "pg_dump": "echo --",
        "mariadb-dump": "echo --",
    }.items():
        (tmp_path / name).write_text(RECORDING.format(seen=recorded, then=then))
        (tmp_path / name).chmod(0o755)
    deaf = f"postgresql://app:{IN_URL}@127.0.0.1:{deaf_port}/x"
    plain = {
        "main": postgresql.url.replace(f":{postgresql.password}", ""),
        "cache": redis_server.url.replace(f":{redis_server.password}", ""),
    }
    file = write_profile(tmp_path, {**plain, "shop": mysql.url, "deaf": deaf})
    text = file.read_text()
    for name, url in plain.items():
        text = text.replace(f'url = "{url}"', f'url = "{url}"\npassword_command = ["{tmp_path}/ask-{name}"]')
    file.write_text(text)
    assert katax("profile", "trust", str(file)).code == 0

    codes, watched, said = watch(
        ("health", "--timeout", "2s"),
        ("db", "query", "select 1"),
        ("cache", "exists", "nothing"),
        ("migrate", "status"),
        ("migrate", "dump"),
        ("migrate", "dump", "-c", "shop"),
        path=tmp_path,
    )

    arguments = recorded.read_text() + "\n".join(watched)
    assert codes == [3, 0, 1, 0, 0, 0], said
    for told in (
        "cache exists",
        "migrate dump -c shop",
        "pg_dump --schema-only",
        "mariadb-dump --defaults",
        "/ask-main",
        "/ask-cache",
    ):
        assert told in recorded.read_text()
    assert [word for word in ("health", "db query", "migrate status") if word not in arguments] == []
    assert Seen((), arguments + said).leaks() == []


def watch(*commands: tuple[str, ...], path: Path) -> tuple[list[int], set[str], str]:
    """Runs commands at once; returns their codes, all arguments seen in their sessions, and what they wrote."""
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
    running = [spawn(*words, env=environment) for words in commands]
    stop, seen = threading.Event(), set[str]()
    watcher = threading.Thread(target=_collect, args=({each.pid for each in running}, seen, stop))
    watcher.start()
    try:
        streams = [each.communicate(timeout=60) for each in running]
    finally:
        stop.set()
        watcher.join()
    said = b"".join(out + err for out, err in streams).decode()
    return [each.returncode for each in running], seen, said


def _collect(sessions: set[int], seen: set[str], stop: threading.Event) -> None:
    while not stop.is_set():
        for each in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(each.name)) in sessions:
                    seen.add((each / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
            except OSError:
                continue
        time.sleep(0.02)
