"""Restoring on PostgreSQL: how pg_restore is called, what a dump says of its database, and renaming databases."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from psycopg.errors import DivisionByZero, InsufficientPrivilege

from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import quote_identifier
from katax_cli.core.sql.split import pieces
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.postgresql.engine import PostgresEngine
from katax_cli.engines.restores import DumpHead, DumpPart, Space, free_bytes

_NAME = r'(?:"(?:[^"]|"")*"|[^\s";,]+)'
_STRING = r"'(?:[^']|'')*'"
_REST = rf'(?:[^\'";]|{_STRING}|"(?:[^"]|"")*")*'
_COMMENTS = re.compile(r"\A(?:--[^\n]*\n|\s)+")
_CREATE = re.compile(rf"CREATE DATABASE {_NAME} (WITH {_REST})")
_FINISH = re.compile(rf"(ALTER DATABASE|COMMENT ON DATABASE) {_NAME} ((?:SET|IS) {_REST})")
_OWNED = re.compile(rf"ALTER DATABASE {_NAME} ((?:OWNER TO|CONNECTION LIMIT) .*)")
_GRANTED = re.compile(rf"((?:GRANT|REVOKE) [A-Z, ]+) ON DATABASE {_NAME} ((?:TO|FROM) .*)")
_OF_ROLE = re.compile(rf"ALTER ROLE ({_NAME}) IN DATABASE {_NAME} (SET {_REST})")
_OWNER = re.compile(rf"ALTER .* OWNER TO ({_NAME})")
_GRANTEE = re.compile(rf"(?:GRANT|REVOKE) .* (?:TO|FROM) ({_NAME})(?: WITH GRANT OPTION)?")
_GRANTOR = re.compile(rf"SET SESSION AUTHORIZATION ({_NAME})")
_DEFAULTS = re.compile(
    rf"ALTER DEFAULT PRIVILEGES FOR ROLE ({_NAME}) .*(?:TO|FROM) ({_NAME})(?: WITH GRANT OPTION)?"
)
_POLICY = re.compile(
    rf"CREATE POLICY {_NAME} ON {_NAME}(?:\.{_NAME})?(?: AS [A-Z]+)?(?: FOR [A-Z]+)? TO ({_NAME}(?:, {_NAME})*)"
    r"(?: (?:USING|WITH CHECK) .*)?",
    re.DOTALL,
)
_MAPPING = re.compile(rf"CREATE USER MAPPING FOR ({_NAME}) SERVER .*", re.DOTALL)
_ROLES = "SELECT rolname FROM pg_roles"
_MINE = """SELECT r.rolname, u.rolsuper FROM pg_roles r, pg_roles u
    WHERE u.rolname = current_user AND pg_has_role(r.oid, 'MEMBER')"""
# Not autovacuum's: the server itself ends that for a rename, and plain roles may not.
_SESSIONS = """SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), pg_terminate_backend(pid)
    FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid() AND usesysid IS NOT NULL"""
# A dump has the rows of a table without those of the tables that inherit from it, and of a table of an extension those
# that the extension's condition selects: the others come with the extension.
_RELATIONS = """SELECT n.nspname || '.' || c.relname, format('ONLY %I.%I %s', n.nspname, c.relname, x.condition)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN (SELECT unnest(extconfig) AS oid, unnest(extcondition) AS condition FROM pg_extension) x ON x.oid = c.oid
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND (n.nspname || '.' || c.relname = ANY($1) OR NOT EXISTS (SELECT FROM pg_depend d
        WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'))"""
_PARTITIONED = """SELECT n.nspname || '.' || c.relname, s.nspname || '.' || r.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class r ON r.oid = pg_partition_root(c.oid) JOIN pg_namespace s ON s.oid = r.relnamespace
    WHERE c.relispartition AND c.relkind = 'r'"""
_POLICED = """SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND row_security_active(c.oid) ORDER BY 1"""
_PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = $1 ORDER BY prepared"
_SUBSCRIPTIONS = """SELECT subname FROM pg_subscription WHERE NOT subenabled
    AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1"""
_ENGLISH = "division by zero"
_IDENTITY = "SELECT system_identifier::text FROM pg_control_system()"
_USED = "SELECT coalesce(max(pg_database_size(oid)), 0) FROM pg_database WHERE datname = $1"
_FOLDER = "SELECT setting, pg_backend_pid() FROM pg_settings WHERE name = 'data_directory'"


class PostgresRestore(EnginePart[PostgresEngine]):
    """pg_restore reads a folder that pg_dump wrote, in parallel."""

    names = ("pg_restore",)
    grants: Mapping[str, str] = {
        "permission denied to create database": "the role needs CREATEDB",
        "permission denied to create extension": "a superuser must create the extension, or make it trusted",
        "permission denied for language": "the role needs USAGE on the language",
        "permission denied to create event trigger": "only a superuser restores event triggers",
        "permission denied to create foreign-data": "only a superuser restores foreign-data wrappers",
        "must be superuser": "a superuser must restore this backup",
        "permission denied for foreign-data wrapper": "the role needs USAGE on the foreign-data wrapper",
        "permission denied for tablespace": "the role needs CREATE on the tablespace",
    }
    hindered = re.compile(
        "No space left|could not (?:extend|write|connect|send|receive)|out of (?:shared )?memory|connection to server"
        "|closed (?:the connection|unexpectedly)|no connection to|terminating connection|canceling statement"
        "|database system is|too many clients|connection slots|read-only transaction|is not available"
        r"|could not access file|ERROR (?:53|57P|58)\w+ |ERROR: +role \".*\" does not exist"
    )

    def words(self, dump: str, *, jobs: int, options: Iterable[str] = ()) -> tuple[str, ...]:
        return ("--exit-on-error", "--no-tablespaces", f"--jobs={jobs}", *options, dump)

    def head_words(self, dump: str) -> tuple[str, ...]:
        # Not --schema-only: that is without the owners and grants of large objects.
        return ("--create", "--no-tablespaces", "--file=-", dump)

    def head(self, printed: str) -> DumpHead:
        # One by one: lines in the body of a function or in a comment are no statements.
        statements = [_COMMENTS.sub("", piece.text) for piece in pieces(printed, "postgresql")]

        def found(pattern: re.Pattern[str]) -> list[tuple[str, ...]]:
            return [match.groups() for match in map(pattern.fullmatch, statements) if match]

        create = "".join(f" {rest}" for (rest,) in found(_CREATE)[:1])
        finish = tuple(f"{kind} {{name}} {rest}" for kind, rest in found(_FINISH))
        owned = tuple(f"ALTER DATABASE {{name}} {rest}" for (rest,) in found(_OWNED))
        granted = tuple(f"{what} ON DATABASE {{name}} {whom}" for what, whom in found(_GRANTED))
        owners, grantees, grantors, mapped = (
            _unquoted(role for (role,) in found(each)) for each in (_OWNER, _GRANTEE, _GRANTOR, _MAPPING)
        )
        makers, heirs = (_unquoted(roles[at] for roles in found(_DEFAULTS)) for at in (0, 1))
        policed = _unquoted(role for (roles,) in found(_POLICY) for role in re.findall(_NAME, roles))
        settings = found(_OF_ROLE)
        with_settings = _unquoted(role for role, _ in settings)
        set_by_role = tuple(f"ALTER ROLE {role} IN DATABASE {{name}} {rest}" for role, rest in settings)
        parts = (
            DumpPart("owners", owners, owners, "--no-owner", finish=owned),
            DumpPart("grants", grantees, grantors, "--no-privileges", finish=granted),
            DumpPart("default privileges", makers | heirs, makers, kind="DEFAULT ACL"),
            DumpPart("policies", policed, kind="POLICY"),
            DumpPart("user mappings", mapped, kind="USER MAPPING"),
            DumpPart("settings of roles", with_settings, with_settings, finish=set_by_role),
        )
        return DumpHead("CREATE DATABASE {name}" + create, finish, parts)

    def english(self, connection: Any, settings: ConnectionSettings) -> ConnectionSettings:
        # Outside a transaction LOCAL asks for the right alone: behind a pooler the session is somebody else's next.
        try:
            self._engine.execute(connection, "SET LOCAL lc_messages = 'C'")
        except InsufficientPrivilege:
            return settings
        options = f"{settings.options.get('options', '')} -c lc_messages=C".strip()
        return replace(settings, options={**settings.options, "options": options})

    def is_english(self, connection: Any) -> bool:
        # The names of languages are those of the server's operating system.
        try:
            self._engine.execute(connection, "SELECT 1/0")
        except DivisionByZero as error:
            return error.diag.message_primary == _ENGLISH
        return False

    def roles(self, connection: Any) -> frozenset[str] | None:
        rows = self._engine.execute(connection, _MINE).rows
        return None if any(is_super for _, is_super in rows) else frozenset(name for name, _ in rows)

    def known_roles(self, connection: Any) -> frozenset[str]:
        return frozenset(name for (name,) in self._engine.execute(connection, _ROLES).rows)

    def relations(self, connection: Any, names: Collection[str]) -> list[tuple[str, str]]:
        """Partitions too, and tables of extensions only if they are among `names`."""
        return [(name, sql) for name, sql in self._engine.execute(connection, _RELATIONS, [list(names)]).rows]

    def partitioned(self, connection: Any) -> Mapping[str, str]:
        return dict(self._engine.execute(connection, _PARTITIONED).rows)

    def policed(self, connection: Any) -> list[str]:
        return [name for (name,) in self._engine.execute(connection, _POLICED).rows]

    def let_go(self, connection: Any) -> list[str]:
        """pg_dump itself lets subscriptions be made disabled: two databases must not read from one slot."""
        return [
            f"subscription {name!r} is disabled; enable it when no other database uses its slot any more"
            for (name,) in self._engine.execute(connection, _SUBSCRIPTIONS).rows
        ]

    def server_id(self, connection: Any) -> str:
        return f"postgresql:{self._engine.execute(connection, _IDENTITY).rows[0][0]}"

    def space(self, connection: Any, database: str) -> Space:
        used = int(self._engine.execute(connection, _USED, [database]).rows[0][0])
        rows = self._engine.execute(connection, _FOLDER).rows
        return Space(_free_bytes(*rows[0]) if rows else None, used)

    def rename(self, connection: Any, names: Mapping[str, str]) -> None:
        quoted = {
            quote_identifier(old, "postgresql"): quote_identifier(new, "postgresql")
            for old, new in names.items()
        }
        self._engine.execute(connection, "BEGIN")
        try:
            for old, new in quoted.items():
                self._engine.execute(connection, f"ALTER DATABASE {old} RENAME TO {new}")
        except BaseException:
            self._engine.undo(connection)
            raise
        self._engine.execute(connection, "COMMIT")

    def prepared(self, connection: Any, database: str) -> list[str]:
        return [gid for (gid,) in self._engine.execute(connection, _PREPARED, [database]).rows]

    def end_sessions(self, connection: Any, database: str) -> list[str]:
        rows = self._engine.execute(connection, _SESSIONS, [database]).rows
        return [f"{pid} ({user}{', ' if program else ''}{program})" for pid, user, program, _ in rows]


def _free_bytes(folder: str | None, backend: int) -> int | None:
    """None unless the server runs on this machine: a loopback address may be the near end of a tunnel."""
    try:
        with open(f"/proc/{backend}/comm", encoding="utf-8") as file:
            if not file.read().startswith("postgres"):
                return None
    except OSError:
        return None
    return free_bytes(folder or "")


def _unquoted(names: Iterable[str]) -> frozenset[str]:
    roles = {name[1:-1].replace('""', '"') if name.startswith('"') else name for name in names}
    return frozenset(roles - {"PUBLIC", "public"})  # everybody; a mapping says it small


create = PostgresRestore
