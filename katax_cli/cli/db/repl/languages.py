"""The three languages of `katax db shell`: a text becomes requests, and their answers are written."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

from katax_cli.cli.db.documents.output import fields_and_rows
from katax_cli.cli.db.repl.replies import as_cell, as_json, drawn, parts_of
from katax_cli.cli.db.repl.suggestions import Suggest, of_mongodb, of_redis, of_sql
from katax_cli.cli.db.run import may_write, redacted
from katax_cli.cli.shell.output import OF_A_SERVER, Output
from katax_cli.cli.shell.redis import harm_of_command
from katax_cli.core.engine_names import TABLE_ENGINES
from katax_cli.core.roles import Tier
from katax_cli.core.sql import Statement, ends_statement, split, statement_of
from katax_cli.core.text import mongo_call
from katax_cli.core.text.text import counted, printable
from katax_cli.engines.base import Row, Table, TableDescription
from katax_cli.errors import ConfigError, KataxError, WrongEngine
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.dialogue.mongodb import Document, MongoDialogue, MongoRequest
from katax_cli.services.dialogue.names import RememberedNames
from katax_cli.services.dialogue.redis import RedisDialogue, RedisWords, words_of
from katax_cli.services.dialogue.sql import SqlDialogue, TransactionState
from katax_cli.services.tables.scripts import harm_of

_DRAWN_DOCUMENTS = 1000
"""Documents of a table, whose columns are the fields of all of them."""
_LONG = 16_384
_DELIMITER = re.compile(r"^[ \t]*delimiter[ \t]+(\S+)", re.IGNORECASE | re.MULTILINE)


class StatementAnswer(NamedTuple):
    """The end of a statement: a remark for people, the rows that it changed, and what is written once that lasts."""

    remark: str | None = None
    changed: int | None = None
    last: Callable[[], object] = lambda: None


class Request(NamedTuple):
    """One statement: `run` writes its answer; `harm` is what is asked about before.

    `journal` is its text without values, None for what writes nothing; `commits`: makes an open transaction last.
    """

    text: str
    run: Callable[[Output], StatementAnswer]
    harm: tuple[Tier, str] | None = None
    reads: bool = False
    journal: str | None = None
    commits: bool = False
    irrevocable: bool = False
    """Changes what is there, and no transaction could take it back."""
    statement: Statement | None = None
    ending: Callable[[str], Callable[[Output], StatementAnswer]] | None = None
    """What runs BEGIN, COMMIT or ROLLBACK around a change that is asked about."""


class Dialogue(Protocol):
    """The connection behind a language."""

    @property
    def state(self) -> TransactionState: ...
    @property
    def connected(self) -> bool: ...
    def cancel(self) -> None: ...
    def interrupt(self) -> None: ...
    def close(self) -> bool: ...


class Language(ABC):
    """Texts of one kind of server. `dialogue` runs them, `suggest` completes them."""

    dialogue: Dialogue
    suggest: Suggest
    names: RememberedNames
    commit = "COMMIT"
    """The word that makes a transaction last."""

    @abstractmethod
    def is_whole(self, text: str) -> bool:
        """True when nothing of the last statement is still to come."""

    @abstractmethod
    def requests(self, text: str) -> Iterator[Request]:
        """The statements of a text. Raises ConfigError for what is none."""

    @abstractmethod
    def tables(self) -> list[Table]:
        """Tables or collections."""

    @abstractmethod
    def describe(self, name: str) -> TableDescription | None:
        """One of them; None when there is none."""

    def may_end(self, line: str, size: int) -> bool:
        """False when a text of this size cannot be whole by its last line, so that it need not be read again."""
        return True

    def texts(self, lines: Iterable[str]) -> Iterator[str]:
        """Lines as whole texts; a line that begins with a backslash stands alone, the last text may lack its end."""
        kept: list[str] = []
        size = 0
        for line in lines:
            if not kept and (not line.strip() or line.lstrip().startswith("\\")):
                if line.strip():
                    yield line.strip()
                continue
            kept.append(line)
            size += len(line)
            if self.may_end(line, size) and self.is_whole(text := "".join(kept)):
                yield text
                kept.clear()
                size = 0
        if "".join(kept).strip():
            yield "".join(kept)


class SqlLanguage(Language):
    """SQL, in the dialect of its server."""

    dialogue: SqlDialogue

    def __init__(self, database: SqlDatabase, dialogue: SqlDialogue) -> None:
        self.dialogue = dialogue
        self.names = RememberedNames(database)
        self.suggest = of_sql(self.names, database.dialect)
        self._dialect = database.dialect

    def is_whole(self, text: str) -> bool:
        if text.lstrip().startswith("\\"):
            return True
        changed = _DELIMITER.findall(text) if self._dialect == "mysql" else []
        return (not changed or changed[-1] == ";") and ends_statement(text, self._dialect)

    def may_end(self, line: str, size: int) -> bool:
        return line.rstrip().endswith(";") or (";" in line and size < _LONG)

    def requests(self, text: str) -> Iterator[Request]:
        for statement in split(text, self._dialect):
            if statement.copy_data is not None:
                raise ConfigError(
                    "COPY … FROM stdin is for psql; use --native, or 'katax db exec' with INSERT"
                )
            if statement.client_line is not None:
                raise ConfigError(f"{statement.client_line.split()[0]} stands on a line of its own; see \\?")
            yield Request(
                statement.text,
                partial(self._run, statement),
                harm_of([statement]),
                reads=statement.kind == "read",
                journal=redacted([statement]) if may_write(statement) else None,
                # What MySQL commits by itself commits what was open before it.
                commits=statement.effect.verb in ("COMMIT", "END") or statement.commits_by_itself,
                statement=statement,
                ending=self._ending,
            )

    def tables(self) -> list[Table]:
        return self.dialogue.tables()

    def describe(self, name: str) -> TableDescription | None:
        return self.dialogue.describe(name)

    def _ending(self, word: str) -> Callable[[Output], StatementAnswer]:
        """BEGIN, COMMIT or ROLLBACK of a change that is asked about."""
        statement = statement_of(word, self._dialect)

        def end(_out: Output) -> StatementAnswer:
            self.dialogue.run(statement, lambda _columns, _rows: None, text=False)
            return StatementAnswer()

        return end

    def _run(self, statement: Statement, out: Output) -> StatementAnswer:
        counts: list[int] = []

        def take(columns: Sequence[str], batches: Iterable[Sequence[Row]]) -> None:
            counts.append(out.rows(columns, batches, OF_A_SERVER))

        affected = self.dialogue.run(statement, take, text=out.texts)
        if statement.kind not in ("read", "write", "transaction", "session"):
            self.names.forget()
        changed = None if statement.effect.uncounted else affected
        if counts:
            return StatementAnswer(counted(counts[0], "row"), changed)
        if out.format in ("table", "vertical", "markdown"):
            told = statement.kind == "write" and affected is not None
            text = f"{statement.effect.verb} {affected}" if told else statement.effect.verb
            return StatementAnswer(None, changed, partial(out.text, text))
        return StatementAnswer(None, changed, partial(out.action, {"rows_affected": affected}))


class RedisLanguage(Language):
    """Redis commands, one on each line."""

    commit = "EXEC"
    dialogue: RedisDialogue

    def __init__(self, database: RedisDatabase, dialogue: RedisDialogue) -> None:
        self.dialogue = dialogue
        self.names = RememberedNames(database)
        self.suggest = of_redis(self.names)

    def is_whole(self, text: str) -> bool:
        return True

    def requests(self, text: str) -> Iterator[Request]:
        for line in text.splitlines():
            words = words_of(line)
            if not words:
                continue
            spelled = [word.decode("utf-8", "replace") for word in words[:2]]
            reads = self.dialogue.only_reads(words)
            yield Request(
                line,
                partial(self._run, words),
                harm_of_command(spelled, reads=reads),
                reads=reads,
                journal=_journal_of(words) if self.dialogue.writes(words) else None,
                commits=spelled[0].upper() == "EXEC",
            )

    def tables(self) -> list[Table]:
        raise WrongEngine("redis", "tables", wanted_by="\\d", works_on=TABLE_ENGINES)

    def describe(self, name: str) -> TableDescription | None:
        raise WrongEngine("redis", "tables", wanted_by="\\d", works_on=TABLE_ENGINES)

    def _run(self, words: RedisWords, out: Output) -> StatementAnswer:
        reply = self.dialogue.run(words)
        if out.format in ("json", "jsonl"):
            out.scalar(as_json(reply))
        elif out.format in ("csv", "tsv"):
            out.rows(("value",), [[(as_cell(part),) for part in parts_of(reply)]], OF_A_SERVER)
        else:
            for line in drawn(reply):
                out.text(line)
        refused = [part for part in parts_of(reply) if isinstance(part, Exception)]
        if refused:
            raise KataxError(
                f"{len(refused)} of {len(parts_of(reply))} commands of the transaction were refused, "
                f"the others were run: {refused[0]}"
            )
        return StatementAnswer()


def _journal_of(words: RedisWords) -> str:
    """The command's name alone: its keys may say as much as its values."""
    return printable(words[0].decode("latin-1").upper()) + (" ?" if len(words) > 1 else "")


