"""What people see: commands on real data, at 80 and at 200 columns, compared with golden files.

`UPDATE_GOLDEN=1 pytest tests/cli/test_terminal.py` writes them anew; the diff is the review.
"""

import json
import os
import shlex
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from katax_cli.cli.display.widths import cell_width
from tests.cli.harness import katax, write_profile
from tests.cli.terminal import at_terminal

GOLDEN = Path(__file__).parent / "golden"
LOST = "postgresql://app@127.0.0.1:1/app"
JOBS = """
[cron.jobs.backup]
schedule = "0 3 * * *"
timezone = "Europe/Madrid"
command = "echo 漢字; echo 'copied 12 tables to the archive of the other data centre, nothing was left out'"
enabled = false
[cron.jobs.news]
schedule = "*/5 * * * 1-5"
timezone = "UTC"
katax = ["cache", "clear", "news:*", "-y"]
enabled = false
"""
PEOPLE = """
create table people (id integer primary key, name text not null, city text default 'Αθήνα', email text, bio text,
  balance numeric, photo blob);
create table orders (id integer primary key, person integer references people (id), placed text, total numeric);
insert into people values
  (1, 'Ada Lovelace', 'London', 'ada@example.org', 'wrote the first program for a machine that was never built', 12.5,
   x'00ff10'),
  (2, '山田太郎', '東京都千代田区丸の内一丁目', 'taro@example.jp', null, -3, null),
  (3, 'Zoë [bold]' || char(10) || 'Ångström', 'São Paulo', 'zoe@example.br', '😀 ok', 1000000, x''),
  (4, 'é' || char(8238), '', null, 'x', 0.1, null);
insert into orders select 100 + id, id, '2026-11-21 09:2' || id || ':00', balance * 2 from people;
"""
COMMANDS = """
db query 'select * from people'
db query 'select id, name, city, bio from people'
db query 'select * from people' --expanded off
db query 'select * from people join orders on people.id = person join people as other on other.id = 2 where person < 3'
db query 'select id, name, photo from people where id < 3' -f vertical
db query 'select id, name, city from people' -f markdown
db query 'select id, name, bio from people where id = 9'
db query 'select * from people where id = 1' --columns name,balance
db query 'select nam from people'
db exec 'select 1 as one; select name, balance from people where id < 3'
db select orders --columns 'placed,total' --order 'id desc' --limit 2
db tables --columns name,kind
db describe people
db update people balance=0 --where 'balance < 1' --dry-run
migrate status
migrate check
migrate up
migrate plan
seed status
cron list
cron list --all-columns
cron check
cron history
cron history --columns job,state,duration_ms,output
cron logs zzz
record list users -f markdown
cache mget greeting answer nothing
cache ttl nothing
circuit ls
profile check
health nosuch
health -c lost
db backups verify
db tables -c lost
"""


@pytest.fixture(autouse=True)
def in_madrid(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Madrid")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def world(tmp_path: Path, redis_url: str) -> None:
    """A database with migrations, seeds, jobs that ran and a cache; every moment in it is set."""
    write_profile(tmp_path, {"main": "sqlite:///x.db", "cache": redis_url, "lost": LOST}, extra=JOBS)
    for name, text in {
        "migrations/001_people.sql": f"-- UP\n{PEOPLE}\n-- DOWN\n",
        "migrations/20261121_a_name_that_is_rather_long_for_a_terminal.sql": "-- UP\nselect 1;\n-- DOWN\n",
        "seeds/cities.json": '{"table": "cities", "rows": []}',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    done(katax("migrate", "up"))
    # Its age reads the same for half an hour.
    ago = datetime.now(UTC) - timedelta(days=2, hours=3, minutes=30)
    change(
        f"update katax_migrations set applied_at = '{ago.isoformat()}', duration_ms = 6123",
        "sqlite:///x.db",
    )
    for name in ("backup", "backup"):
        done(katax("cron", "run", name))
    change(
        "update katax_cron_runs set run_id = printf('%032d', rowid), scheduled_at = 1795249657000 + rowid * 60000, "
        "started_at = 1795249657100 + rowid * 60000, finished_at = 1795249657100 + rowid * 70000, host = 'web-1'",
        f"sqlite:///{tmp_path}/.katax/state.db",
    )
    for record in ({"id": "1", "name": "山田|太郎"}, {"id": "2", "tags": ["a", "b"]}):
        done(katax("record", "save", "users", json.dumps(record)))
    done(katax("cache", "mset", "greeting=こんにちは", 'answer={"n": 42}'))


def done(ended: object) -> None:
    assert getattr(ended, "code", None) == 0, ended


def change(sql: str, url: str) -> None:
    import sqlite3

    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute(sql)
    connection.close()


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.usefixtures("world")
def test_what_a_terminal_shows(width: int) -> None:
    shown = ""
    for line in COMMANDS.strip().splitlines():
        ended = at_terminal(*shlex.split(line), typed=None, width=width)
        shown += f"$ katax {line}\n{ended.out}{ended.err}[{ended.code}]\n\n"
        if not any(word in line for word in ("vertical", "markdown")) and "-[ 1 ]" not in ended.out:
            assert max(map(cell_width, ended.out.splitlines()), default=0) <= width, line

    file = GOLDEN / f"terminal-{width}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(shown)
    assert shown == file.read_text()
