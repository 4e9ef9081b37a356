"""The examples of every `--help`, run in a project on real servers."""

from __future__ import annotations

import os
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

from katax_cli.cli import app
from katax_cli.cli.shell.help import examples
from tests.cli.harness import Done, katax, registered, write_profile
from tests.cli.sockets import serving
from tests.servers import Server
from tests.servers.fixtures import MakeFresh
from tests.servers.rooms import free_port

# They end by a signal, or use an address that is not the test's: their words are only parsed.
PARSED_ONLY = (
    "--watch",
    "health serve",
    "run-daemon",
    "ws serve",
    "ws listen",
    "ws expect",
    "subscribe",
    "record watch",
    "dashboard",
    "localhost",
    "shutdown-test",
    "wait --applied",
    "s3://",
)
# 1 is an answer; the rest is what the example is about.
ALSO = {
    "migrate load": {2},
    "migrate baseline --from dbmate": {2},
    "migrate unlock": {5},
    "db slow": {2},
    "db restore": {2},
    "db backups drill": {2},
}
FILES = {
    "changes.sql": "update users set active = true where id = 42;\n",
    "seeds/countries.sql": "select 1;\n",
    "users.csv": "id,name\n43,Grace\n",
    "migrations/001_users.sql": "-- UP\ncreate table people (id int);\n-- DOWN\ndrop table people;\n",
    "migrations/002_orders.sql": "-- UP\ncreate table bills (id int);\n-- DOWN\ndrop table bills;\n",
    "url.txt": "sqlite:///shop.db\n",
    "report.py": "print('{}')\n",
    "rates.json": "{}\n",
    "report.json": "{}\n",
    "ages.json": "[]\n",
    "changes.json": "{}\n",
    "user.json": '{"id": "44"}',
    "crontab": "0 0 * * * true\n",
    "server.py": "import signal; signal.sigwait([signal.SIGTERM])\n",
}
JOB = '\n[cron.jobs.cleanup]\nschedule = "@daily"\ncommand = "true"\n'
TABLES = (
    "create table users (id int primary key, name text, active boolean); "
    "insert into users values (42, 'Ada', true); create table orders (id int, user_id int)"
)


class Example(NamedTuple):
    command: str
    line: str

    @property
    def words(self) -> list[str]:
        before = self.line.partition(" > ")[0].partition(" < ")[0]
        return shlex.split(before)[1:]


def all_examples() -> list[Example]:
    """In the order of help: each may use what those before it made."""
    found = []
    for group in app.COMMANDS:
        for words, command in registered(group):
            lines = examples(command.body).get(command.name, [])
            found += [Example(words, line) for line in lines]
    return found


def of_groups(*groups: str) -> list[Example]:
    return [example for example in all_examples() if example.command.split()[0] in groups]


def test_every_command_has_two_or_three_that_fit_a_terminal() -> None:
    """A new command gets its own in the `examples.txt` of its group."""
    lines: dict[str, list[str]] = {}
    for example in all_examples():
        lines.setdefault(example.command, []).append(example.line)
    tables = {group: import_module(module).group for group, (module, _) in app.COMMANDS.items()}
    names = [words for group in tables for words, command in registered(group) if not command.hidden]

    assert [name for name in names if not 2 <= len(lines.get(name, [])) <= 4] == []
    assert [line for found in lines.values() for line in found if len(line) > 78] == []
    for command, found in lines.items():
        group, *_, name = command.split()
        default = tables[group].default
        starts = (f"katax {command} ", f"katax {group} ") if name == default else (f"katax {command} ",)
        assert [line for line in found if not f"{line} ".startswith(starts)] == []


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgresql_url: str,
    redis_url: str,
    mongodb_url: str,
    fresh: MakeFresh,
    postgresql: Server,
) -> Path:
    """The profile `dev` with `main` on PostgreSQL, `cache` on Redis, migrations, seeds, a job."""
    urls = {
        "main": postgresql_url,
        "shard1": postgresql_url,
        "cache": redis_url,
        "docs": mongodb_url,
        "copy": "sqlite:///copy.db",
    }
    write_profile(tmp_path, urls, name="dev", extra=JOB)
    write_profile(tmp_path, {"main": "sqlite:///review.db"}, name="review")
    (tmp_path / "katax.toml").write_text('default_profile = "dev"\n')
    for name in ("migrations", "seeds"):
        (tmp_path / name).mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TEST_URL", fresh(postgresql).url)
    monkeypatch.setenv("DATABASE_URL", postgresql_url)
    return tmp_path


def run(example: Example, folder: Path) -> Done:
    _, _, file = example.line.partition(" < ")
    return katax(*example.words, stdin=(folder / file).read_bytes() if file else b"")


def parse(words: list[str]) -> None:
    """Raises what a wrong option or argument raises."""
    context = app.root().make_context("katax", words)
    while hasattr(context.command, "resolve_command"):
        name, command, rest = context.command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert command is not None
        context = command.make_context(name, rest, parent=context)


def check(found: list[Example], folder: Path) -> None:
    wrong = []
    for example in found:
        if any(words in example.line for words in PARSED_ONLY):
            parse(example.words)
            continue
        done = run(example, folder)
        also = next(
            (codes for start, codes in ALSO.items() if example.line.startswith(f"katax {start}")), set()
        )
        if done.code not in {0, 1} | also:
            wrong.append((example.line, done.code, done.err))
    assert not wrong, "\n".join(map(str, wrong))


def test_of_databases(project: Path) -> None:
    assert katax("db", "exec", TABLES).code == 0
    check(of_groups("db"), project)
    check(of_groups("migrate", "seed"), project)


def test_of_redis(project: Path) -> None:
    check(of_groups("cache", "session", "pubsub", "record", "limit", "lock"), project)


def test_of_operations(project: Path) -> None:
    check(of_groups("health", "cron", "dashboard", "circuit", "shutdown-test"), project)


def test_of_socket_servers(project: Path) -> None:
    file = project / "profiles/dev.toml"
    file.write_text(f"{file.read_text()}\n[ws.chat]\nport = {free_port()}\n")
    with serving("chat", cwd=project):
        check(of_groups("ws"), project)


def test_of_setup(project: Path) -> None:
    check(of_groups("profile", "completion", "local", "help", "options", "version"), project)
