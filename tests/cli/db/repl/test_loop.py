"""`katax db shell` on a real terminal: what is typed, cancelled, lost and left."""

import os
import re
import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.cli.harness import katax, write_profile
from tests.cli.pseudo_terminal import Terminal
from tests.servers.fixtures import MakeFresh, MakeProxy, Target
from tests.waiting import until

NEW_LINE = b"\x1b[?2004h"
"""What comes before a prompt, and not before the line as it is drawn again."""
_CODES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def shell(*words: str, columns: int = 80, pager: str = "cat") -> Iterator[Terminal]:
    """The shell at its first prompt."""
    with pytest.MonkeyPatch.context() as patch:
        # No terminal is there that would answer where its cursor stands.
        patch.setenv("PROMPT_TOOLKIT_NO_CPR", "1")
        patch.setenv("PAGER", pager)
        terminal = Terminal("db", "shell", *words, columns=columns)
    try:
        terminal.read_until(1, b"=>")
        yield terminal
    finally:
        terminal.close()


def typed(terminal: Terminal, text: bytes, answer: bytes, prompt: bytes = b"=>") -> None:
    """Types a line, and waits for what it is to bring and for the prompt behind that."""
    terminal.answer(text + b"\r", answer, *([NEW_LINE, prompt] if prompt else []))


def plain(terminal: Terminal) -> str:
    return _CODES.sub(b"", terminal.seen).decode()


def test_a_session_of_somebody(sql_engine: Target, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})
    kind = b"character" if sql_engine.engine == "postgresql" else b"varchar"
    after_an_error = b"=!>" if sql_engine.engine == "postgresql" else b"=*>"
    with shell() as terminal:
        typed(terminal, b"create table people (n int, name varchar(20));", b"CREATE")
        typed(terminal, b"select 1 as one,", b"->", prompt=b"")
        typed(terminal, b"2 as two;", b"(1 row)")
        typed(terminal, b"begin;", b"BEGIN", b"=*>")
        typed(terminal, b"insert into people values (1, '\xe4\xb8\xad\xe6\x96\x87');", b"INSERT 1", b"=*>")
        typed(terminal, b"\\d people", kind, b"=*>")
        typed(terminal, b"select nope;", b"katax: ", after_an_error)
        typed(terminal, b"rollback;", b"ROLLBACK")
        typed(terminal, b"\\timing", b"timing: on")
        typed(terminal, b"\\x on", b"rows upright: on")
        typed(terminal, b"select 1 as one, 2 as two;", b" ms")
        terminal.answer(b"\\watch 100ms\r", b" ms", b" ms", b" ms")
        terminal.answer(b"\x03", NEW_LINE, b"=>")
        typed(terminal, b"\\nosuch", b"no command named")
        typed(terminal, b"begin;", b"BEGIN", b"=*>")
        terminal.type(b"\x04")

        assert terminal.exit_code() == 0
        text = plain(terminal)
    assert "test/main (dev)=> " in text
    assert "-[ 1 ]" in text
    assert text.rstrip().endswith("the open transaction was rolled back")


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_ctrl_c_ends_the_statement_on_the_server_and_nothing_else(
    engine: str, fresh: MakeFresh, tmp_path: Path
) -> None:
    target = fresh(engine)
    write_profile(tmp_path, {"main": target.url})
    sleep, asked = {
        "postgresql": (
            b"select pg_sleep(600) /* typed */;",
            "select query from pg_stat_activity where state = 'active'",
        ),
        "mysql": (b"select sleep(600) /* typed */;", "select info from information_schema.processlist"),
    }[engine]

    def runs() -> bool:
        rows = katax("db", "query", asked, "-f", "csv").out.splitlines()
        return any("sleep(600) /* typed */" in row for row in rows)

    with shell() as terminal:
        typed(terminal, b"create temporary table own (n int);", b"CREATE")
        for _ in range(2):
            terminal.type(sleep + b"\r")
            until(runs)
            terminal.answer(b"\x03", b"cancelled on the server", NEW_LINE, b"=>")
            until(lambda: not runs())
        typed(terminal, b"insert into own values (1);", b"INSERT 1")
        terminal.answer(b"half a stat", b"half a stat")
        terminal.answer(b"\x03", NEW_LINE, b"=>")
        terminal.type(b"\x04")
        assert terminal.exit_code() == 0


