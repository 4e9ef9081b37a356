"""What goes to stderr: the last net for secrets, whatever a driver says."""

import io
import json
import logging
import sys
from pathlib import Path

import pytest

from katax_cli.cli.shell.diagnostics import Diagnostics
from katax_cli.core.settings import Secret
from katax_cli.errors import QueryError
from tests.cli.harness import katax, write_profile
from tests.servers import PASSWORDS, Server

HUSH = 'hush "quoted"\thush'
"""Has to be found before it is escaped, for terminals or as JSON."""


@pytest.fixture
def revealed() -> str:
    return Secret.of(HUSH).reveal()


def test_what_is_said_does_not_show_a_revealed_secret(revealed: str) -> None:
    said = io.StringIO()
    diagnostics = Diagnostics(said, debug=True)

    diagnostics.note(f"it was {revealed}")
    diagnostics.ask(f"is it {revealed}? ")
    diagnostics.error(f"not {revealed}", name="x", exit_code=1)

    assert said.getvalue() == "it was ***\nis it ***? katax: not ***\n"


def test_at_a_terminal_what_is_longer_goes_on_at_a_blank() -> None:
    said, piped = io.StringIO(), io.StringIO()
    refused = QueryError("main", "no", excerpt=("LINE 1: " + "x " * 40, "^".rjust(50)), hint="try " * 12)
    for diagnostics in (Diagnostics(said, width=40), Diagnostics(piped)):
        diagnostics.note("no configuration found: using the built-in profile 'local'")
        diagnostics.ask("DELETE without WHERE on local/main, for all rows of it? [y/N] ")
        diagnostics.failure(refused)
        with diagnostics.log("info", "console"):
            logging.getLogger("katax.test").info("one two three four five six seven")

    lines = said.getvalue().splitlines()
    assert lines[:4] == [
        "no configuration found: using the",
        "  built-in profile 'local'",
        "DELETE without WHERE on local/main, for",
        "  all rows of it? [y/N] katax: 'main' refused the statement: no",
    ]
    assert lines[4:6] == ["LINE 1: " + "x " * 40, "^".rjust(50)]
    assert lines[6:] == [
        "HINT: try try try try try try try try",
        "  try try try try",
        "info katax.test: one two three four five",
        "  six seven",
    ]
    assert len(piped.getvalue().splitlines()) == 6


def test_two_profiles_of_one_command_share_its_log_and_their_notes() -> None:
    said = io.StringIO()
    diagnostics = Diagnostics(said)
    with diagnostics.log("info", "console"), diagnostics.log("debug", "json"):
        logging.getLogger("katax.query").info("slow")
    logging.getLogger("katax.query").error("of nobody")
    for _ in range(2):
        diagnostics.note_once("a note on the profile")

    assert said.getvalue() == "info katax.query: slow\na note on the profile\n"


def test_an_echoed_ctrl_c_does_not_share_its_line_with_the_prompt() -> None:
    for width, said in ((80, "\n"), (None, "")):
        stream = io.StringIO()
        Diagnostics(stream, width=width).end_line()
        assert stream.getvalue() == said


def test_nor_does_a_traceback(revealed: str) -> None:
    said = io.StringIO()
    try:
        raise RuntimeError(revealed)
    except RuntimeError as error:
        Diagnostics(said, debug=True).failure(error)

    assert "hush" not in said.getvalue()
    assert said.getvalue().count("RuntimeError: ***") == 2


def test_nor_does_json(revealed: str) -> None:
    said = io.StringIO()

    Diagnostics(said, json=True).error(f"not {revealed}", name="x", exit_code=1)

    assert json.loads(said.getvalue())["error"]["message"] == "not ***"


@pytest.mark.parametrize("format", ["console", "json"])
def test_nor_does_the_log(format: str, revealed: str) -> None:
    said = io.StringIO()
    log = logging.getLogger("katax.test")

    with Diagnostics(said).log("debug", format):
        log.info("it was %s", revealed)
        try:
            raise RuntimeError(revealed)
        except RuntimeError:
            log.warning("failed", exc_info=sys.exc_info())

    assert said.getvalue().count("***") == 2
    assert "hush" not in said.getvalue()


