"""The things to back up in a MySQL or MariaDB database, what of it the user may not read; how mysqldump finds it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.base import SqlEngine
from katax_cli.engines.dumps import Credentials, Inventory, SchemaFacts
from katax_cli.engines.parts import EnginePart

_TABLES = """SELECT table_name, table_type, coalesce(engine, ''), coalesce(create_time, '')
FROM information_schema.tables WHERE table_schema = database() ORDER BY 1"""
_COLUMNS = """SELECT table_name, column_name, column_type, is_nullable, coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = database() ORDER BY table_name, ordinal_position"""
_DEFINITIONS = {
    "table": """SELECT table_name, engine, table_collation, table_comment FROM information_schema.tables
WHERE table_schema = database() AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY 1""",
    "of tables": """SELECT table_name, column_name, column_type, is_nullable,
replace(column_default, concat('`', replace(database(), '`', '``'), '`.'), ?), extra, collation_name,
generation_expression FROM information_schema.columns
WHERE table_schema = database() ORDER BY table_name, ordinal_position""",
    "index": """SELECT DISTINCT table_name, index_name, non_unique FROM information_schema.statistics
WHERE table_schema = database() ORDER BY 1, 2""",
    "of indexes": """SELECT table_name, index_name, seq_in_index, column_name, sub_part
FROM information_schema.statistics
WHERE table_schema = database() ORDER BY 1, 2, 3""",
    "constraint": """SELECT table_name, constraint_name, constraint_type FROM information_schema.table_constraints
WHERE table_schema = database() ORDER BY 1, 2""",
    "view": """SELECT table_name, replace(view_definition, concat('`', replace(database(), '`', '``'), '`.'), '')
FROM information_schema.views WHERE table_schema = database() ORDER BY 1""",
    "trigger": """SELECT trigger_name, event_manipulation, event_object_table, action_timing, action_statement
FROM information_schema.triggers WHERE trigger_schema = database() ORDER BY 1""",
    "routine": """SELECT routine_type, routine_name, routine_definition FROM information_schema.routines
WHERE routine_schema = database() ORDER BY 1, 2""",
    "event": """SELECT event_name, event_definition, interval_value, interval_field FROM information_schema.events
