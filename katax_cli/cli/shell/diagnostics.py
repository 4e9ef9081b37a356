"""Everything that goes to stderr: notes for people, errors, and the log's configuration."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from katax_cli.cli.shell.exits import ExitCode, exit_code_for
from katax_cli.core.text.text import printable, to_json
from katax_cli.errors import KataxError, QueryError

if TYPE_CHECKING:
    import logging


_INDENT = "  "
"""Before what goes on in a further line, which is thereby no line of its own."""


@dataclass(slots=True)
class Diagnostics:
    """Narrates on stderr. With `json`, says nothing but one error object. `errors` are the lines of errors so far.

    `width`: columns of the terminal that stderr is; what is longer goes on in the next line there, at a blank.
    """

    stream: TextIO
    json: bool = False
    quiet: bool = False
    debug: bool = False
    width: int | None = None
    errors: list[str] = field(default_factory=list)
    above: list[Callable[[str], None]] = field(default_factory=list)
    """The function that writes a line above a bar that is shown, if one is."""
    noted: set[str] = field(default_factory=set)
    logs: bool = False

    def note_once(self, text: str) -> None:
        """A note that may come up again in one command, as it uses a profile more than once."""
        if text not in self.noted:
            self.noted.add(text)
            self.note(text)

    def note(self, text: str) -> None:
        """One line for people; nothing under `-q` or `-f json`."""
        if not (self.json or self.quiet):
            self._write(self._fitted(printable(_hushed(text))))

    def ask(self, question: str) -> None:
        """Puts a question to the person at the terminal; the cursor stays behind it."""
        sys.stdout.flush()
        self.stream.write(self._fitted(printable(_hushed(question))))
        self.stream.flush()

    def end_line(self) -> None:
        """Ends the line in which a terminal echoed Ctrl-C, so that the shell's prompt has its own."""
        if self.width is not None:
            self._write("")

    def error(self, message: str, *, name: str, exit_code: int, refusal: QueryError | None = None) -> None:
        """One line that says what went wrong and how to go on; up to three with what the server said of a statement."""
        line = _one_line(message)
        self.errors.append(line)
        if self.json:
            facts = {"code": name, "message": line, "exit": int(exit_code), **_facts(refusal)}
            self._write(to_json({"error": facts}))
            return
        self._write(self._fitted(f"katax: {printable(line)}"))
        for told in _told(refusal):
            self._write(told)
        for said in _said(refusal):
            self._write(self._fitted(said))

    def failure(self, error: BaseException) -> ExitCode:
        """Reports an error and returns its exit code; the traceback, without locals, only under --debug."""
        if self.debug:
            import traceback

            self._write(_hushed("".join(traceback.format_exception(error)).rstrip()))
        code = exit_code_for(error)
        name = snake_case(type(error).__name__)
        self.error(_sentence(error), name=name, exit_code=code, refusal=_refusal(error))
        return code

    @contextmanager
    def log(self, level: str, format: str) -> Iterator[None]:
        """Shows what katax logs from `level` on, as lines for people or one JSON object each; `off`: nothing.

        Within another one, of a command that uses two profiles, that one stays.
        """
        if self.logs:
            yield
            return
        import logging

        logger = logging.getLogger("katax")
        before = logger.level, logger.propagate
        handler = logging.NullHandler() if level == "off" else logging.StreamHandler(self.stream)
        handler.setFormatter(_formatter(format, self._fitted))
        logger.setLevel(_LEVELS.get(level, level.upper()))
        logger.propagate = False
        logger.addHandler(handler)
        self.logs = True
        try:
            yield
        finally:
            self.logs = False
            logger.removeHandler(handler)
            logger.level, logger.propagate = before

    def _fitted(self, text: str) -> str:
        if self.width is None or len(text) * 2 <= self.width:
            return text
        from katax_cli.cli.display.widths import wrapped

        return "\n".join(wrapped(text, self.width, _INDENT))

    def _write(self, text: str) -> None:
        # A full disk must not hide what is to be said, nor change the exit code when stderr itself is on it.
        with suppress(OSError):
            sys.stdout.flush()
        with suppress(OSError):
            if self.above:
                self.above[-1](text)
                return
            self.stream.write(text + "\n")
            self.stream.flush()


