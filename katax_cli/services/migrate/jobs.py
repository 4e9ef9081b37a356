"""A migration in one direction, read and checked, ready to be run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from katax_cli.core.sql import Dialect, Statement, code_tokens, mentioned, normalise
from katax_cli.errors import MigrationError
from katax_cli.services.migrate.files import python
from katax_cli.services.migrate.files.other_tools import UP_SUFFIX
from katax_cli.services.migrate.files.sections import parse, statements
from katax_cli.services.migrate.ledger.intent import changes
from katax_cli.services.migrate.values import Direction, Directives, MigrationFile, Section

_ENDS_TRANSACTION = re.compile(r"(?i)\b(begin|start|commit|end|abort|rollback)\b")
_RELEASES_LOCKS = re.compile(r"(?i)unlock|discard|\bdo\b|\bcall\b|\bselect\b|\bexecute\b")
_SETS = re.compile(
    r"(?im)(?:^|;|\*/)[ \t]*(?:/\*M?!\d*)?\s*(?:set|use|reset|pragma|attach|call|do)\b|\bset_config\b"
    r"|temp(?:orary)?\b"
)
_TEMPORARY = re.compile(r"(?i)temporary")
_LOCKS_TABLES = re.compile(r"(?i)lock\s+table")
_SEARCHED = 262_144
"""Bytes of a file up to which it is searched for such words; of a longer one the worst is assumed, at a few round
trips."""


class MigrationJob(NamedTuple):
    """The work of a migration: the statements of a section, or a function of a `.py` file."""

    file: MigrationFile
    direction: Direction
    directives: Directives
    statements: tuple[Statement, ...] = ()
    function: Callable[[Any], object] | None = None
    locks_tables_at: int | None = None
    """The line of the first LOCK TABLES, none of which are run."""

    @property
    def version(self) -> str:
        return self.file.version

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def may_release_locks(self) -> bool:
        """True for code, and for statements that could release the session's locks."""
        return self._is_long_or_code or _RELEASES_LOCKS.search(self.file.text) is not None

    @property
    def may_set_session(self) -> bool:
        """True for code, and for statements that could leave settings or temporary tables in their session."""
        return self._is_long_or_code or _SETS.search(self.file.text) is not None

    @property
    def _is_long_or_code(self) -> bool:
        return self.function is not None or len(self.file.data) > _SEARCHED

    def temporary_tables(self, dialect: Dialect) -> list[str]:
        """The temporary tables that its statements make, as they are spelled there."""
        return [
            change.spelled
            for statement in self.statements
            if _TEMPORARY.search(statement.text) and "temporary" in mentioned(statement.text, dialect)
            for change in changes(statement.text, dialect)
            if (change.effect, change.kind) == ("create", "table")
        ]

    @property
    def is_plain(self) -> bool:
        """True for statements without data and without a time limit of their own: several may be sent at once."""
        copies = any(statement.copy_data is not None for statement in self.statements)
        return bool(self.statements) and not copies and self.directives.statement_timeout is None


class Fingerprint:
    """Of the first statements of a job by their meaning; each is read once while the count does not fall."""

    def __init__(self, job: MigrationJob, dialect: Dialect) -> None:
        self._statements = job.statements
        self._dialect = dialect
        self._hash = sha256()
        self._count = 0

    def of(self, count: int) -> str:
        """Of the first `count` statements."""
        if count < self._count:
            self._hash, self._count = sha256(), 0
        for statement in self._statements[self._count : count]:
            meaning = normalise(statement.text, self._dialect)
            self._hash.update(meaning.encode("utf-8", "surrogatepass"))
        self._count = count
        return self._hash.hexdigest()


