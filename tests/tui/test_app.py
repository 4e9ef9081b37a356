"""The dashboard in use: keys, filter, pause, commands, servers that hang, and a terminal that is left alone."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from threading import Event
from threading import enumerate as enumerate_threads
from typing import ClassVar

import pytest
from rich.segment import Segment
from textual.containers import VerticalScroll
from textual.drivers.headless_driver import HeadlessDriver
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from katax_cli.core.clock import SYSTEM
from katax_cli.snapshot import Part, Snapshot
from katax_cli.tui import app as app_module
from katax_cli.tui import pane as pane_module
from katax_cli.tui.app import CommandOutcome, Dashboard
from katax_cli.tui.dialogs import CommandDialog, Info, line
from katax_cli.tui.layout import PANELS, SCREENS
from katax_cli.tui.pane import Pane
from tests.fake_clock import FakeClock
from tests.tui.canned import AT, BROKEN, EMPTY, FULL, HOSTILE, hostile
from tests.tui.driving import PATIENCE, Commands, Source, dashboard, drive, head, pane, until, visible

ALL = [panel.name for panel in PANELS]
Pilots = Pilot[None]


class TestScreens:
    @pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
    def test_the_overview_has_every_panel_that_fits(self, size: tuple[int, int]) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            small = [panel.name for panel in PANELS if not panel.minor]
            assert visible(app) == (small if size == (80, 24) else ALL)
            assert all(each.size.height >= 3 for each in app.query("Pane") if each.size.area)

        drive(app, body, size=size)

    def test_a_digit_opens_a_screen_and_escape_leads_back(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            for number, screen in enumerate(SCREENS, 1):
                await pilot.press(str(number))
                await pilot.pause()
                assert visible(app) == [panel.name for panel in PANELS if panel.screen == screen]
                assert app.focused is pane(app, visible(app)[0]).table
            await pilot.press("escape")
            await pilot.pause()
            assert "connections" in visible(app)
            assert "log" in visible(app)

        drive(app, body)

    def test_enter_opens_the_panel_and_then_the_whole_row(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            await pilot.press("enter")
            await pilot.pause()
            assert visible(app) == ["connections"]
            await pilot.press("enter")
            await pilot.pause()
            assert isinstance(app.screen, Info)
            await pilot.press("escape")
            await pilot.pause()
            assert not isinstance(app.screen, Info)

        drive(app, body)

    def test_enter_on_a_run_shows_what_it_wrote(self) -> None:
        reading = Commands(CommandOutcome(0, "first\nsecond"))
        app = dashboard(read=reading)

        async def body(pilot: Pilots) -> None:
            await pilot.press("5")
            pane(app, "runs").table.focus()
            await pilot.press("enter")
            await until(pilot, lambda: "second" in screen_text(app))
            assert "first" in screen_text(app)
            assert reading.ran == [("cron", "logs", "-p", "shop", "--", "aaaaaaaa1")]
            await pilot.press("escape")
            pane(app, "jobs").table.focus()
            await pilot.press("enter")
            await pilot.pause()
            assert len(reading.ran) == 1

        drive(app, body)

    def test_output_that_comes_after_its_dialog_was_closed_harms_nobody(self) -> None:
        released = Event()

        def slow(_words: Sequence[str]) -> CommandOutcome:
            released.wait()
            return CommandOutcome(0, "late")

        app = dashboard(read=slow)

        async def body(pilot: Pilots) -> None:
            await pilot.press("5")
            pane(app, "runs").table.focus()
            await pilot.press("enter", "escape")
            released.set()
            await pilot.press("enter")
            await until(pilot, lambda: "late" in screen_text(app))

        drive(app, body)

    def test_panels_without_rows_fold_to_a_line_each(self) -> None:
        source = Source(EMPTY)
        app = dashboard(source)

        async def body(pilot: Pilots) -> None:
            folded = app.query_one("#folded", Static)
            await until(pilot, lambda: visible(app) == ["connections", "circuits"])
            lines = str(folded.content).splitlines()
            assert [line.split(" ·")[0] for line in lines] == ["Pools", "Queries", "Jobs", "Socket.IO", "Log"]
            assert lines[2].endswith("no jobs are defined; add one: katax cron add")
            await pilot.press("5")
            await pilot.pause()
            assert (visible(app), folded.display) == (["jobs", "runs"], False)
            await pilot.press("escape")
            source.snapshot = replace(FULL, pools=EMPTY.pools)
            await pilot.press("f5")
            await until(pilot, lambda: "log" in visible(app) and pane(app, "sockets").size.width > 70)
            assert str(folded.content).startswith("Pools")
            source.snapshot = FULL
            await pilot.press("f5")
            await until(pilot, lambda: "pools" in visible(app) and pane(app, "sockets").size.width <= 40)
            await until(pilot, lambda: not folded.display)

        drive(app, body)

    def test_the_mouse_chooses_a_row_and_opens_it(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            await pilot.click(pane(app, "circuits").table, offset=(2, 1))
            await pilot.pause()
            chosen = pane(app, "circuits").chosen
            assert chosen is not None
            assert chosen.subject == "orders"
            await pilot.click(pane(app, "circuits").table, offset=(2, 1))
            await pilot.pause()
            assert visible(app) == ["circuits"]

        drive(app, body)

    def test_help_names_every_key(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            await pilot.press("question_mark")
            await pilot.pause()
            assert isinstance(app.screen, Info)
            text = "\n".join(str(strip.text) for strip in app.screen._compositor.render_strips())
            for word in ("Filter", "Pause", "Trip", "Reset", "Quit"):
                assert word in text

        drive(app, body, size=(80, 40))

    def test_arrows_move_what_is_longer_than_the_screen(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            await pilot.press("question_mark")
            await pilot.pause()
            box = app.screen.query_one(VerticalScroll)
            assert box.max_scroll_y > 0
            await pilot.press("down")
            await until(pilot, lambda: box.scroll_y > 0)

        drive(app, body)

    def test_a_row_in_full_is_not_cut(self) -> None:
        why = "w" * 300
        rows = (FULL.circuits.rows[2]._replace(reason=why),)
        app = dashboard(replace(FULL, circuits=FULL.circuits._replace(rows=rows)))

        async def body(pilot: Pilots) -> None:
            await pilot.press("3", "enter")
            await pilot.pause()
            text = "".join(str(strip.text) for strip in app.screen._compositor.render_strips())
            assert text.count("w") >= len(why)

        drive(app, body)

    def test_the_palette_offers_screens_and_what_the_row_allows(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            await pilot.press("3")
            await pilot.pause()
            titles = [each.title for each in app.get_system_commands(app.screen)]
            assert {"Show pools", "Pause", "Trip orders", "Reset orders"} <= set(titles)
            assert "Run orders" not in titles
            await pilot.press("colon")
            await pilot.pause()
            assert type(app.screen).__name__ == "CommandPalette"

        drive(app, body)

    def test_the_theme_changes(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            was = app.current_theme.dark
            await pilot.press("ctrl+t")
            assert app.current_theme.dark is not was

        drive(app, body)

    def test_no_color_is_honoured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_COLOR", "1")
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            colours = {
                segment.style.color.triplet
                for strip in app.screen._compositor.render_strips()
                for segment in strip
                if segment.style and segment.style.color and segment.style.color.triplet
            }
            assert all(each.red == each.green == each.blue for each in colours)

        drive(app, body)


class TestNumbersThatChange:
    def test_a_new_snapshot_changes_cells_and_keeps_the_cursor_on_its_row(self) -> None:
        source = Source()
        app = dashboard(source)

        async def body(pilot: Pilots) -> None:
            await pilot.press("3")
            before = pane(app, "circuits").chosen
            rows = FULL.circuits.rows
            opened = rows[1]._replace(failures=6)
            source.snapshot = replace(FULL, circuits=FULL.circuits._replace(rows=(rows[2], rows[0], opened)))
            await pilot.press("f5")
            table = pane(app, "circuits").table
            await until(pilot, lambda: str(table.get_row_at(1)[2]) == "6")
            after = pane(app, "circuits").chosen
            assert before is not None
            assert after is not None
            assert after.key == before.key

        drive(app, body)

    def test_as_many_other_rows_are_drawn_in_the_places_that_are_there(self) -> None:
        """To build a table anew measures every cell, each second where sessions come and go."""
        source = Source()
        app = dashboard(source)

        async def body(pilot: Pilots) -> None:
            table, rows = pane(app, "activity").table, FULL.activity.rows
            await pilot.press("7")
            await until(pilot, lambda: table.row_count == len(rows))
            places, second = list(table.rows), str(table.get_row_at(1)[0])
            await pilot.press("down")
            others = [row._replace(pid=row.pid and str(row.pid)[::-1]) for row in rows]
            source.snapshot = replace(FULL, activity=FULL.activity._replace(rows=tuple(others)))
            await pilot.press("f5")
            await until(pilot, lambda: str(table.get_row_at(1)[0]) == second[::-1])
            assert list(table.rows) == places
            assert table.cursor_row == 0

        drive(app, body, size=(120, 40))

    def test_what_gets_old_fades_where_its_words_stay_the_same(self) -> None:
        source = Source()
        app = dashboard(source)

        async def body(pilot: Pilots) -> None:
            table = pane(app, "circuits").table
            assert {str(each.style) for each in table.get_row_at(0)} != {"dim"}
            source.snapshot = BROKEN
            await pilot.press("f5")
            await until(pilot, lambda: {str(each.style) for each in table.get_row_at(0)} == {"dim"})

        drive(app, body)

    def test_what_is_not_on_the_screen_is_drawn_when_it_is(self) -> None:
        source = Source()
        app = dashboard(source)

        async def body(pilot: Pilots) -> None:
            log = pane(app, "log")
            await pilot.press("3")
            await pilot.pause()
            before = log.drawn
            rows = (*FULL.log.rows, FULL.log.rows[0]._replace(happened_at=AT, text="news"))
            source.snapshot = replace(FULL, role="dev", log=FULL.log._replace(rows=rows))
            await pilot.press("f5")
            await until(pilot, lambda: "(dev)" in head(app))
            assert log.drawn is before
            await pilot.press("8")
            await until(pilot, lambda: said(app)[0] == "news")
            assert str(log.table.get_row_at(0)[3]) == "news"

        drive(app, body)

    def test_a_stream_shows_its_newest_row(self) -> None:
        source = Source(with_lines(200))
        app = dashboard(source)

        async def body(pilot: Pilots) -> None:
            log = pane(app, "log")
            await pilot.press("8")
            for count in (203, 261):
                source.snapshot = with_lines(count)
                await pilot.press("f5")
                await until(pilot, lambda count=count: said(app)[0] == str(count - 1))  # type: ignore[misc]
                await pilot.pause()
                assert on_screen(log)[0] == str(count - 1)
                assert (log.table.cursor_row, "paused" in str(log.border_title)) == (0, False)

        drive(app, body)

    @pytest.mark.parametrize(
        "leave", [["down"], ["pagedown", "pagedown"], []], ids=["arrow", "page", "wheel"]
    )
    def test_a_stream_stands_still_where_somebody_scrolled_and_counts_what_is_newer(
        self, leave: list[str]
    ) -> None:
        source = Source(with_lines(200))
        app = dashboard(source)

        async def body(pilot: Pilots) -> None:
            log = pane(app, "log")
            await pilot.press("8", *leave)
            if not leave:
                log.table.scroll_relative(y=3)
            await until(pilot, lambda: "paused, 0 newer" in str(log.border_title))
            await pilot.wait_for_scheduled_animations()
            before = on_screen(log), log.table.cursor_row
            source.snapshot = with_lines(228)
            await pilot.press("f5")
            await until(pilot, lambda: "paused, 28 newer" in str(log.border_title))
            await pilot.resize_terminal(100, 24)
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda: (on_screen(log), log.table.cursor_row) == before)
            await pilot.press("home")
            await until(pilot, lambda: on_screen(log)[0] == "227")
            assert "paused" not in str(log.border_title)

        drive(app, body)

    def test_a_row_that_its_source_dropped_stays_faded_where_somebody_reads_it(self) -> None:
        source = Source()
        app = dashboard(source)

        async def body(pilot: Pilots) -> None:
            runs = pane(app, "runs")
            await pilot.press("5")
            runs.table.focus()
            await pilot.press("down")
            await until(pilot, lambda: "paused" in str(runs.border_title))
            first = FULL.runs.rows[0]._replace(state="ran", run_id="new")
            source.snapshot = replace(FULL, runs=FULL.runs._replace(rows=(first, FULL.runs.rows[1])))
            await pilot.press("f5")
            await until(pilot, lambda: "paused, 1 newer" in str(runs.border_title))
            styles = [{str(cell.style) for cell in runs.table.get_row_at(at)} for at in range(3)]
            assert [style == {"dim"} for style in styles] == [True, False, True]

        drive(app, body)

    def test_a_panel_that_gets_rows_shows_them_instead_of_its_hint(self) -> None:
        source = Source(EMPTY)
        app = dashboard(source)

        async def body(pilot: Pilots) -> None:
            pools = pane(app, "pools")
            assert not pools.table.display
            source.snapshot = FULL
            await pilot.press("f5")
            await until(pilot, lambda: pools.table.display and pools.table.row_count == 2)
            source.snapshot = EMPTY
            await pilot.press("f5")
            await until(pilot, lambda: not pools.table.display)

        drive(app, body)

    def test_a_filter_holds_for_all_panels_until_escape(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            await pilot.press("slash", *"orders")
            await pilot.pause()
            assert pane(app, "connections").table.row_count == 1
            assert pane(app, "pools").table.row_count == 0
            assert "filter: orders" in head(app)
            await pilot.press("enter")
            assert app.focused is not app.query_one("#filter", Input)
            await pilot.press("escape")
            await pilot.pause()
            assert pane(app, "connections").table.row_count == 5
            assert "filter" not in head(app)

        drive(app, body)

    def test_after_the_filter_a_panel_with_rows_has_the_focus(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            for words, panel in (("cleanup", "jobs"), ("chat", "sockets")):
                await pilot.press("slash", *words, "enter")
                await pilot.pause()
                assert app.focused is pane(app, panel).table
                await pilot.press("escape")
            await pilot.press("slash", *"main", "enter")
            await pilot.pause()
            assert app.focused is pane(app, "connections").table

        drive(app, body)

    def test_a_panel_keeps_the_focus_when_the_filter_leaves_it_rows(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            pane(app, "circuits").table.focus()
            await pilot.press("slash", *"orders", "enter")
            await pilot.pause()
            assert app.focused is pane(app, "circuits").table

        drive(app, body)

    def test_a_panel_whose_rows_come_back_has_the_focus_again(self) -> None:
        source = Source()
        app = dashboard(source)

        async def body(pilot: Pilots) -> None:
            await pilot.press("3")
            table = pane(app, "circuits").table
            source.snapshot = replace(FULL, circuits=FULL.circuits._replace(rows=(), missing="none"))
            await pilot.press("f5")
            await until(pilot, lambda: app.focused is None)
            source.snapshot = FULL
            await pilot.press("f5")
            await until(pilot, lambda: app.focused is table)

        drive(app, body)

    def test_q_is_a_letter_while_a_filter_is_typed(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            await pilot.press("slash", "q", "p")
            assert app.words == "qp"
            assert app.is_running

        drive(app, body)

    def test_numbers_that_change_for_long_take_no_more_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pane_module, "CHANGES_KEPT", 5)
        source = Source()
        app = dashboard(source)
        drawn: list[int] = []

        async def body(pilot: Pilots) -> None:
            table = pane(app, "runs").table
            for number in range(30):
                rows = tuple(each._replace(duration_ms=number) for each in FULL.runs.rows)
                source.snapshot = replace(FULL, runs=FULL.runs._replace(rows=rows))
                await pilot.press("f5")
                await until(
                    pilot,
                    lambda number=number: str(number) in map(str, table.get_row_at(0)),  # type: ignore[misc]
                )
                await pilot.pause()
                if number % 10 == 9:
                    gc.collect()
                    drawn.append(sum(isinstance(each, Segment) for each in gc.get_objects()))

        drive(app, body, size=(200, 60))
        assert drawn[2] <= drawn[0] * 1.1, drawn

    def test_a_storm_of_sizes_ends_well(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            for width, height in ((200, 60), (20, 5), (80, 24), (1, 1), (300, 100), (41, 9), (80, 24)):
                await pilot.resize_terminal(width, height)
            await pilot.pause()
            assert pane(app, "connections").table.row_count == 5
            assert "connections" in visible(app)

        drive(app, body)

    def test_after_a_new_size_the_panels_fill_the_lines_of_that_size(self) -> None:
        app = dashboard(replace(FULL, slow=EMPTY.slow))

        async def body(pilot: Pilots) -> None:
            folded = app.query_one("#folded", Static)
            for width, height in ((200, 60), (80, 24)) * 2:
                await pilot.resize_terminal(width, height)
                # Slow calls give way in a small overview, and Log needs all of a line there.
                is_small = width == 80
                await until(pilot, lambda is_small=is_small: folded.display is not is_small)  # type: ignore[misc]
                await until(pilot, lambda is_small=is_small: not is_small or pane(app, "log").size.width > 70)  # type: ignore[misc]

        drive(app, body)


class CountedWaits(Event):
    """What a feed waits for between two rounds."""

    waits = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.waits += 1
        return super().wait(timeout)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The dashboard's clock, which stands still."""
    made = FakeClock()
    monkeypatch.setattr(app_module, "SYSTEM", made)
    return made


