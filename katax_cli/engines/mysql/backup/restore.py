"""Restoring on MySQL and MariaDB: how the client is called, and a dump that names no other database."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from katax_cli.core.sql import quote_identifier
from katax_cli.engines.base import SqlEngine
from katax_cli.engines.mysql.backup.dump import MysqlDump
from katax_cli.engines.mysql.backup.events import SIGN, HeldEvents
from katax_cli.engines.restores import Space, free_bytes

_USED = """SELECT coalesce(sum(data_length + index_length), 0) FROM information_schema.tables
    WHERE table_schema = ?"""
_ALTER = b"ALTER DATABASE "
_COLUMN_OR_VIEW = re.compile(rb"^(?:  `|/\*!50001 VIEW `).*$", re.MULTILINE)
"""A line of a table or view; rows begin otherwise."""
_QUOTED = rb"'(?:[^'\\]|\\.|'')*+'|`(?:[^`]|``)*+`"


class MysqlRestore:
    """The client reads a dump from stdin, one statement after the other."""

    names = ("mariadb", "mysql")
    package = "mariadb-client (Debian, Ubuntu), mysql-client or mariadb (Fedora, Homebrew)"
    grants: Mapping[str, str] = {
        "SET USER": "grant SET USER on *.* to restore what others defined, or back up as the user who owns it",
        "SET_USER_ID": "grant SET_USER_ID on *.* to restore what others defined",
        "SET_ANY_DEFINER": "grant SET_ANY_DEFINER on *.* to restore what others defined",
        "log_bin_trust_function_creators": "grant SUPER, or set log_bin_trust_function_creators = 1",
        "specified as a definer": "make that user, whom a view names that another view reads",
        "to database": "grant all on this database",
        "command denied": "grant all on this database",
    }
    # By numbers, for the words are in the server's language. Those of the client itself are from 2000 on: no
    # connection, a lost one; the second line has those of a missing right.
    hindered = re.compile(
        r"ERROR (?:2\d{3}|3|1021|1026|1037|1038|1040|1041|1053|1114|1153|1180|1205|1213|1290|1317|1836|1927"
        r"|1044|1142|1143|1227|1286|1370|1419|1449|1524) "
        r"|Errcode: 28|error 28|No space left"
    )

    def __init__(self, engine: SqlEngine) -> None:
        self._engine = engine
        self._events = HeldEvents()

    def server_id(self, connection: Any) -> str:
        return MysqlDump(self._engine).server_id(connection)

    def space(self, connection: Any, database: str) -> Space:
        [(used,)] = self._engine.execute(connection, _USED, [database]).rows
        [(host, folder)] = self._engine.execute(connection, "SELECT @@hostname, @@datadir").rows
        return Space(free_bytes(str(folder)) if host == socket.gethostname() else None, int(used))

    def words(self, dump: str, *, jobs: int, options: Iterable[str] = ()) -> tuple[str, ...]:
        # Without --binary-mode the client would change line ends and understand its own commands inside of values,
        # without --comments drop those of routines, triggers and events.
        return (
            "--batch",
            "--binary-mode",
            "--comments",
            "--default-character-set=utf8mb4",
            "--max-allowed-packet=1G",
            *options,
        )

    def into(self, source: str, target: str) -> tuple[str, ...]:
        return (f"--database={target}",)

    def addressed(self, chunks: Iterable[bytes], *, source: str, target: str) -> Iterator[bytes]:
        """Routines and triggers of another collation come between two ALTER DATABASE, which name the database, as do
        defaults and views that take numbers from a sequence. Events are held until `let_go`."""
        here, there = (quote_identifier(name, "mysql").encode() for name in (source, target))
        old, new = _ALTER + here + b" ", _ALTER + there + b" "
        at_line = re.compile(rb"^((?:/\*!\d+ )?)" + re.escape(old), re.MULTILINE)
        of_sequence = re.compile(rb"((?:next|last)val\()" + re.escape(here) + rb"(?=\.`)|" + _QUOTED)
        rest = b""
        for chunk in chunks:
            rest += chunk
            end = rest.rfind(b"\n") + 1
            if end:
                lines, rest = rest[:end], rest[end:]
                if old in lines:
                    lines = at_line.sub(lambda match: match[1] + new, lines)
                if b"val(" + here in lines:
                    lines = _COLUMN_OR_VIEW.sub(
                        lambda line: of_sequence.sub(
                            lambda match: match[1] + there if match[1] else match[0], line[0]
                        ),
                        lines,
                    )
                yield self._events.hold(lines) if SIGN in lines else lines
        yield rest

    def let_go(self, connection: Any) -> list[str]:
        return self._events.let_go(self._engine, connection)


create = MysqlRestore