def make_job(file: MigrationFile, direction: Direction, dialect: Dialect | None) -> MigrationJob:
    """Reads a migration; without a dialect only `.py` files can be run. Raises MigrationError when it cannot be."""
    if file.is_python:
        return _python_job(file, direction)
    if dialect is None:
        raise MigrationError(
            f"migration {file.name} is SQL, which mongodb does not run; write it as a .py file"
        )
    script = parse(file.text, file.name, dialect, sections=file.sections)
    section = script.up if direction == "up" else script.down
    if section is None:
        raise MigrationError(
            f"migration {file.name} has no DOWN section; write '-- DOWN' to make it revertible"
        )
    written = statements(section, dialect)
    statements_of_job = tuple(_for_server(file, written, dialect))
    if file.name.endswith(UP_SUFFIX) and dialect != "mysql":
        statements_of_job = _without_own_transaction(statements_of_job)
    if section.directives.transaction:
        _refuse_transaction_control(file, section.text, statements_of_job, dialect)
    locks = next((one.line for one in written if _locks_tables(one, dialect)), None)
    return MigrationJob(file, direction, section.directives, statements_of_job, locks_tables_at=locks)


def script_job(file: MigrationFile, dialect: Dialect) -> MigrationJob:
    """A file without sections, such as a dump: all of it is run. Raises MigrationError when it cannot be."""
    written = statements(Section(file.text, 1, Directives()), dialect)
    return MigrationJob(file, "up", Directives(), tuple(_for_server(file, written, dialect)))


def _python_job(file: MigrationFile, direction: Direction) -> MigrationJob:
    function = python.load(file, direction)
    if function is None:
        raise MigrationError(f"migration {file.name} has no function {direction}(db); write one")
    return MigrationJob(file, direction, python.directives(file.text), function=function)


def _for_server(
    file: MigrationFile, statements_read: Sequence[Statement], dialect: Dialect
) -> list[Statement]:
    """Without what dumps say to their client. Raises MigrationError for a line that would have to be obeyed."""
    for statement in statements_read:
        if statement.client_line is not None and not statement.is_ignorable:
            raise MigrationError(
                f"migration {file.name} has {statement.client_line.split()[0]} for psql at line {statement.line}; "
                "no server takes it, so write it in SQL or remove it"
            )
    return [one for one in statements_read if not one.is_ignorable and not _locks_tables(one, dialect)]


def _without_own_transaction(found: Sequence[Statement]) -> tuple[Statement, ...]:
    """golang-migrate opens no transaction, so its files often do, around all of it: as ours."""
    ends = [found[0].text.upper().split(), found[-1].text.upper().split()] if len(found) > 1 else []
    wrapped = ends in ([["BEGIN"], ["COMMIT"]], [["BEGIN", "TRANSACTION"], ["COMMIT"]], [["BEGIN"], ["END"]])
    return tuple(found[1:-1] if wrapped else found)


def _locks_tables(statement: Statement, dialect: Dialect) -> bool:
    """MySQL's LOCK TABLES would shut out the ledger, and the transaction of the next change would end it."""
    if dialect != "mysql" or _LOCKS_TABLES.search(statement.text) is None:
        return False
    words = [
        token.text.upper() for _, token in zip(range(2), code_tokens(statement.text, dialect), strict=False)
    ]
    return words[0] in ("LOCK", "UNLOCK") and words[1:] in (["TABLES"], ["TABLE"])


def _refuse_transaction_control(
    file: MigrationFile, text: str, found: Sequence[Statement], dialect: Dialect
) -> None:
    """A COMMIT in a file would end the transaction that holds the file and its record together.

    On MySQL, where there is no such transaction, files may open their own.
    """
    if dialect == "mysql" or _ENDS_TRANSACTION.search(text) is None:
        return
    for statement in found:
        words = [
            token.text.upper()
            for _, token in zip(range(3), code_tokens(statement.text, dialect), strict=False)
        ]
        ends = words[:1] in (["COMMIT"], ["END"], ["ABORT"], ["BEGIN"]) or words[:2] == [
            "START",
            "TRANSACTION",
        ]
        if ends or (words[:1] == ["ROLLBACK"] and "TO" not in words):
            raise MigrationError(
                f"migration {file.name} has {words[0]} at line {statement.line}, but runs in a transaction; "
                "remove it or write '-- katax: no-transaction'"
            )