class TestAsking:
    def test_a_paused_dashboard_asks_nobody(self) -> None:
        source = Source()
        app = dashboard(source, interval=0.05)
        app.feed._wake = rounds = CountedWaits()

        async def body(pilot: Pilots) -> None:
            await until(pilot, lambda: source.asked > 3)
            await pilot.press("p")
            assert "paused" in head(app)
            paused_at = rounds.waits
            # The round under way and the one that has looked already may still ask.
            await until(pilot, lambda: rounds.waits > paused_at + 2)
            asked, rested_at = source.asked, rounds.waits
            await until(pilot, lambda: rounds.waits > rested_at + 4)
            assert source.asked == asked
            await pilot.press("f5")
            await until(pilot, lambda: source.asked == asked + 1)
            await pilot.press("p")
            await until(pilot, lambda: source.asked > asked + 3)
            assert "paused" not in head(app)

        drive(app, body)

    def test_a_paused_dashboard_says_how_old_it_is(self, clock: FakeClock) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            clock.at += 125.0
            await pilot.press("p")
            assert "paused, seen 2m ago" in head(app)
            assert not app.query_one("#panes").has_class("-stale")
            await pilot.press("f5")
            await until(pilot, lambda: "paused, seen 0s ago" in head(app))

        drive(app, body)

    def test_what_nobody_asked_for_is_not_late(self, clock: FakeClock) -> None:
        """After a pause, and after a long interval became a short one."""
        released, source = Event(), Source()

        def hanging() -> Snapshot:
            if source.asked:
                released.wait()
            return source()

        app = dashboard(hanging, interval=10.0)

        async def body(pilot: Pilots) -> None:
            clock.at += 40.0
            for keys in (["p", "p"], ["minus"]):
                app._asked_at -= 40.0
                await pilot.press(*keys)
                assert "no news" not in head(app)
            app._asked_at -= 170.0
            app._head()
            assert "no news for 40s" in head(app)
            released.set()

        drive(app, body)

    @pytest.mark.parametrize(
        ("count", "missing", "said"),
        [
            (3, None, "3 processes report"),
            (1, None, "1 process reports"),
            (0, "no process reports", "0 processes report"),
            (1, "it is gone", "1 process reported 1m ago"),
        ],
    )
    def test_it_says_who_reports_and_who_did(self, count: int, missing: str | None, said: str) -> None:
        part = Part(FULL.processes.rows[:count], "x", AT - 95, missing)
        app = dashboard(replace(FULL, processes=part))

        async def body(pilot: Pilots) -> None:
            assert head(app).rstrip().endswith(f"  {said}")

        drive(app, body)

    def test_who_left_asks_nobody(self) -> None:
        before = set(enumerate_threads())
        app = dashboard()

        async def body(_pilot: Pilots) -> None:
            return None

        drive(app, body)
        asking = [each for each in set(enumerate_threads()) - before if each.name == "katax-dashboard"]
        for each in asking:
            each.join(PATIENCE)
        assert not any(each.is_alive() for each in asking)

    def test_plus_and_minus_change_the_interval_within_limits(self) -> None:
        app = dashboard(interval=2.0)

        async def body(pilot: Pilots) -> None:
            await pilot.press("plus")
            assert app.feed.interval == 5.0
            await pilot.press("minus", "minus")
            assert (app.feed.interval, "every 1 s" in head(app)) == (1.0, True)
            await pilot.press(*["minus"] * 9)
            assert app.feed.interval == 0.5
            await pilot.press(*["plus"] * 9)
            assert app.feed.interval == 60.0

        drive(app, body)

    def test_keys_work_while_snapshots_hang_and_the_screen_says_so(self, clock: FakeClock) -> None:
        released, source, hangs = Event(), Source(), list[int]()

        def hanging() -> Snapshot:
            if source.asked:
                hangs.append(1)
                released.wait()
            return source()

        app = dashboard(hanging, interval=0.5)

        async def body(pilot: Pilots) -> None:
            await pilot.press("3")
            await pilot.pause()
            shown = visible(app)
            assert shown == ["circuits"]
            await until(pilot, lambda: bool(hangs))
            clock.at += 34.0
            await until(pilot, lambda: "no news for 30s" in head(app))
            assert app.query_one("#panes").has_class("-stale")
            released.set()
            await until(pilot, lambda: "no news" not in head(app))

        drive(app, body)

    def test_a_snapshot_that_cannot_be_taken_ends_the_dashboard_with_the_error(self) -> None:
        def broken() -> Snapshot:
            raise RuntimeError("a defect")

        app = dashboard(broken)

        async def body(pilot: Pilots) -> None:
            await until(pilot, lambda: isinstance(app.error, RuntimeError))

        with pytest.raises(RuntimeError, match="a defect"):
            drive(app, body, drawn=False)