def test_a_secret_that_nobody_asked_for_is_not_known() -> None:
    """Only what was revealed can have come into a text; a password command is not run for a message."""
    said = io.StringIO()
    Secret(lambda: pytest.fail("resolved"))

    Diagnostics(said).note("nothing to hide")

    assert said.getvalue() == "nothing to hide\n"


def test_what_the_server_says_of_a_statement_is_shown(postgresql_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": postgresql_url})
    katax(
        "db",
        "exec",
        "create table people (id int primary key, name text); insert into people values (1, 'a')",
    )
    column = "select '漢字' as w,\n  nam from people"

    unknown = katax("db", "query", column)
    taken = katax("db", "exec", "insert into people values (1, 'b')")
    facts = katax("db", "query", column, "-f", "json")
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "001_a.sql").write_text("-- UP\nselect nam from people;\n-- DOWN\n")
    migration = katax("migrate", "up")

    assert unknown.err.splitlines() == [
        "katax: 'main' refused the statement: column \"nam\" does not exist (42703)",
        "LINE 2:   nam from people",
        "          ^",
        'HINT: Perhaps you meant to reference the column "people.name".',
    ]
    assert "\nDETAIL: Key (id)=(1) already exists.\n" in taken.err
    error = json.loads(facts.err)["error"]
    assert (error["sqlstate"], error["position"]) == ("42703", column.index("nam f") + 1)
    assert error["hint"] == 'Perhaps you meant to reference the column "people.name".'
    assert set(error) == {"code", "message", "exit", "hint", "position", "sqlstate"}
    line, caret, hint = migration.err.splitlines()[-3:]
    assert migration.code == 1
    # How much of the line there is hangs on the length of the comment that katax puts before it.
    assert (line[:8], line[caret.index("^") :][:3], hint[:6]) == ("LINE 1: ", "nam", "HINT: ")


def test_what_the_server_says_is_masked_and_obeyed_by_no_terminal(revealed: str) -> None:
    said = io.StringIO()
    refused = QueryError(
        "main",
        "no",
        hint=f"use {revealed}\x1b[31m",
        detail=f"Key ({revealed})\nmore",
        excerpt=(f"LINE 1: select {revealed}", "        ^"),
    )

    Diagnostics(said).failure(refused)
    quiet = io.StringIO()
    Diagnostics(quiet, json=True).failure(refused)

    assert said.getvalue().splitlines()[1:] == [
        "LINE 1: select ***",
        "DETAIL: Key (***) more  HINT: use ***\\x1b[31m",
    ]
    assert "hush" not in quiet.getvalue()


@pytest.mark.parametrize("more", [(), ("-f", "json"), ("--debug",)])
def test_what_a_server_says_does_not_show_the_password(
    more: tuple[str, ...], postgresql: Server, tmp_path: Path
) -> None:
    """PostgreSQL repeats the value that is no number; here it is the password that the profile holds."""
    write_profile(tmp_path, {"main": postgresql.url})
    password = PASSWORDS["postgresql"]

    other = katax("db", "query", "select 'other'::int", *more)
    done = katax("db", "query", f"select '{password}'::int", *more)

    assert (other.code, "other" in other.err) == (1, True), "the server does repeat it"
    assert (done.code, password in done.err + done.out) == (1, False)
    assert "***" in done.err


def test_an_error_that_is_its_own_cause_ends(mysql: Server, tmp_path: Path) -> None:
    error = ValueError("x")
    error.__cause__ = error
    assert Diagnostics(io.StringIO()).failure(error) == 2
    write_profile(tmp_path, {"main": mysql.url.replace(str(mysql.password), "wrong")})
    done = katax("db", "query", "select 1")
    assert (done.code, done.err.count("\n")) == (2, 1)
