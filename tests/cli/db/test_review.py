"""UPDATE and DELETE on production: shown, asked for on a terminal, and undone when nobody agrees."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.harness import katax, write_profile
from tests.cli.pseudo_terminal import KATAX, Terminal
from tests.cli.terminal import at_terminal
from tests.servers.fixtures import MakeFresh, MakeProxy, Target

IMPATIENT = f"import katax_cli.cli.db.review as review; review.ANSWER_SECONDS = 0.3; {KATAX}"
ROWS = "(1, 'Ada'), (2, 'Bob'), (3, 'Cleo'), (4, 'Dan'), (5, 'Eve'), (6, 'Fay'), (7, 'Gus')"
MADE = f"create table people (id int primary key, name varchar(40)); insert into people values {ROWS}"


@pytest.fixture
def main(sql_engine: Target, tmp_path: Path) -> Target:
    """Each SQL engine in turn, as `main` of production, with seven people."""
    write_profile(tmp_path, {"main": sql_engine.url}, role="prod")
    assert katax("db", "exec", MADE).code == 0
    return sql_engine


def names() -> list[str]:
    done = katax("db", "query", "select name from people order by id", "-f", "csv", "--no-header")
    return done.out.split()


def journal() -> list[tuple[str, str, int | None]]:
    """Command, outcome and rows of what was recorded, the oldest first."""
    lines = Path(".katax/journal.jsonl").read_text().splitlines()
    return [(line["command"], line["outcome"], line["rows"]) for line in map(json.loads, lines)]


@contextmanager
def typing(*words: str, program: str = KATAX) -> Iterator[Terminal]:
    terminal = Terminal(*words, columns=80, program=program)
    try:
        yield terminal
    finally:
        terminal.close()


def test_a_person_sees_the_rows_and_decides(main: Target) -> None:
    katax("db", "exec", f"alter table people add note varchar(200) default '{'x' * 150}'")
    words = ("db", "update", "people", "name=X", "--where", "id <= 6")
    with typing(*words) as no:
        no.read_until(1, b"commit within 20 s? [y/N]")
        no.type(b"n\n")
        assert no.exit_code() == 4
    text = no.seen.decode()
    assert "UPDATE on test/main changes 6 rows" in text
    assert all(name in text for name in ("Ada", "Bob", "Cleo", "Dan", "Eve"))
    assert "Fay" not in text
    assert "not confirmed; rolled back" in text
    rows = text.partition("as they are now:")[2].partition("UPDATE on")[0]
    assert max(map(len, rows.splitlines())) <= 80
    assert "X" not in names()

    with typing(
        "db", "exec", "insert into people (id, name) values (8, 'Hal'); delete from people where id < 3"
    ) as yes:
        yes.read_until(1, b"INSERT and DELETE on test/main changes 3 rows; commit within 20 s?")
        yes.type(b"y\n")
        assert yes.exit_code() == 0
    assert names() == ["Cleo", "Dan", "Eve", "Fay", "Gus", "Hal"]
    assert journal()[2:] == [("db update", "rolled back", 6), ("db exec", "done", 3)]


def test_an_answer_without_its_enter_is_none(main: Target) -> None:
    with typing("db", "query", "delete from people where id = 1", program=IMPATIENT) as half:
        half.read_until(1, b"commit within")
        half.type(b"y\x04")
        half.read_until(1, b"no answer in 0.3 s; rolled back")
        assert half.exit_code() == 4
    assert "Ada" in names()


def test_no_answer_rolls_back_and_lets_go_of_the_locks(main: Target) -> None:
    with typing("db", "query", "delete from people where id = 1", program=IMPATIENT) as silent:
        assert silent.exit_code() == 4
    assert b"no answer in 0.3 s; rolled back" in silent.seen

    with typing("db", "delete", "people", "--where", "id = 1", program=IMPATIENT) as hasty:
        hasty.type(b"y\ny\n")
        assert hasty.exit_code() == 4, "typed before the rows were shown"

    with typing("db", "delete", "people", "--where", "id = 1") as interrupted:
        interrupted.read_until(1, b"[y/N]")
        interrupted.type(b"\x03")
        assert interrupted.exit_code() == 130

    assert names()[0] == "Ada"
    assert katax("db", "update", "people", "name=Bo", "--where", "id = 1", "-y").code == 0
    assert journal()[1:] == [
        ("db query", "rolled back", 1),
        ("db delete", "rolled back", 1),
        ("db delete", "rolled back", 1),
        ("db update", "done", 1),
    ]


def test_a_terminal_that_is_closed_rolls_back(postgresql_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": postgresql_url}, role="prod")
    assert katax("db", "exec", MADE).code == 0
    # Not so under `nohup`.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    terminal = Terminal("db", "delete", "people", "--where", "id = 1", columns=80)
    signal.signal(signal.SIGHUP, before)
    terminal.read_until(1, b"[y/N]")
    assert terminal.hang_up() == 143

    assert names()[0] == "Ada"
    assert journal()[-1] == ("db delete", "rolled back", 1)


def test_off_a_terminal_it_is_refused_before_anything_is_sent(
    main: Target, proxy: MakeProxy, tmp_path: Path
) -> None:
    words = ("people", "--where", "id < 3")
    if main.engine != "sqlite":
        way = proxy(main)
        write_profile(tmp_path, {"main": way.url}, role="prod")
        for command in (("delete", *words), ("exec", "delete from people where id < 3")):
            refused = katax("db", *command)
            assert (refused.code, "repeat with --yes or --max-rows-affected N" in refused.err) == (4, True)
        assert way.connections == 0

    few = katax("db", "delete", *words, "--max-rows-affected", "1")
    enough = katax("db", "delete", *words, "--max-rows-affected", "2", "-f", "json")
    every = katax("db", "delete", "people", "-y")

    assert (few.code, "changes 2 rows, --max-rows-affected is 1; rolled back" in few.err) == (4, True)
    assert enough.json == {"rows_affected": 2}
    assert (every.code, "repeat with --confirm test/main" in every.err) == (4, True), (
        "without where: its name"
    )
    assert katax("db", "delete", "people", "--confirm", "test/main").code == 0
    assert names() == []


def test_a_commit_without_an_answer_is_unknown(fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path) -> None:
    for engine in ("postgresql", "mysql"):
        server = fresh(engine)
        way = proxy(server)
        write_profile(tmp_path, {"main": way.url}, role="prod")
        assert katax("db", "exec", MADE).code == 0
        way.cut_after(b"COMMIT", forward=True)

        done = at_terminal("db", "delete", "people", "--where", "id = 1", typed="y")

        assert done.code == 6, done.err
        assert names()[0] == "Bob", "the server had committed"
        assert journal()[-1] == ("db delete", "unknown", 1)


def test_what_no_rollback_undoes_is_said_beforehand(mysql_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": mysql_url}, role="prod")
    log = "create table log (id int) engine = MyISAM; insert into log values (1), (2)"
    assert katax("db", "exec", f"{MADE}; {log}").code == 0
    words = ("db", "delete", "log", "--where", "id = 1")

    bounded = katax(*words, "--max-rows-affected", "9")
    asked = at_terminal(*words, typed="n")
    script = at_terminal(
        "db", "exec", "update people set name = 'X' where id = 1; alter table people add x int", typed="n"
    )
    agreed = katax(*words, "-y")

    assert (bounded.code, asked.code, script.code) == (4, 4, 4)
    assert "cannot be rolled back as a whole: log: no rollback undoes what is written there" in asked.err
    assert "line 1: mysql commits at ALTER" in script.err
    assert names()[0] == "Ada"
    assert (agreed.code, "cannot be rolled back" in agreed.err) == (0, True)
    assert katax("db", "query", "select count(*) from log", "-f", "csv", "--no-header").out == "1\n"


def test_scripts_that_no_transaction_holds_are_asked_for_first(main: Target) -> None:
    script = "begin; update people set name = 'X' where id = 1; commit"
    refused = katax("db", "exec", script, "--max-rows-affected", "1")
    asked = at_terminal("db", "exec", script, typed="y")

    assert (refused.code, "BEGIN begins or ends a transaction" in refused.err) == (4, True)
    assert (asked.code, names()[0]) == (0, "X")


def test_changes_that_are_not_counted_are_called_so(postgresql_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": postgresql_url}, role="prod")
    assert katax("db", "exec", MADE).code == 0
    hidden = "with gone as (delete from people where id < 4 returning *) select count(*) from gone"

    asked = at_terminal("db", "query", hidden, typed="n")
    bounded = katax("db", "query", hidden, "--max-rows-affected", "1")

    assert "SELECT on test/main changes rows that the server does not count" in asked.err
    assert (asked.code, bounded.code, len(names())) == (4, 4, 7)
    assert "the server does not count all rows" in bounded.err
    moved = f"create table gone as {hidden.replace('count(*)', '*')}"
    asked = at_terminal("db", "query", moved, typed="n")
    assert "CREATE on test/main changes rows that the server does not count" in asked.err
    assert (asked.code, len(names())) == (4, 7)
    cut = katax("db", "query", "delete from people where id < 6 returning name", "--limit", "1", "-y")
    assert (cut.code, names()) == (0, ["Fay", "Gus"]), "all of it is done, whatever is shown"


def test_connections_are_asked_one_after_the_other(tmp_path: Path) -> None:
    write_profile(tmp_path, {"one": "sqlite:///1.db", "two": "sqlite:///2.db"}, role="prod")
    assert katax("db", "exec", MADE, "-c", "*").code == 0

    with typing("db", "delete", "people", "--where", "id = 1", "-c", "*") as screen:
        screen.read_until(1, b"DELETE on test/one changes 1 row; commit within 20 s? [y/N]")
        assert b"test/two changes" not in screen.seen
        screen.type(b"y\n")
        screen.read_until(1, b"DELETE on test/two changes 1 row; commit within 20 s? [y/N]")
        screen.type(b"n\n")
        assert screen.exit_code() == 4

    count = katax("db", "query", "select count(*) as n from people", "-c", "*", "-f", "json").json
    assert [(row["connection"], row["n"]) for row in count] == [("one", 6), ("two", 7)]


def test_yes_in_the_definition_of_a_job_counts_as_confirm(tmp_path: Path) -> None:
    job = '[cron.jobs.purge]\nschedule = "@daily"\nkatax = ["db", "delete", "people", "-y"]\n'
    write_profile(tmp_path, {"main": "sqlite:///m.db"}, role="prod", extra=job)
    assert katax("db", "exec", MADE).code == 0
    assert katax("cron", "add", "other", "@daily", "--katax", "db delete people -y", "-p", "test").code == 0

    assert katax("cron", "run", "other").code == 4, "anybody may have added it"
    assert len(names()) == 7
    assert katax("cron", "run", "purge").code == 0
    assert names() == []
