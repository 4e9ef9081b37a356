"""Promise 1: no command prints, logs, or passes in any argv a secret of a profile.

Every command of the tree runs in every format, with and without --debug, on servers that work, refuse, hang or
reject the login; the secrets are recognisable, and nobody may find them in what came out.
"""

import io
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from katax_cli.cli.output import FORMATS
from tests.cli.harness import command_names, katax, write_profile
from tests.servers import PASSWORDS, Server
from tests.servers.fixtures import MakeFresh

# Each comes into the profile by another way, and each has a part that would survive URL quoting.
IN_URL, IN_KEY, IN_ENV, IN_DOTENV, IN_FILE, FROM_COMMAND, IN_OPTION = (
    f"hush{word}hush" for word in ("url", "key", "env", "dotenv", "file", "command", "option")
)
SECRETS = (IN_URL, IN_KEY, IN_ENV, IN_DOTENV, IN_FILE, FROM_COMMAND, IN_OPTION, *PASSWORDS.values())

COMMANDS: Mapping[str, str] = {
    "health check": "health",
    "db ping": "db ping -c *",
    "db query": "db query -c {} select|1",
    "db exec": "db exec -c {} select|1",
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
    "ws serve": "ws serve --redis nothing",
    "ws emit": "ws emit e 1",
    "ws listen": "ws listen --count 1",
    "ws expect": "ws expect e",
    "ws clients": "ws clients",
    "ws rooms": "ws rooms",
    "ws kick": "ws kick nobody",
    "ws doctor": "ws doctor",
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
    "profile trust": "profile trust",
    "completion show": "completion show bash",
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
    "migrate rehearse": "migrate rehearse -c {}",
    "seed create": "seed create more",
    "seed run": "seed run -c {}",
    "seed status": "seed status -c {}",
    "db truncate": "db truncate -y -c {} nothing",
    "db reset": "db reset --dry-run -c {}",
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: MakeFresh, closed_port: int, deaf_port: int
) -> list[str]:
    """A profile full of secrets whose servers refuse, say nothing, or reject the login; returns the connections."""
    monkeypatch.setenv("HUSH", IN_ENV)
    (tmp_path / ".env").write_text(f"DOTTED={IN_DOTENV}\n")
    secret_file = tmp_path / "secret"
    secret_file.write_text(IN_FILE)
    secret_file.chmod(0o600)
    rejecting = {
        name: fresh(name).url.replace(PASSWORDS[name], IN_URL) for name in ("postgresql", "mysql", "redis")
    }
    here, nowhere = f"@127.0.0.1:{deaf_port}", f"@127.0.0.1:{closed_port}"
    connections = {
        "pg_rejects": f'url = "{rejecting["postgresql"]}"',
        "my_rejects": f'url = "{rejecting["mysql"]}"',
        "re_rejects": f'url = "{rejecting["redis"]}"',
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
    tables = [f"[connections.{name}]\n{keys}\nconnect_timeout = 0.2\n" for name, keys in connections.items()]
    file = tmp_path / "profiles" / "hush.toml"
    file.parent.mkdir()
    file.write_text('role = "dev"\n\n' + "\n".join(tables))
    katax("profile", "trust")
    return list(connections)


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_shows_when_servers_fail(command: str, failing: list[str], log: io.StringIO) -> None:
    words = COMMANDS[command].replace("|", " ").split()
    for name in failing if "{}" in words else ["none"]:
        for format in FORMATS if name in ("none", "pg_rejects") else ("json",):
            for debug in ((), ("--debug",)):
                given = [word.format(name) for word in words]
                seen = look(log, *given, "-f", format, "--timeout", "300ms", *debug)
                assert seen.leaks() == [], seen.words


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


def test_no_secret_is_an_argument_of_a_process(proxied: Mapping[str, str], tmp_path: Path) -> None:
    """What katax and its children were started with, seen by another process while they wait for a server."""
    write_profile(tmp_path, dict(proxied))
    stop = threading.Event()
    seen: set[str] = set()
    watcher = threading.Thread(target=_collect_arguments, args=(seen, stop))
    watcher.start()
    try:
        run = subprocess.run(
            [sys.executable, "-m", "katax_cli", "health", "--timeout", "700ms"],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        stop.set()
        watcher.join()

    assert run.returncode == 3
    assert any("katax_cli" in each and "health" in each for each in seen)
    assert Seen((), "\n".join(seen) + run.stdout + run.stderr).leaks() == []


@pytest.fixture
def proxied(deaf_port: int) -> Mapping[str, str]:
    return {
        "main": f"postgresql://app:{IN_URL}@127.0.0.1:{deaf_port}/x",
        "shop": f"mysql://app:{IN_URL}@127.0.0.1:{deaf_port}/x",
        "cache": f"redis://app:{IN_URL}@127.0.0.1:{deaf_port}/0",
        "documents": f"mongodb://app:{IN_URL}@127.0.0.1:{deaf_port}/x",
    }


def _collect_arguments(seen: set[str], stop: threading.Event) -> None:
    while not stop.is_set():
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = each.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if "katax_cli" in arguments:
                seen.add(arguments)
        time.sleep(0.02)
