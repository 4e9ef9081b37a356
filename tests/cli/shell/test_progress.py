"""How far long work has come, and what lasts of it after Ctrl-C."""

import io
import json
from pathlib import Path

import pytest
import redis as driver

from katax_cli.cli import app
from katax_cli.cli.shell.diagnostics import Diagnostics
from katax_cli.cli.shell.progress import Parts, Progress
from tests.cli.harness import katax, write_profile
from tests.fake_clock import FakeClock


@pytest.fixture
def untold() -> None:
    """Here progress is told as everywhere."""


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class CutOff(io.BytesIO):
    """Lines of a person who presses Ctrl-C after some of them."""

    def __init__(self, lines: list[bytes], after: int) -> None:
        super().__init__(b"".join(lines))
        self._left = after

    def seekable(self) -> bool:
        return False

    def __next__(self) -> bytes:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        return super().__next__()


def test_away_from_a_terminal_it_is_a_line_every_two_seconds() -> None:
    clock, said = FakeClock(), io.StringIO()
    with Progress(Diagnostics(said), "deleted", "keys", 1000, clock=clock) as progress:
        for count in (100, 200, 300, 400, 500):
            clock.at += 1.0
            progress(count)
        clock.at += 5.0
        progress(1500)

    assert said.getvalue().splitlines() == [
        "deleted 200 of 1,000 keys, 100/s, 8 s left",
        "deleted 400 of 1,000 keys, 100/s, 6 s left",
        "deleted 1,500 of 1,000 keys, 150/s, 0 s left",
    ]


def test_on_a_terminal_it_is_a_bar_with_notes_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    clock, said = FakeClock(), Tty()
    diagnostics = Diagnostics(said)
    with Progress(diagnostics, "imported", "keys", 300_000, clock=clock) as progress:
        clock.at += 10.0
        progress(78_000)
        progress.show()
        diagnostics.note("a note [bold]\x1b[31m")

    assert "78,000/300,000 keys" in said.getvalue()
    assert "7,800/s" in said.getvalue()
    assert "a note [bold]\\x1b[31m\n" in said.getvalue()
    assert diagnostics.above == []


def test_a_quiet_command_shows_nothing_and_no_command_after_its_end() -> None:
    ended, quiet, json_only = Tty(), Tty(), Tty()
    for diagnostics in (
        Diagnostics(ended),
        Diagnostics(quiet, quiet=True),
        Diagnostics(json_only, json=True),
    ):
        with Progress(diagnostics, "imported", "keys", 3) as progress:
            progress(3)
            if diagnostics.stream is not ended:
                progress.show()
        before = ended.getvalue()
        progress.show()
        assert ended.getvalue() == before
    assert (quiet.getvalue(), json_only.getvalue()) == ("", "")


def test_an_estimate_is_called_one_and_left_when_it_is_passed() -> None:
    clock, said = FakeClock(), io.StringIO()
    with Progress(Diagnostics(said), "exported", "rows", None, clock=clock) as progress:
        for count in (100, 300):
            progress.about(200)
            clock.at += 2.0
            progress(count)

    assert said.getvalue().splitlines() == [
        "exported 100 of about 200 rows, 50/s, 2 s left",
        "exported 300 rows, 75/s",
    ]


def test_several_works_are_one_bar() -> None:
    clock, said = FakeClock(), io.StringIO()
    with Progress(Diagnostics(said), "deleted", "keys", 90, clock=clock) as progress:
        parts = Parts(progress)
        for name, count in (("a", 10), ("b", 20), ("a", 30)):
            parts.told(name, count)
            clock.at += 1.0
        parts.told("b", 30)

    assert said.getvalue().splitlines() == [
        "deleted 50 of 90 keys, 25/s, 2 s left",
    ]


def test_an_interrupt_says_what_lasts() -> None:
    said = io.StringIO()

    def work(error: type[BaseException]) -> None:
        with Progress(Diagnostics(said), "imported", "keys", 300_000) as progress:
            progress(78_000)
            raise error

    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error):
            work(error)

    assert said.getvalue() == "interrupted: 78,000 of 300,000 keys imported\n"


def test_an_interrupted_import_says_how_many_keys_are_in(redis_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"cache": redis_url})
    katax("cache", "mset", *(f"k{number}={number}" for number in range(700)))
    lines = katax("cache", "export").stdout.splitlines(keepends=True)
    katax("cache", "flush", "--yes")
    err = io.StringIO()

    words = ["cache", "import", "-", "--replace", "-y"]
    words = ["cache", "import", "-", "--replace", "-y"]
    code = app.main(words, stdin=CutOff(lines, 600), stdout=io.BytesIO(), stderr=err)

    assert (code, err.getvalue()) == (130, "interrupted: at least 500 keys imported\n")
    assert len(driver.from_url(redis_url).keys("*")) == 500
    assert json.loads(lines[0])["type"] == "string"


def test_an_interrupted_migration_says_how_many_are_done(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "001_a.sql").write_text(
        "-- UP\ncreate table a (n int);\n-- DOWN\ndrop table a;\n"
    )
    (tmp_path / "migrations" / "002_b.py").write_text(
        "def up(db):\n    db.execute('create table b (n int)')\n    raise KeyboardInterrupt\n"
    )

    done = katax("migrate", "up")

    assert done.code == 130
    assert done.err.splitlines()[-1] == (
        "interrupted: 1 of 2 migrations done; 'katax migrate status' shows where the next one stands"
    )
    tables = katax("db", "tables", "-f", "json").json
    assert [row["name"] for row in tables if not row["name"].startswith("katax")] == ["a"]