class TestCommands:
    def test_an_action_shows_its_command_and_runs_it(self) -> None:
        commands = Commands()
        app = dashboard(run=commands)

        async def body(pilot: Pilots) -> None:
            await pilot.press("3", "R")
            await pilot.pause()
            assert isinstance(app.screen, CommandDialog)
            assert line(app.screen.words) == "katax circuit reset orders -p shop"
            await pilot.press("enter")
            await until(pilot, lambda: bool(commands.ran))
            assert commands.ran == [("circuit", "reset", "orders", "-p", "shop")]
            await until(pilot, lambda: app._done[-1].text == "done")
            await pilot.press("escape")
            await until(pilot, lambda: said(app)[:1] == ["done"])
            assert "started" in said(app)

        drive(app, body)

    def test_what_a_command_asks_on_production_is_in_the_command(self) -> None:
        commands = Commands()
        app = dashboard(run=commands)

        async def body(pilot: Pilots) -> None:
            await pilot.press("3", "T")
            await pilot.pause()
            assert isinstance(app.screen, CommandDialog)
            assert app.screen.words[-1] == "--yes"
            entry = app.screen.query_one(Input)
            entry.value = "--for 5m --reason 'no disk left' --yes"
            await pilot.press("enter")
            await until(pilot, lambda: bool(commands.ran))
            words = ["--for", "5m", "--reason", "no disk left", "--yes"]
            assert list(commands.ran[0]) == ["circuit", "trip", "orders", "-p", "shop", *words]

        drive(app, body)

    def test_a_session_is_ended_on_its_connection_and_an_unseen_one_is_not(self) -> None:
        commands = Commands()
        app = dashboard(run=commands)

        async def body(pilot: Pilots) -> None:
            await pilot.press("7", "end", "k", "c")
            await pilot.pause()
            assert not isinstance(app.screen, CommandDialog), "the last row stands for what cannot be seen"
            await pilot.press("home", "c", "enter")
            await until(pilot, lambda: bool(commands.ran))
            assert list(commands.ran[0]) == ["db", "cancel", "4711", "-p", "shop", "-c", "main", "--yes"]

        drive(app, body)

    def test_elsewhere_nothing_is_asked(self) -> None:
        app = dashboard(replace(FULL, role="dev"))

        async def body(pilot: Pilots) -> None:
            await pilot.press("3", "T")
            await pilot.pause()
            assert isinstance(app.screen, CommandDialog)
            assert "--yes" not in app.screen.words

        drive(app, body)

    def test_escape_runs_nothing(self) -> None:
        commands = Commands()
        app = dashboard(run=commands)

        async def body(pilot: Pilots) -> None:
            await pilot.press("5", "r")
            await until(pilot, lambda: isinstance(app.screen, CommandDialog))
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, CommandDialog))
            assert commands.ran == []

        drive(app, body)

    def test_a_command_is_copied(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            await pilot.press("5", "e")
            await pilot.pause()
            await pilot.press("ctrl+y")
            assert app.clipboard == "katax cron enable report -p shop"

        drive(app, body)

    def test_what_is_no_command_is_not_copied(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            await pilot.press("3", "T")
            await pilot.pause()
            app.screen.query_one(Input).value = "--reason 'oh"
            await pilot.press("ctrl+y")
            assert app.clipboard == ""

        drive(app, body)

    def test_a_name_that_looks_like_an_option_is_a_name(self) -> None:
        """`cron run --help` would say that all went well."""
        (job, *_) = FULL.jobs.rows
        app = dashboard(replace(FULL, jobs=FULL.jobs._replace(rows=(replace(job, name="--help"),))))

        async def body(pilot: Pilots) -> None:
            await pilot.press("5", "r")
            await pilot.pause()
            assert isinstance(app.screen, CommandDialog)
            app.screen.query_one(Input).value = "--verbose"
            assert line(app.screen.words) == "katax cron run -p shop --verbose -- --help"

        drive(app, body)

    def test_a_quotation_without_end_is_not_run(self) -> None:
        commands = Commands()
        app = dashboard(run=commands)

        async def body(pilot: Pilots) -> None:
            await pilot.press("3", "T")
            await pilot.pause()
            app.screen.query_one(Input).value = "--reason 'oh"
            await pilot.press("enter")
            await pilot.pause()
            assert isinstance(app.screen, CommandDialog)
            assert commands.ran == []

        drive(app, body)

    def test_a_key_of_another_panel_does_nothing(self) -> None:
        app = dashboard()

        async def body(pilot: Pilots) -> None:
            await pilot.press("2", "T", "r")
            await pilot.pause()
            assert not isinstance(app.screen, CommandDialog)

        drive(app, body)

    def test_what_a_command_did_is_looked_at_at_once(self) -> None:
        source = Source()
        app = dashboard(source)

        async def body(pilot: Pilots) -> None:
            await pilot.press("3", "R")
            await pilot.pause()
            asked = source.asked
            await pilot.press("enter")
            await until(pilot, lambda: source.asked == asked + 1)

        drive(app, body)

    def test_commands_stand_in_the_log_when_they_happened_and_not_for_ever(self) -> None:
        later = FULL.log.rows[0]._replace(happened_at=SYSTEM.now() + 3600, text="later")
        app = dashboard(replace(FULL, log=FULL.log._replace(rows=(*FULL.log.rows, later))))

        async def body(pilot: Pilots) -> None:
            for number in range(120):
                app._note(["cron", "run", f"j{number}"], f"{number}")
            assert said(app)[:3] == ["later", "119", "118"]
            assert said(app)[-1] == "ran in 48.2 s"
            assert 100 <= len(app._done) < 110

        drive(app, body)

    def test_a_refusal_is_shown_as_it_was_said(self) -> None:
        said = "'main' is read-only"
        app = dashboard(run=Commands(CommandOutcome(4, said)))

        async def body(pilot: Pilots) -> None:
            await pilot.press("3", "R")
            await pilot.pause()
            await pilot.press("enter")
            await until(pilot, lambda: any(each.level == "error" for each in app._done))
            assert app._done[-1].text == said

        drive(app, body)

    def test_commands_that_take_long_hold_nothing_up(self) -> None:
        released = Event()

        def slow(_words: Sequence[str]) -> CommandOutcome:
            released.wait()
            return CommandOutcome(0, "at last")

        app = dashboard(run=slow)

        async def body(pilot: Pilots) -> None:
            await pilot.press("5", "r")
            await pilot.pause()
            await pilot.press("enter", "1")
            await pilot.pause()
            assert visible(app) == ["connections"]
            released.set()
            await until(pilot, lambda: app._done[-1].text == "at last")

        drive(app, body)


def screen_text(app: Dashboard) -> str:
    return "\n".join(str(strip.text) for strip in app.screen._compositor.render_strips())


def with_lines(count: int) -> Snapshot:
    """The log with lines `0` … `count - 1`, of which it keeps the last 200."""
    first = FULL.log.rows[0]
    lines = tuple(first._replace(happened_at=AT - 1000 + at, text=f"{at}") for at in range(count))
    return replace(FULL, log=FULL.log._replace(rows=lines[-200:]))


def on_screen(log: Pane) -> list[str]:
    """What the rows in view say."""
    top = round(log.table.scroll_y)
    return [str(row.cells[3]) for row in log._rows[top : top + log.table.size.height - 1]]


def said(app: Dashboard) -> list[str]:
    """What stands in the log, the newest first."""
    drawn = pane(app, "log").drawn
    return [row.cells[3].plain for row in drawn.rows] if drawn is not None else []


class CountingDriver(HeadlessDriver):
    """A terminal that counts what is written to it."""

    written: ClassVar[list[str]] = []

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        self.written.append(data)


async def all_written(pilot: Pilots) -> None:
    """Waits until the last of what was to be drawn has been, and forgets it."""
    await pilot.wait_for_scheduled_animations()
    while CountingDriver.written:
        CountingDriver.written.clear()
        await pilot.pause(0.5)


def test_nothing_is_written_when_nothing_changed(clock: FakeClock) -> None:
    """On a clock that stands still: what a busy machine keeps waiting for five seconds is told on the screen."""
    source = Source()
    app = dashboard(source, interval=0.05)
    app.driver_class = CountingDriver

    async def body(pilot: Pilots) -> None:
        await all_written(pilot)
        asked = source.asked
        await until(pilot, lambda: source.asked > asked + 20)
        await pilot.pause(2.2)
        assert CountingDriver.written == []
        source.snapshot = replace(FULL, taken_at=AT + 30, role="stage")
        await until(pilot, lambda: bool(CountingDriver.written))

    drive(app, body, headless=False)


def test_one_changed_number_draws_its_panel_and_nothing_else() -> None:
    source = Source()
    app = dashboard(source)
    app.driver_class = CountingDriver

    async def body(pilot: Pilots) -> None:
        await all_written(pilot)
        rows = FULL.sockets.rows[0]._replace(clients=1205)
        source.snapshot = replace(FULL, sockets=FULL.sockets._replace(rows=(rows,)))
        await pilot.press("f5")
        await until(pilot, lambda: "1205" in "".join(CountingDriver.written))
        text = "".join(CountingDriver.written)
        assert "chat" in text
        assert "cleanup" not in text
        assert "degraded" not in text

    drive(app, body, headless=False)


OBEYED = ("\x1b[31mred", "\x1b]0;", "\u202e", "\x9b", "\r\nline", "\t")


@pytest.mark.begins_first
@pytest.mark.parametrize("snapshot", [FULL, BROKEN, EMPTY], ids=["full", "broken", "empty"])
def test_the_terminal_obeys_nothing_that_others_wrote(snapshot: Snapshot) -> None:
    app = dashboard(hostile(snapshot), run=Commands(CommandOutcome(1, HOSTILE)))
    app.driver_class = CountingDriver
    CountingDriver.written.clear()

    async def body(pilot: Pilots) -> None:
        for screen in "1234567":
            # Without rows there is nothing to open.
            for keys in ([screen], ["enter"], ["escape", "escape"])[: 1 if snapshot is EMPTY else None]:
                await pilot.press(*keys)
                await pilot.pause()
        for keys in (["3", "T"], ["enter"], ["5", "r"], ["escape"], ["3", "colon"], ["escape"]):
            await pilot.press(*keys)
            await pilot.pause()
        await pilot.wait_for_scheduled_animations()
        text = "".join(CountingDriver.written)
        assert "[bold]b[/nope]\\x1b[31m" in text
        assert [each for each in OBEYED if each in text] == []

    drive(app, body, headless=False, size=(200, 60))


def test_the_palette_shows_a_name_as_it_is() -> None:
    app = dashboard(hostile(FULL))

    async def body(pilot: Pilots) -> None:
        await pilot.press("5")
        await pilot.pause()
        await pilot.press("colon", *"run")
        await pilot.pause()
        shown = app.screen.query_one("CommandList", OptionList)

        def first() -> str:
            return str(shown.get_option_at_index(0).prompt) if shown.option_count else ""

        # All commands stand there until those with the word are found.
        await until(pilot, lambda: "Run cleanup[bold]b[/nope]" in first())

    drive(app, body, size=(200, 60))


def test_the_line_on_top_is_not_healthy_beside_a_connection_that_hangs() -> None:
    answering = {name: watched._replace(late=None) for name, watched in FULL.watched.items()}
    healthy = replace(FULL, health=replace(FULL.health, status="healthy"), watched=answering)
    name, watched = next(iter(answering.items()))
    hanging = replace(healthy, watched={**answering, name: watched._replace(late="no answer for 3 s")})

    assert (healthy.status, hanging.status) == ("healthy", "unknown")
    assert replace(hanging, health=replace(FULL.health, status="degraded")).status == "degraded"

    async def body(pilot: Pilots) -> None:
        assert "? unknown" in head(app)

    app = dashboard(hanging)
    drive(app, body)
