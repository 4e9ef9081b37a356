"""The loop of `katax db shell`: a text is read, asked about, run beside the one who may cancel it, and answered."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar, cast

from katax_cli.cli.db.repl.languages import Language, Request, StatementAnswer
from katax_cli.cli.db.repl.writes import Writes
from katax_cli.cli.db.views import COLUMN_HEADER, TABLE_HEADER, column_row, table_row
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.journal import WriteRecord
from katax_cli.cli.shell.output import Output
from katax_cli.cli.shell.scope import Scope
from katax_cli.core.clock import SYSTEM
from katax_cli.core.text.duration import parse_duration
from katax_cli.errors import ConfigError, KataxError, OutcomeUnknown, unknown_name
from katax_cli.services.calls.left_behind import Running

T = TypeVar("T")
_LEAVING = ("exit", "quit", "\\q")
_CANCEL_SECONDS = 5.0
"""How long a cancelled statement may take to come back before its connection is broken, and again before it is left."""
_WATCH_SECONDS = 2.0
_HELP = """\\d [TABLE]          tables, or the columns of one
\\x [on|off|auto]    rows upright
\\watch [DURATION]   repeat the last statement that reads, until Ctrl-C
\\timing             show how long statements take, or no longer
\\?                  this list
\\q, Ctrl-D          leave; an open transaction is rolled back
Ctrl-C              cancel the running statement on the server"""


class ReadsLines(Protocol):
    """Where typed texts come from."""

    def read(self, prompt: list[tuple[str, str]]) -> str: ...


class Cancelled(Exception):
    """The person at the terminal ended a statement, and the server said so."""


class Shell:
    """One language on one connection, for a person or a pipe."""

    def __init__(self, chosen: Scope, language: Language) -> None:
        self._chosen = chosen
        self._call = chosen.call
        self._language = language
        self._dialogue = language.dialogue
        self._writes = Writes(chosen, language.dialogue)
        self._last: Request | None = None
        self._timing = False
        self._talking = False
        self._interrupted = False

    def run_typed(self, line: ReadsLines) -> ExitCode:
        """Until Ctrl-D or `\\q`; an error ends its own text only."""
        self._talking = True
        try:
            while not self._take_turn(line):
                pass
        except BaseException:
            self._end_quietly()
            raise
        return self._leave()

    def _take_turn(self, line: ReadsLines) -> bool:
        """Reads and runs one text; True when it was the last."""
        try:
            text = line.read(self.prompt())
        except KeyboardInterrupt:
            return False
        except EOFError:
            return True
        self._fit_terminal()
        try:
            return self._perform_all(text.splitlines(keepends=True))
        except Cancelled:
            self._call.out.drop()
            self._call.diagnostics.note("cancelled on the server")
        except KeyboardInterrupt:
            self._call.out.drop()
            self._call.diagnostics.note("interrupted")
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of one text: whatever it is, the next may be typed
            if self._interrupted:
                self._call.out.drop()
            self._call.out.show(page=False)
            self._call.diagnostics.failure(error)
        return False

    def run_piped(self, lines: Iterable[str]) -> ExitCode:
        """Runs what stands in the lines; the first error ends it and is raised.

        Raises KataxError, after it was rolled back, for a transaction that is open at the end.
        """
        try:
            self._perform_all(lines)
        except Cancelled:
            self._end_quietly()
            raise KeyboardInterrupt from None
        except BaseException:
            self._end_quietly()
            raise
        if self._close():
            raise KataxError(
                f"the input ended inside a transaction on {self._chosen.one.name!r}, so it was rolled back; "
                f"end it with {self._language.commit}"
            )
        return ExitCode.DONE

    def prompt(self) -> list[tuple[str, str]]:
        """`PROFILE/CONNECTION (ROLE)=> `; `=*>` in a transaction, `=!>` in one that failed or is lost."""
        profile = self._chosen.profile
        role = "prod" if profile.role == "prod" else "role"
        mark = {"none": "=> ", "open": "=*> ", "failed": "=!> ", "lost": "=!> "}[self._dialogue.state]
        kind = "" if self._dialogue.state == "none" else "open"
        return [(role, f"{profile.name}/{self._chosen.one.name} ({profile.role})"), (kind, mark)]

    def _perform_all(self, lines: Iterable[str]) -> bool:
        """True when one of them was to leave."""
        return any(map(self._perform, self._language.texts(lines)))

    def _perform(self, text: str) -> bool:
        if text.strip().rstrip(";").strip().lower() in _LEAVING:
            return True
        if text.startswith("\\"):
            self._obey(text)
            return False
        for request in self._language.requests(text):
            self._execute(request)
        return False

    def _execute(self, request: Request, *, page: bool = True) -> None:
        asks = self._writes.agree(request)
        self._last = request
        began = SYSTEM.monotonic()
        try:
            with self._writes.recording(request) as record:
                answer = self._answered(request, record, asks=asks)
        except BaseException as error:
            self._writes.ended(committed=False, error=error)
            raise
        self._writes.ended(committed=request.commits)
        answer.last()
        took = SYSTEM.monotonic() - began
        self._call.out.show(page=page and self._talking)
        if self._talking and answer.remark is not None:
            self._call.diagnostics.note(f"({answer.remark})")
        if self._timing:
            self._call.diagnostics.note(f"time: {took * 1000:.1f} ms")
        if self._interrupted:
            # It had ended before it could be cancelled; what would follow is not run all the same.
            raise KeyboardInterrupt

    def _answered(self, request: Request, record: WriteRecord, *, asks: bool) -> StatementAnswer:
        """Runs the statement; one that `asks` in a transaction of its own, which is committed after an answer."""
        ending = request.ending
        if not asks or ending is None:
            answer = self._run(request.run)
            record.rows = answer.changed
            return answer
        self._run(ending("BEGIN"))
        record.undoable = True
        try:
            answer = self._run(request.run)
            if self._interrupted:
                raise KeyboardInterrupt
        except BaseException:
            if self._dialogue.state in ("open", "failed"):
                self._run(ending("ROLLBACK"))
            elif self._dialogue.state == "lost":
                # Its user began no transaction that would have to be closed.
                self._dialogue.close()
            raise
        record.rows = answer.changed
        self._writes.settle(request, answer.changed, lambda word: self._run(ending(word)))
        return answer

    def _run(self, work: Callable[[Output], StatementAnswer]) -> StatementAnswer:
        return self._awaited(partial(work, self._call.out))

    def _awaited(self, work: Callable[[], T]) -> T:
        """Runs `work` in a thread of its own, so that Ctrl-C can end it on the server. Raises Cancelled then."""
        self._interrupted = False
        running = Running()
        try:
            running.start("katax-statement", work)
            running.ended(None)
        except KeyboardInterrupt:
            self._interrupted = True
            self._cancel(running)
        except BaseException:
            self._cancel(running)
            raise
        error = running.outcome
        if not isinstance(error, BaseException):
            return cast("T", error)
        if self._interrupted and isinstance(error, KataxError) and self._was_cancelled(error):
            raise Cancelled from error
        raise error

    def _was_cancelled(self, error: KataxError) -> bool:
        """True when the server said that it ended the statement: the connection lives, and nothing is in doubt."""
        return self._dialogue.connected and not isinstance(error, OutcomeUnknown)

    def _cancel(self, running: Running) -> None:
        """Ends a statement on the server; breaks its connection when that does not help, and leaves it at last."""
        for end in (self._dialogue.cancel, self._dialogue.interrupt):
            if running.ended(0):
                return
            with suppress(KeyboardInterrupt):
                end()
                if running.ended(_CANCEL_SECONDS):
                    return
        if not running.ended(0):
            running.outcome = OutcomeUnknown(
                self._chosen.one.name, "the server did not answer, and the statement could not be cancelled"
            )

    def _close(self) -> bool:
        """Ends the session; True when a transaction was open, which is rolled back."""
        was_open = self._dialogue.close()
        self._writes.ended(committed=False)
        return was_open

    def _leave(self) -> ExitCode:
        try:
            if self._close():
                self._call.diagnostics.note("the open transaction was rolled back")
        except KataxError as error:
            return self._call.diagnostics.failure(error)
        return ExitCode.DONE

    def _end_quietly(self) -> None:
        """Rolls back what is open, and says so; the error that ended the input is the one that is raised."""
        try:
            if self._close():
                self._call.diagnostics.note("the open transaction was rolled back")
        except KataxError as second:
            self._call.diagnostics.note(f"rolling back the open transaction failed: {second}")

    def _fit_terminal(self) -> None:
        """The terminal may have another size by now."""
        if self._call.out.width is not None:
            with suppress(OSError):
                self._call.out.fit(*os.get_terminal_size(sys.stdout.fileno()))
        if self._call.diagnostics.width is not None:
            with suppress(OSError):
                self._call.diagnostics.width = os.get_terminal_size(sys.stderr.fileno()).columns

    def _obey(self, line: str) -> None:
        """Runs a command that begins with a backslash."""
        name, *words = line.rstrip(";").split()
        commands: Mapping[str, Callable[[list[str]], None]] = {
            "\\d": self._describe,
            "\\dt": self._describe,
            "\\x": self._expand,
            "\\watch": self._watch,
            "\\timing": self._time,
            "\\?": lambda _: self._call.out.text(_HELP),
        }
        if name not in commands:
            raise ConfigError(
                f"{unknown_name('command', name, list(commands), 'commands')}; \\? explains them"
            )
        if len(words) > 1:
            raise ConfigError(f"{name} takes one word, given {len(words)}")
        commands[name](words)
        self._call.out.show(page=self._talking)

    def _describe(self, words: list[str]) -> None:
        out = self._call.out
        if not words:
            tables = self._awaited(self._language.tables)
            out.rows(TABLE_HEADER, [[table_row(table) for table in tables]])
            return
        found = self._awaited(lambda: self._language.describe(words[0]))
        if found is None:
            raise KataxError(f"no table named {words[0]!r} on {self._chosen.one.name!r}; \\d lists them")
        out.rows(COLUMN_HEADER, [[column_row(found, column) for column in found.columns]])

    def _expand(self, words: list[str]) -> None:
        out = self._call.out
        mode = words[0] if words else ("auto" if out.expanded == "on" else "on")
        if mode not in ("on", "off", "auto"):
            raise ConfigError(f"\\x takes on, off or auto, given {mode!r}")
        out.expanded = mode  # type: ignore[assignment]
        self._call.diagnostics.note(f"rows upright: {mode}")

    def _time(self, words: list[str]) -> None:
        self._timing = words[0] == "on" if words else not self._timing
        self._call.diagnostics.note(f"timing: {'on' if self._timing else 'off'}")

    def _watch(self, words: list[str]) -> None:
        request = self._last
        if request is None or not request.reads:
            raise ConfigError("\\watch repeats the last statement, which must be one that reads")
        try:
            seconds = parse_duration(words[0]) if words else _WATCH_SECONDS
        except ValueError as error:
            raise ConfigError(f"\\watch: {error}") from error
        while True:
            self._execute(request, page=False)
            SYSTEM.sleep(max(seconds, 0.1))
            self._fit_terminal()


def typed_lines(stream: Iterable[bytes]) -> Iterator[str]:
    """The lines of a pipe as they arrive. Raises ConfigError for what is no UTF-8."""
    for number, line in enumerate(stream, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"line {number} of the input is not UTF-8: {error.reason}") from error