WHERE event_schema = database() ORDER BY 1""",
}
_OF_TABLES = {
    "table": 0,
    "of tables": 0,
    "index": 0,
    "of indexes": 0,
    "constraint": 0,
    "view": 0,
    "trigger": 2,
}
"""The column with the name of the table."""
_ROUTINES = """SELECT concat(lower(routine_type), ' ', routine_name), routine_definition IS NULL
FROM information_schema.routines WHERE routine_schema = database() ORDER BY 1"""
_IDENTITY = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_uid', 'hostname')"
_GRANT = re.compile(r"^GRANT (.+?) ON (?:(\*)|[`'\"](.+?)[`'\"])\.\* TO ", re.IGNORECASE)
_TRANSACTIONAL = frozenset({"InnoDB", "RocksDB", "TokuDB", "ndbcluster", "SEQUENCE", "VIEW", ""})
_VERSIONED = "SYSTEM VERSIONED"
_WITH_ROWS = ("BASE TABLE", _VERSIONED)
_PROC = re.compile(r"^GRANT (?:.*, )?SELECT ON [`'\"]mysql[`'\"]\.[`'\"]proc[`'\"] TO ", re.IGNORECASE)
_SHOWS_ROUTINES = frozenset(
    {"EXECUTE", "CREATE ROUTINE", "ALTER ROUTINE", "SHOW_ROUTINE", "SHOW CREATE ROUTINE", "ALL PRIVILEGES"}
)
_ROUTINES_REMEDY = "grant select on mysql.proc, or show_routine on *.*"
_NEEDED = {"TRIGGER": "triggers", "EVENT": "events"}
_SHOWS_TABLES = frozenset(
    {"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "REFERENCES", "INDEX", "ALTER", "CREATE VIEW"}
    | {"SHOW VIEW", "TRIGGER", "DELETE HISTORY", "ALL PRIVILEGES"}
)
"""Rights on a whole database each of which shows all its tables; else those without a right of their own are hidden."""
_HIDDEN_TABLES = "no right to see whether there are others; grant select, show view on {database}.*"
_NOT_HELD = {
    "default character set of the database": "tables have their own; make the database with it before a restore",
    "users, roles and grants": "they are of the whole server; use mariadb-dump --system=users, or SHOW GRANTS",
}
_HISTORY = {"former rows of system-versioned tables": "use mariadb-dump --dump-history"}


class MysqlDump(EnginePart[SqlEngine]):
    """Backups of one database of MySQL or MariaDB."""

    def inventory(self, connection: Any) -> Inventory:
        """The things that the session sees."""
        [(version, database)] = self._run(connection, "SELECT version(), database()")
        tables = self._run(connection, _TABLES)
        others = [f"{name} ({kind})" for name, _, kind, _ in tables if kind not in _TRANSACTIONAL]
        grants = [str(text) for (text,) in self._run(connection, "SHOW GRANTS")]
        granted = {privilege for text in grants for privilege in _privileges(text, str(database))}
        moment = "all tables at one moment"
        if others:
            moment = f"all tables at one moment but {', '.join(others)}, each as it was when it was read"
        return Inventory(
            server_version=str(version),
            server_id=self.server_id(connection),
            database=str(database),
            consistency=moment,
            relations={str(name): str(name) for name, kind, _, _ in tables if kind in _WITH_ROWS},
            unreadable=dict(self._unreadable(connection, str(database), grants, granted)),
            # Tables of which not even the number is known cannot be left out knowingly.
            required={} if granted & _SHOWS_TABLES else {"tables": _HIDDEN_TABLES.format(database=database)},
            not_held=_NOT_HELD | (_HISTORY if any(kind == _VERSIONED for _, kind, _, _ in tables) else {}),
        )

    def marks(self, connection: Any) -> Mapping[str, str]:
        """A mark for each table and view, which another definition, or a TRUNCATE, changes."""
        marks = {str(row[0]): [repr(row)] for row in self._run(connection, _TABLES)}
        for row in self._run(connection, _COLUMNS):
            marks.setdefault(str(row[0]), []).append(repr(row))
        return {name: hashlib.sha256("".join(texts).encode()).hexdigest() for name, texts in marks.items()}

    def schema(
        self,
        connection: Any,
        *,
        without: Collection[str] = (),
        left_out: Collection[str] = (),
        qualifier: str = "",
    ) -> SchemaFacts:
        """The definitions of everything but rows, `without` some tables and the kinds (`triggers`) that are left out;
        counters, times and definers do not count. `qualifier` stands for the name of the database in defaults."""
        digest, objects = hashlib.sha256(), dict[str, int]()
        for kind, sql in _DEFINITIONS.items():
            values = [qualifier] if kind == "of tables" else []
            found = [] if f"{kind}s" in left_out else self._run(connection, sql, values)
            at = _OF_TABLES.get(kind)
            rows = [row for row in found if at is None or row[at] not in without]
            if rows and not kind.startswith("of "):
                objects[kind] = len(rows)
            digest.update(repr((kind, rows)).encode())
        return SchemaFacts(dict(sorted(objects.items())), digest.hexdigest())

    def credentials(self) -> Credentials:
        """An option file; the tool reads no other one, for that of its user could name another password."""
        settings = self._engine.settings
        words = ["--defaults-file={folder}/client.cnf", *address(settings)]
        return Credentials(tuple(words), {"client.cnf": client_options(settings)})

    def server_id(self, connection: Any) -> str:
        """The identity of the server, wherever it runs."""
        return f"mysql:{self._identity(connection)}"

    def _identity(self, connection: Any) -> str:
        named = {str(name): str(value) for name, value in self._run(connection, _IDENTITY)}
        if known := named.get("server_uuid"):
            return known
        if known := named.get("server_uid"):
            # Made of the network card's address and the port, which containers of different machines share.
            return f"{known}:{hashlib.sha256(named['hostname'].encode()).hexdigest()[:8]}"
        [(place,)] = self._run(connection, "SELECT concat_ws('\\n', @@hostname, @@port, @@datadir)")
        return hashlib.sha256(str(place).encode()).hexdigest()[:32]

    def _unreadable(
        self, connection: Any, database: str, grants: Sequence[str], granted: Collection[str]
    ) -> Iterator[tuple[str, str]]:
        """The tool says nothing of triggers and events that its user may not see."""
        for privilege, what in _NEEDED.items():
            if privilege not in granted and "ALL PRIVILEGES" not in granted:
                yield what, f"no right to see them; grant {privilege.lower()} on {database}.*"
        hidden = [str(name) for name, is_hidden in self._run(connection, _ROUTINES) if is_hidden]
        if hidden:
            named = ", ".join(hidden[:5]) + (" …" if len(hidden) > 5 else "")
            yield "routines", f"no right to see the body of {named}; {_ROUTINES_REMEDY}"
        elif not (_SHOWS_ROUTINES & set(granted) or any(map(_reads_routines, grants))):
            yield "routines", f"no right to see whether there are any; {_ROUTINES_REMEDY}"

    def _run(self, connection: Any, sql: str, values: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        return self._engine.execute(connection, sql, values).rows


create = MysqlDump


def address(settings: ConnectionSettings) -> list[str]:
    """Where the server is and who asks, as options of a client."""
    given = {
        "--user": settings.user,
        "--socket": settings.socket,
        "--host": None if settings.socket else settings.host,
        "--port": None if settings.socket else settings.port,
    }
    return [f"{option}={value}" for option, value in given.items() if value]


def client_options(settings: ConnectionSettings) -> str:
    """An option file for MariaDB's clients and MySQL's, which know each other's options not."""
    options = {"password": settings.password.reveal() if settings.password else ""}
    if tls := settings.tls:
        files = {"ssl-ca": tls.ca, "ssl-cert": tls.cert, "ssl-key": tls.key}
        options |= {key: path for key, path in files.items() if path}
        modes = {"disable": "DISABLED", "require": "REQUIRED", "verify-ca": "VERIFY_CA"}
        options["loose-ssl-mode"] = modes.get(tls.mode, "VERIFY_IDENTITY")
        options["loose-ssl"] = "0" if tls.mode == "disable" else "1"
        options["loose-ssl-verify-server-cert"] = "1" if tls.mode == "verify-full" else "0"
    quoted = {key: value.replace("\\", "\\\\").replace('"', '\\"') for key, value in options.items()}
    return "[client]\n" + "".join(f'{key}="{value}"\n' for key, value in quoted.items())


def _reads_routines(grant: str) -> bool:
    """True for a right to read where routines are kept; without any right on them there seem to be none."""
    return _PROC.match(grant) is not None or "SELECT" in _privileges(grant, "mysql")


def _privileges(grant: str, database: str) -> list[str]:
    """The rights that a line of SHOW GRANTS gives on the whole database."""
    match = _GRANT.match(grant)
    if match is None:
        return []
    pattern = match[3]
    if pattern is not None and not _matches(pattern, database):
        return []
    return [privilege.strip().upper() for privilege in match[1].split(",")]


def _matches(pattern: str, database: str) -> bool:
    """A name of a database in a grant is a pattern of LIKE."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    text = "".join(wild.get(part) or re.escape(part.removeprefix("\\")) for part in parts)
    return re.fullmatch(text, database, re.DOTALL) is not None
