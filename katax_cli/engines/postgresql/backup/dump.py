"""The things to back up in a PostgreSQL database, held still by locks; the configuration of pg_dump."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from psycopg.errors import InvalidSchemaName, UndefinedTable

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.base import SqlEngine
from katax_cli.engines.dumps import Credentials, Inventory
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.postgresql.connect import parameters
from katax_cli.engines.postgresql.session import PostgresConnection
from katax_cli.errors import BackupError

_ATTEMPTS = 20
"""How often the tables are listed anew because others came while the known ones were locked."""
# Members of extensions count: some of their tables are dumped. Temporary tables are somebody's own.
_RELATIONS = """
SELECT c.oid::text, n.nspname, c.relname, c.relkind::text,
    has_schema_privilege(n.oid, 'USAGE'),
    CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
        ELSE has_table_privilege(c.oid, 'SELECT') END,
    c.relkind IN ('r', 'p') AND row_security_active(c.oid),
    format('%I.%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S', 'f', 'm', 'v') AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
ORDER BY n.nspname, c.relname"""
# has_largeobject_privilege() is younger than the servers that are supported.
_UNREADABLE_OBJECTS = """
SELECT 'large object ' || l.oid FROM pg_largeobject_metadata l WHERE current_setting('is_superuser') <> 'on'
    AND NOT EXISTS (SELECT 1 FROM aclexplode(coalesce(l.lomacl, acldefault('L', l.lomowner))) a
        WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
ORDER BY l.oid"""
# pg_dump leaves them out for all but superusers; of subscriptions it warns, of a mapping it writes no options.
_HIDDEN = """
SELECT 'subscription ' || subname FROM pg_subscription
WHERE current_setting('is_superuser') <> 'on'
    AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
SELECT format('options of the user mapping for %s on %s', usename, m.srvname)
FROM pg_user_mappings m JOIN pg_foreign_server s ON s.oid = m.srvid
WHERE current_setting('is_superuser') <> 'on' AND m.umoptions IS NULL AND NOT CASE
    WHEN m.umuser = 0 THEN pg_has_role(s.srvowner, 'USAGE')
    ELSE m.usename = current_user
        AND (pg_has_role(s.srvowner, 'USAGE') OR has_server_privilege(s.oid, 'USAGE')) END
ORDER BY 1"""
_SUPERUSER = "only a superuser sees it; back up as one"
_NO_RIGHT = "no right to read it; grant select on it"
_LASTING = ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout")
_NOT_HELD = {
    "roles and their passwords": "they are of the whole server; use pg_dumpall --globals-only",
    "tablespaces": "they are of the whole server, and folders on its machine",
}


class PostgresDump(EnginePart[SqlEngine]):
    """Backups of one PostgreSQL database."""

    @contextmanager
    def held(self, connection: PostgresConnection, lock_seconds: float) -> Iterator[Inventory]:
        """Keeps every table that can be read from TRUNCATE, ALTER and DROP; inside, all see the snapshot.

        The locks are taken before the snapshot: a table that is truncated between the two would look empty.
        """
        self._run(connection, "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")
        for name in _LASTING:
            self._run(connection, f"SET LOCAL {name} = 0")
        self._run(connection, f"SET LOCAL lock_timeout = {int(lock_seconds * 1000)}")
        relations = self._locked(connection)
        [(version, identity, database, snapshot)] = self._run(
            connection,
            "SELECT current_setting('server_version'), (SELECT system_identifier::text FROM pg_control_system()),"
            " current_database(), pg_export_snapshot()",
        )
        yield Inventory(
            server_version=version,
            server_id=f"postgresql:{identity}",
            database=database,
            consistency="all tables at one moment",
            relations={row[0]: f"{row[1]}.{row[2]}" for row in relations},
            unreadable={
                row[7]: reason for row in relations if row[3] != "S" and (reason := _unreadable(row))
            },
            # pg_dump asks for the state of every sequence, also of those of tables that it leaves out.
            required={row[7]: reason for row in relations if row[3] == "S" and (reason := _unreadable(row))}
            | {name: _NO_RIGHT for (name,) in self._run(connection, _UNREADABLE_OBJECTS)},
            hidden={name: _SUPERUSER for (name,) in self._run(connection, _HIDDEN)},
            not_held=_never_held(relations),
            snapshot=snapshot,
        )

    def _locked(self, connection: PostgresConnection) -> list[tuple[Any, ...]]:
        """The relations, none of which comes or goes any more without being seen."""
        locked: set[str] = set()
        for _ in range(_ATTEMPTS):
            relations = self._run(connection, _RELATIONS)
            tables = {row[7]: row for row in relations if row[3] in "rp" and not _unreadable(row)}
            missing = sorted(tables.keys() - locked)
            if not missing:
                return relations
            self._run(connection, "SAVEPOINT katax")
            try:
                self._run(connection, f"LOCK TABLE ONLY {', ONLY '.join(missing)} IN ACCESS SHARE MODE")
            except (UndefinedTable, InvalidSchemaName):
                self._run(connection, "ROLLBACK TO SAVEPOINT katax")  # dropped meanwhile
            else:
                locked.update(missing)
            self._run(connection, "RELEASE SAVEPOINT katax")
        raise BackupError(
            f"{self._engine.settings.name!r}: its tables change too fast to be locked; try again"
        )

    def credentials(self) -> Credentials:
        """Address and login for pg_dump."""
        return credentials(self._engine.settings)

    @staticmethod
    def _run(connection: PostgresConnection, sql: str) -> list[tuple[Any, ...]]:
        # Past the guard of read-only profiles, which knows no locks: the transaction is read-only.
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


create = PostgresDump


def credentials(settings: ConnectionSettings) -> Credentials:
    """A service file, for options of a URL may be secrets, and a password file."""
    lines = [f"{key}={value}" for key, value in parameters(settings).items() if key != "client_encoding"]
    files = {"pg_service.conf": "\n".join(["[katax]", *lines]) + "\n"}
    environment = {"PGSERVICEFILE": "{folder}/pg_service.conf", "PGCONNECT_TIMEOUT": "10"}
    if settings.password is not None:
        password = settings.password.reveal().replace("\\", "\\\\").replace(":", "\\:")
        files["pgpass"] = f"*:*:*:*:{password}\n"
        environment["PGPASSFILE"] = "{folder}/pgpass"
    return Credentials(("--dbname=service=katax", "--no-password"), files, environment)


def _unreadable(row: tuple[Any, ...]) -> str | None:
    """The reason why pg_dump could not read a relation, with the remedy."""
    _, schema, _, kind, may_use, may_read, is_filtered, _ = row
    if not may_use:
        return f"no right to use its schema; grant usage on schema {schema}"
    if not may_read and kind in "rpS":
        return _NO_RIGHT
    if is_filtered:
        return "row-level security hides rows of it; use its owner, or a role with BYPASSRLS"
    return None


def _never_held(relations: list[tuple[Any, ...]]) -> Mapping[str, str]:
    foreign = [row[7] for row in relations if row[3] == "f"]
    if not foreign:
        return _NOT_HELD
    return {**_NOT_HELD, f"rows of foreign tables ({', '.join(foreign)})": "they are on other servers"}
