"""`katax dashboard` on a real terminal: how it is left, whatever ends it."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from textual.pilot import Pilot

from katax_cli.cli.dashboard.run import CommandRunner
from katax_cli.profiles.load import load_profile
from katax_cli.services.dashboard.collector import Collector
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.store import StateStore
from katax_cli.tui.app import CommandOutcome, Dashboard
from katax_cli.tui.dialogs import CommandDialog
from tests.cli.harness import katax, write_profile
from tests.cli.processes import eventually
from tests.cli.pseudo_terminal import KATAX, Terminal
from tests.tui.driving import drive, pane
from tests.tui.driving import until as drawn

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
SHOW_CURSOR, NO_MOUSE = b"\x1b[?25h", b"\x1b[?1000l"
ROOT = Path(__file__).parents[3]
BROKEN = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from dataclasses import replace
from katax_cli.services.dashboard.collector import Collector
from tests.tui.canned import FULL
asked = []
def snapshot(*_):
    asked.append(1)
    if len(asked) > 1:
        raise RuntimeError("a defect of ours")
    return FULL
Collector.__call__ = snapshot
from katax_cli.__main__ import main
main()
"""

Open = Callable[..., Terminal]


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Open]:
    """Opens `katax dashboard` with a profile of one SQLite file; waits for its first picture."""
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    opened: list[Terminal] = []

    def open_(program: str = KATAX) -> Terminal:
        opened.append(Terminal("dashboard", "--interval", "100ms", columns=80, program=program))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def left_as_it_was(terminal: Terminal) -> bool:
    """The other screen is gone, the cursor is back, and the mouse is the terminal's own again."""
    after = terminal.seen.rindex(LEAVE)
    return (
        terminal.seen.count(ENTER) == terminal.seen.count(LEAVE) == 1
        and all(mark in terminal.seen for mark in (SHOW_CURSOR, NO_MOUSE))
        and b"healthy" not in terminal.seen[after:]
    )


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_a_key_leaves_it(screen: Open, key: bytes) -> None:
    terminal = screen()
    before = terminal.modes_before
    terminal.read_until(1, b"healthy")
    assert terminal.modes != before
    terminal.type(key)

    assert terminal.exit_code() == 0
    assert left_as_it_was(terminal)
    assert terminal.modes == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(screen: Open, number: signal.Signals) -> None:
    terminal = screen()
    before = terminal.modes_before
    terminal.read_until(1, b"healthy")
    os.kill(terminal.pid, number)

    assert terminal.exit_code() == 128 + number
    assert left_as_it_was(terminal)
    assert terminal.modes == before
    assert b"Traceback" not in terminal.seen


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_dashboard_that_is_killed_leaves_the_terminal_as_it_was(
    screen: Open, number: signal.Signals
) -> None:
    terminal = screen()
    before = terminal.modes_before
    terminal.read_until(1, b"healthy")
    os.kill(terminal.pid, number)
    terminal.read_until(1, LEAVE)

    assert terminal.exit_code() == -number
    assert left_as_it_was(terminal)
    assert terminal.modes == before


@pytest.mark.parametrize("by_key", [True, False])
def test_a_stopped_dashboard_leaves_the_terminal_and_draws_all_when_it_goes_on(
    screen: Open, *, by_key: bool
) -> None:
    terminal = screen()
    before = terminal.modes_before
    terminal.read_until(1, b"healthy")
    if by_key:
        terminal.type(b"\x1a")
    else:
        os.kill(terminal.pid, signal.SIGTSTP)
    terminal.read_until(1, LEAVE)
    os.waitpid(terminal.pid, os.WUNTRACED)
    assert terminal.modes == before
    os.kill(terminal.pid, signal.SIGCONT)
    terminal.read_until(1, b"Circuits")
    terminal.type(b"q")

    assert terminal.exit_code() == 0
    assert terminal.modes == before


def test_a_defect_leaves_the_terminal_as_it_was_and_one_line(screen: Open) -> None:
    terminal = screen(BROKEN)
    before = terminal.modes_before
    terminal.read_until(1, b"unhealthy")

    assert terminal.exit_code() == 1
    assert left_as_it_was(terminal)
    assert terminal.modes == before
    after = terminal.seen[terminal.seen.rindex(LEAVE) :]
    assert b"a defect of ours" in after
    assert b"Traceback" not in terminal.seen


def test_a_key_trips_a_circuit_for_everybody(screen: Open) -> None:
    terminal = screen()
    terminal.read_until(1, b"healthy")
    terminal.type(b"3")
    terminal.read_until(1, b"reason")
    terminal.type(b"T")
    terminal.read_until(1, b"katax circuit trip main -p")
    terminal.type(b"\r")
    with StateStore(load_profile(None)) as store:
        assert eventually(lambda: "main" in store.decisions())
    terminal.read_until(1, b"forced_open")
    terminal.type(b"q")

    assert terminal.exit_code() == 0


def test_a_key_ends_a_session(postgresql_url: str, tmp_path: Path) -> None:
    """By the command that the dialog shows, in a process of its own."""
    write_profile(tmp_path, {"main": postgresql_url})
    made = load_profile("test")
    with (
        Runtime(made) as theirs,
        theirs.sql(made.connection("main")).session() as session,
        Runtime(made, probing=True) as ours,
        closing(Collector(ours, [ours.database("main")])) as collector,
        closing(CommandRunner()) as commands,
    ):
        [(pid, name)] = session.run("select pg_backend_pid(), current_database()").rows
        app = Dashboard(collector, interval=0.1, run=commands, read=commands.output)

        async def body(pilot: Pilot[None]) -> None:
            activity = pane(app, "activity")
            await pilot.press("7")
            app.words = name
            await drawn(pilot, lambda: activity.chosen is not None and activity.chosen.subject == str(pid))
            await pilot.press("k")
            await drawn(pilot, lambda: isinstance(app.screen, CommandDialog))
            assert isinstance(app.screen, CommandDialog)
            assert app.screen.words == ("db", "terminate", str(pid), "-p", "test", "-c", "main")
            await pilot.press("enter")
            await drawn(pilot, lambda: activity.chosen is None)

        drive(app, body)
        left = theirs.sql(made.connection("main")).run(f"select 1 from pg_stat_activity where pid = {pid}")
        assert left.rows == []


def test_a_key_runs_katax_and_nothing_that_lies_around(screen: Open, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not this one')")
    # As the console script starts: without the folder that it is started in.
    test_a_key_trips_a_circuit_for_everybody(lambda: screen(f"import sys; sys.path.remove(''); {KATAX}"))


def test_a_terminal_that_cannot_be_drawn_on(screen: Open) -> None:
    terminal = screen(f"import os; os.environ['TERM'] = 'dumb'; {KATAX}")

    assert terminal.exit_code() == 2
    assert b"TERM is 'dumb', and 'dashboard' draws; print one snapshot with --once" in terminal.seen
    assert ENTER not in terminal.seen


def test_what_is_started_last_does_not_outlive_the_dashboard(tmp_path: Path) -> None:
    commands = CommandRunner()
    commands.close()

    assert commands(["--version"]) == CommandOutcome(3, "it could not be started: the dashboard is closing")


def test_a_command_that_cannot_be_started_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    code, said = CommandRunner()(["--version"])

    assert (code, said.startswith("it could not be started: ")) == (3, True)


def test_without_a_terminal_it_says_how_to_print(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    done = katax("dashboard")

    assert done.code == 2
    assert done.err == (
        "katax: 'dashboard' needs a terminal on stdin and stdout; print one snapshot with --once\n"
    )