@pytest.mark.parametrize(
    ("engine", "rows"),
    [
        ("postgresql", b"select generate_series(1, 2000000000) as n;"),
        (
            "mysql",
            b"select 1234 as n from "
            + b", ".join(b"information_schema.columns %c" % c for c in b"abcd")
            + b";",
        ),
        ("sqlite", b"with recursive r(n) as (select 1 union all select n + 1 from r) select n from r;"),
    ],
)
def test_ctrl_c_ends_a_result_without_end(engine: str, rows: bytes, fresh: MakeFresh, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": fresh(engine).url})
    with shell() as terminal:
        terminal.answer(rows + b"\r", b"1234\r\n")
        terminal.answer(b"\x03", b"cancelled on the server", NEW_LINE, b"=>")
        typed(terminal, b"select 'the next' as n;", b"(1 row)")
        terminal.type(b"\x04")
        assert terminal.exit_code() == 0


def test_what_was_kept_for_the_pager_is_dropped_with_the_statement(fresh: MakeFresh, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": fresh("postgresql").url})
    asked = "select query from pg_stat_activity where state = 'active' and query like '%2000000001%'"

    def runs() -> bool:
        return len(katax("db", "query", asked, "-f", "csv").out.splitlines()) > 2

    with shell(pager="sed 's/^/paged:/'") as terminal:
        terminal.type(b"select generate_series(1, 2000000001) as n;\r")
        until(runs)
        terminal.answer(b"\x03", b"cancelled on the server", NEW_LINE, b"=>")
        typed(terminal, b"select 'the next' as n;", b"(1 row)")
        typed(terminal, b"select generate_series(1, 100) as n;", b"paged: 99\r\n")
        terminal.type(b"\x04")
        assert terminal.exit_code() == 0
        assert "101" not in plain(terminal)


def test_no_statement_of_a_lost_transaction_runs_outside_it(
    postgresql_url: str, proxy: MakeProxy, tmp_path: Path
) -> None:
    wire = proxy(postgresql_url)
    write_profile(tmp_path, {"main": wire.url})
    with shell() as terminal:
        typed(terminal, b"create table t (n int);", b"CREATE")
        typed(terminal, b"begin; insert into t values (1);", b"INSERT 1", b"=*>")
        wire.cut()
        typed(terminal, b"insert into t values (2);", b"katax: ", b"=!>")
        typed(terminal, b"insert into t values (3); insert into t values (4);", b"katax: ", b"=!>")
        typed(terminal, b"commit;", b"katax: ", b"=!>")
        typed(terminal, b"rollback;", b"ROLLBACK")
        typed(terminal, b"insert into t values (5);", b"INSERT 1")
        terminal.type(b"\x04")
        assert terminal.exit_code() == 0

    with psycopg.connect(postgresql_url) as connection:
        assert connection.execute("select n from t").fetchall() == [(5,)]


def test_production_is_red_and_asks_before_a_change_lasts(sqlite_url: str, tmp_path: Path) -> None:
    katax("db", "exec", "create table t (n int); insert into t values (1), (2), (3)", "-y", "-c", sqlite_url)
    write_profile(tmp_path, {"main": sqlite_url}, role="prod")
    with shell() as terminal:
        assert b"\x1b[0;31;1mtest/main (prod)" in terminal.seen
        typed(terminal, b"delete from t;", b"Type test/main to go on: ", b"")
        typed(terminal, b"yes", b"refused")
        typed(terminal, b"delete from t where n = 1;", b"changes 1 row; commit within 20 s? [y/N] ", b"")
        typed(terminal, b"n", b"not confirmed; rolled back")
        typed(terminal, b"delete from t where n = 2;", b"changes 1 row; commit within 20 s? [y/N] ", b"")
        typed(terminal, b"y", b"DELETE 1")
        typed(terminal, b"begin;", b"BEGIN", b"=*>")
        typed(terminal, b"update t set n = 9 where n = 3;", b"UPDATE 1", b"=*>")
        typed(terminal, b"rollback;", b"ROLLBACK")
        terminal.type(b"\x04")
        assert terminal.exit_code() == 0

    rows = katax("db", "query", "select n from t order by n", "-f", "json").json
    journal = katax("db", "journal", "-f", "json").json
    assert rows == [{"n": 1}, {"n": 3}]
    assert [(entry["outcome"], entry["rows"]) for entry in reversed(journal)][-4:] == [
        ("refused", None),
        ("rolled back", 1),
        ("done", 1),
        ("rolled back", 1),
    ]


def test_tab_completes_what_the_server_knows(sqlite_url: str, redis_url: str, tmp_path: Path) -> None:
    katax("db", "exec", "create table customers (birthday int)", "-c", sqlite_url)
    katax("cache", "set", "user:42-ada", "Ada", "-c", redis_url)
    write_profile(tmp_path, {"main": sqlite_url, "cache": redis_url})
    with shell() as terminal:
        terminal.answer(b"select * from cust\t", b"omers")
        typed(terminal, b";", b"(0 rows)")
        terminal.type(b"\x04")
        assert terminal.exit_code() == 0
    with shell("-c", "cache") as terminal:
        terminal.answer(b"get user:4\t", b"2-ada")
        typed(terminal, b"", b"Ada")
        terminal.type(b"\x04")
        assert terminal.exit_code() == 0


def test_a_signal_leaves_the_terminal_as_it_was(sqlite_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sqlite_url})
    with shell() as terminal:
        typed(terminal, b"begin;", b"BEGIN", b"=*>")
        os.kill(terminal.pid, signal.SIGTERM)

        assert terminal.exit_code() == 143
        modes = terminal.modes[3]
        assert isinstance(modes, int)
        assert modes & termios.ECHO
        assert modes & termios.ICANON
        assert "the open transaction was rolled back" in plain(terminal)


def test_a_history_that_cannot_be_kept_costs_a_note(sqlite_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": sqlite_url})
    (tmp_path / ".katax").write_text("a file in its place")
    with shell() as terminal:
        typed(terminal, b"select 1;", b"(1 row)")
        terminal.type(b"\x04")
        assert terminal.exit_code() == 0
        assert "the history of this shell is not kept:" in plain(terminal)
