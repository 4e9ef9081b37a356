"""The text of a `.sql` migration into its sections: katax's markers and dbmate's, and directives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from katax_cli.core.sql import Dialect, Statement, comments, split
from katax_cli.core.text.duration import parse_duration
from katax_cli.errors import MigrationError
from katax_cli.services.migrate.files.other_tools import UP_SUFFIX
from katax_cli.services.migrate.values import Directives, MigrationScript, Section

_MARKER = re.compile(
    r"^--[ \t]*(?:(?P<own>UP|DOWN|VERIFY)[ \t]*|migrate:(?P<dbmate>up|down)(?P<options>[ \t][^\r\n]*)?)\r?$",
    re.MULTILINE,
)
_OPENS = re.compile(r"/\*|[$\\\[]")
_DIRECTIVE = re.compile(r"^--[ \t]*katax:([^\r\n]*)", re.MULTILINE)
_COPIES = re.compile(r"(?i)\bfrom\s+stdin\b")
_NO_LINE_END = re.compile(r"[^\r\n]")
_KNOWN = "no-transaction, lock-timeout=2s, statement-timeout=30s"


def parse(text: str, name: str, dialect: Dialect, *, sections: Sequence[int] = ()) -> MigrationScript:
    """The sections of a migration. Raises MigrationError that names the file when they make no sense.

    A marker inside a literal, a block comment or the data of a COPY is none. With `sections` they begin at these
    bytes, and nowhere else.
    """
    code = _without_data(text, dialect)
    markers = list(_comments(_MARKER, code, dialect))
    if sections:
        _refuse_other_sections(text, markers, sections, name)
    first = markers[0].start() if markers else len(text)
    _refuse_stray_statements(text[:first], name, dialect)
    general = _directives(code[:first], Directives(), name, dialect)
    found: dict[str, Section] = {}
    ends = [*(marker.start() for marker in markers[1:]), len(text)]
    for marker, end in zip(markers, ends, strict=False):
        kind = (marker["own"] or marker["dbmate"]).lower()
        if kind in found:
            raise MigrationError(f"migration {name} has two {kind.upper()} sections; join them")
        body = text[marker.end() : end]
        options = _dbmate_options(marker["options"] or "", general, name)
        # Each of golang-migrate's two files begins with its first line; the markers stand in neither.
        line = 0 if name.endswith(UP_SUFFIX) else text.count("\n", 0, marker.end()) + 1
        found[kind] = Section(body, line, _directives(code[marker.end() : end], options, name, dialect))
    if "up" not in found:
        raise MigrationError(
            f"migration {name} has no UP section; write '-- UP' or '-- migrate:up' above its statements"
        )
    return MigrationScript(found["up"], found.get("down"), found.get("verify"))


def _refuse_other_sections(
    text: str, markers: Sequence[re.Match[str]], sections: Sequence[int], name: str
) -> None:
    """Raises MigrationError for halves of a pair that are not one section each."""
    if len(markers) > len(sections):
        lines = [marker[0].strip() for marker in markers[1:]]
        stray = next((line for line in lines if line != "-- DOWN"), "-- DOWN")
        raise MigrationError(
            f"migration {name} or its other half holds a line {stray!r}; each file of a pair is one "
            "section, so remove that line, or write both sections to one file without .up or .down in its name"
        )
    if [len(text[: marker.start()].encode()) for marker in markers] != list(sections):
        raise MigrationError(
            f"migration {name} leaves a literal or a comment open, which would reach into its other half; close it"
        )


def statements(section: Section, dialect: Dialect) -> list[Statement]:
    """The statements of a section, with their lines in the file."""
    return [replace(one, line=one.line + section.line - 1) for one in split(section.text, dialect)]


def _without_data(text: str, dialect: Dialect) -> str:
    """The text with blanks in place of what COPY reads, which may look like anything."""
    if dialect != "postgresql" or _COPIES.search(text) is None:
        return text
    parts, done = [], 0
    for statement in split(text, dialect):
        if statement.copy_data:
            start = text.index("\n", statement.offset + len(statement.text)) + 1
            parts += [text[done:start], _NO_LINE_END.sub(" ", statement.copy_data)]
            done = start + len(statement.copy_data)
    return "".join([*parts, text[done:]])


def _comments(pattern: re.Pattern[str], text: str, dialect: Dialect) -> Iterator[re.Match[str]]:
    """The matches that are comments, not lines of a literal."""
    lines = list(pattern.finditer(text))
    if lines and not _may_span_lines(text):
        yield from lines
    elif lines:
        begins = set(comments(text, dialect))
        yield from (line for line in lines if line.start() in begins)


def _may_span_lines(text: str) -> bool:
    """True when a literal or comment could reach over a line's end; spares most files the tokenizer.

    It cannot when every line has quotes of one kind only, an even number of them, and nothing else that opens.
    """
    if _OPENS.search(text):
        return True
    return any(_is_odd(line) for line in text.splitlines() if "'" in line or '"' in line or "`" in line)


def _is_odd(line: str) -> bool:
    counts = [line.count(quote) for quote in "'\"`"]
    return sum(map(bool, counts)) > 1 or sum(counts) % 2 == 1


def _refuse_stray_statements(head: str, name: str, dialect: Dialect) -> None:
    stray = next(split(head, dialect), None)
    # Without any marker the missing section is the better message.
    if stray is not None and _MARKER.search(head) is None and head.strip() != "":
        raise MigrationError(
            f"migration {name} has a statement outside its sections at line {stray.line}; "
            "write '-- UP' or '-- migrate:up' above its statements"
        )


def _dbmate_options(options: str, general: Directives, name: str) -> Directives:
    for option in options.split():
        key, _, value = option.partition(":")
        if key == "transaction" and value in ("true", "false"):
            general = general._replace(transaction=value == "true")
        else:
            raise MigrationError(
                f"migration {name} has unknown option {option!r}; expected transaction:false"
            )
    return general


def _directives(text: str, given: Directives, name: str, dialect: Dialect) -> Directives:
    for line in _comments(_DIRECTIVE, text, dialect):
        for word in re.split(r"[,\s]+", line[1].strip()):
            given = _with_directive(given, word, name)
    return given


def _with_directive(given: Directives, word: str, name: str) -> Directives:
    key, _, value = word.partition("=")
    if word == "no-transaction":
        return given._replace(transaction=False)
    try:
        if key == "lock-timeout":
            return given._replace(lock_timeout=parse_duration(value))
        if key == "statement-timeout":
            return given._replace(statement_timeout=parse_duration(value))
    except ValueError as error:
        raise MigrationError(f"migration {name}, directive {word!r}: {error}") from error
    raise MigrationError(f"migration {name} has unknown directive {word!r}; known: {_KNOWN}")