def _one_line(text: str) -> str:
    return " ".join(_hushed(text).split())


def _refusal(error: BaseException | None) -> QueryError | None:
    """The refused statement that an error is about: itself, or what it came from."""
    seen: set[int] = set()
    while error is not None and not isinstance(error, QueryError):
        if id(error) in seen:
            return None
        seen.add(id(error))
        error = error.__cause__
    return error


def _facts(refusal: QueryError | None) -> dict[str, object]:
    """The server's words, for JSON; empty where it said nothing."""
    if refusal is None:
        return {}
    told = {
        "hint": refusal.hint and _one_line(refusal.hint),
        "detail": refusal.detail and _one_line(refusal.detail),
        "position": refusal.position,
        "sqlstate": refusal.sqlstate,
    }
    return {name: value for name, value in told.items() if value is not None}


def _told(refusal: QueryError | None) -> Iterator[str]:
    """The line of the statement, and the caret under it."""
    if refusal is None or len(refusal.excerpt) != 2:
        return
    line, caret = refusal.excerpt
    yield printable(_hushed(line))
    # Under a line with a mask the caret would point at another word.
    if _hushed(line) == line:
        yield printable(caret)


def _said(refusal: QueryError | None) -> Iterator[str]:
    """DETAIL and HINT of the server, in one line."""
    if refusal is None:
        return
    said = (("DETAIL", refusal.detail), ("HINT", refusal.hint))
    more = [f"{kind}: {_one_line(text)}" for kind, text in said if text]
    if more:
        yield printable("  ".join(more))


# What the standard library has no name for.
_LEVELS: dict[str, int | str] = {"trace": 5, "fatal": "CRITICAL", "off": "CRITICAL"}


def _formatter(format: str, fitted: Callable[[str], str]) -> logging.Formatter:
    import logging

    if format == "json":
        from katax_cli.core.settings import revealed_secrets
        from katax_cli.core.text.redact import Redactor
        from katax_cli.services.program.logger import JsonLines

        return JsonLines(Redactor(revealed_secrets))

    class Console(logging.Formatter):
        def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
            return fitted(f"{record.levelname.lower()} {record.name}: {printable(_hushed(record.message))}")

        def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
            return _hushed(super().formatException(ei))

    return Console()


def _hushed(text: str) -> str:
    """The last net for secrets: whatever a driver or a program put into its text, they are not printed.

    Applied before a text is escaped, since an escaped secret would not be found.
    """
    # Most commands have nothing to say: they do not pay for it.
    from katax_cli.core.settings import revealed_secrets
    from katax_cli.core.text.redact import Redactor

    return Redactor(revealed_secrets).text(text)


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AT_A_LIMIT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def _sentence(error: BaseException) -> str:
    """Our errors and wrong values speak for themselves; anything else is a defect and says so."""
    if isinstance(error, KataxError | ValueError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        what = "the output" if error.filename is None else repr(error.filename)
        return f"cannot write {what}: {error.strerror}; the output is incomplete"
    if _is_at_a_limit(error):
        said = f"this process gets no more of the machine: {str(error) or 'memory'}; raise its limits (ulimit -a)"
        return f"{said}; if they are high, repeat with --debug and report it"
    return f"internal error: {type(error).__name__}: {error}; repeat with --debug and report it"


def _is_at_a_limit(error: BaseException) -> bool:
    no_thread = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    return isinstance(error, MemoryError) or no_thread or getattr(error, "errno", None) in _AT_A_LIMIT


def snake_case(name: str) -> str:
    """`PoolTimeout` → `pool_timeout`, the `code` of JSON errors."""
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