class MongoLanguage(Language):
    """Calls as MongoDB's shell writes them."""

    dialogue: MongoDialogue

    def __init__(self, database: MongoDatabase, dialogue: MongoDialogue) -> None:
        self.dialogue = dialogue
        self._database = database
        self.names = RememberedNames(database)
        self.suggest = of_mongodb(self.names)

    def is_whole(self, text: str) -> bool:
        return text.lstrip().startswith("\\") or mongo_call.is_whole(text)

    def requests(self, text: str) -> Iterator[Request]:
        if not text.strip().strip(";"):
            return
        try:
            call = mongo_call.parse_call(text)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        request = self.dialogue.request(call)
        harm = (Tier.DISRUPTIVE, request.disrupts) if request.disrupts else None
        if request.loses:
            harm = (Tier.DESTRUCTIVE, request.loses)
        yield Request(
            text,
            partial(self._run, request),
            harm,
            reads=not request.writes,
            journal=request.redacted if request.writes else None,
            irrevocable=request.changes and not request.loses,
        )

    def tables(self) -> list[Table]:
        return self._database.tables()

    def describe(self, name: str) -> TableDescription | None:
        return self._database.describe(name)

    def _run(self, request: MongoRequest, out: Output) -> StatementAnswer:
        counts: list[int] = []

        def take(batches: Iterable[list[Document]]) -> None:
            counts.append(self._write(out, batches, one=request.one))

        answer = self.dialogue.run(request, take)
        if request.writes:
            self.names.forget()
        if answer is None:
            return StatementAnswer(None if request.one else counted(counts[0], "document"))
        if out.format in ("json", "jsonl"):
            out.text(self.dialogue.written(answer))
        else:
            out.action({name: self.dialogue.cell(value) for name, value in answer.items()})
        written = answer.get("n")
        return StatementAnswer(changed=written if isinstance(written, int) else None)

    def _write(self, out: Output, batches: Iterable[list[Document]], *, one: bool) -> int:
        """Writes documents; returns their number."""
        documents = (document for batch in batches for document in batch)
        if out.format not in ("json", "jsonl"):
            return self._draw(out, documents)
        written = map(self.dialogue.written, documents)
        if one:
            out.text(next(written, "null"))
            return 1
        count = 0
        as_list = out.format == "json"
        for count, text in enumerate(written, 1):
            out.raw((("[\n  " if count == 1 else ",\n  ") + text if as_list else text + "\n").encode())
        if as_list:
            out.text("\n]" if count else "[]")
        return count

    def _draw(self, out: Output, documents: Iterator[Document]) -> int:
        first = list(islice(documents, _DRAWN_DOCUMENTS))
        names, rows = fields_and_rows(first, self.dialogue.cell)
        out.rows(names, [rows])
        if next(documents, None) is not None:
            out.note(f"there are more than {_DRAWN_DOCUMENTS} documents; add .limit(N), or use -f jsonl")
        return len(first)
