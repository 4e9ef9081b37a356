"""Migrations on MySQL and MariaDB: named locks, the schema as text, and the effects of DDL on others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import pymysql
from pymysql.constants import ER

from katax_cli.core.sql import AnySql, quote_identifier, statement_code, statement_of
from katax_cli.engines.migrations import DdlImpact, LockSession, MigrationFacts, ObjectName
from katax_cli.engines.mysql.engine import MysqlEngine
from katax_cli.engines.mysql.script import run_script
from katax_cli.engines.mysql.session import MysqlSession
from katax_cli.engines.mysql.sessions import lock_name
from katax_cli.engines.parts import EnginePart

_HOLDER = """
SELECT id, user, host FROM information_schema.processlist WHERE id = IS_USED_LOCK(?)"""
_NOTED = """
SELECT t.processlist_id, v.variable_value, t.processlist_user, t.processlist_host
FROM performance_schema.user_variables_by_thread v JOIN performance_schema.threads t USING (thread_id)
WHERE v.variable_name = 'katax_note'"""
_OBJECTS = """
SELECT CASE table_type WHEN 'VIEW' THEN 'view' ELSE 'table' END, table_name FROM information_schema.tables
    WHERE table_schema = DATABASE()
UNION ALL SELECT LOWER(routine_type), routine_name FROM information_schema.routines
    WHERE routine_schema = DATABASE()
UNION ALL SELECT 'trigger', trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()
UNION ALL SELECT 'event', event_name FROM information_schema.events WHERE event_schema = DATABASE()
ORDER BY 1, 2"""
_TABLE = """
SELECT CASE table_type WHEN 'VIEW' THEN 'view' ELSE 'table' END, table_name FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name = ?"""
_ROUTINE = """
SELECT LOWER(routine_type), routine_name FROM information_schema.routines
WHERE routine_schema = DATABASE() AND routine_name = ?"""
_EVENT = """
SELECT 'event', event_name FROM information_schema.events WHERE event_schema = DATABASE() AND event_name = ?"""
_OBJECT = {"procedure": _ROUTINE, "function": _ROUTINE, "event": _EVENT}
_INDEXES = """
SELECT CONCAT('index ', table_name, '.', index_name), GROUP_CONCAT(CONCAT(
    IF(non_unique, '', 'unique '), column_name, IF(sub_part IS NULL, '', CONCAT('(', sub_part, ')')))
    ORDER BY seq_in_index SEPARATOR ', ')
FROM information_schema.statistics WHERE table_schema = DATABASE() {condition}
GROUP BY table_name, index_name ORDER BY 1"""
_WITHOUT_TRANSACTIONS = """
SELECT DISTINCT LOWER(table_name) FROM information_schema.tables
WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')
AND engine NOT IN (SELECT engine FROM information_schema.engines WHERE transactions = 'YES')"""
_WRITES_ELSEWHERE = """
SELECT LOWER(table_name) FROM information_schema.views
UNION SELECT LOWER(routine_name) FROM information_schema.routines
UNION SELECT LOWER(event_object_table) FROM information_schema.triggers"""
_DEFINITION_COLUMN = {"table": 1, "view": 1, "procedure": 2, "function": 2, "trigger": 2, "event": 3}
_COUNTER = re.compile(r" AUTO_INCREMENT=\d+")
_OF_EACH_STATEMENT = frozenset(
    {"timestamp", "last_insert_id", "identity", "insert_id", "rand_seed1", "rand_seed2", "pseudo_thread_id"}
    | {"error_count", "warning_count", "in_transaction", "last_gtid"}
)
"""Variables of a session that no file has to set for them to change."""
_OF_THE_DATABASE = frozenset({"DATABASE", "character_set_database", "collation_database"})
"""What comes with USE; not every user may set the two variables, which ALTER DATABASE changes for good."""
_NOT_OF_THE_SESSION = (ER.LOCAL_VARIABLE, ER.GLOBAL_VARIABLE, ER.INCORRECT_GLOBAL_LOCAL_VAR)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_NO_ONLINE = (" MODIFY ", " CHANGE ", " ENGINE ", " CONVERT TO ", " DROP PRIMARY KEY ")

# A shorter limit of the session's own stands.
_SHORTER_LOCK_TIMEOUTS = (
    "SET SESSION lock_wait_timeout = LEAST(@@lock_wait_timeout, {seconds}), "
    "SESSION innodb_lock_wait_timeout = LEAST(@@innodb_lock_wait_timeout, {seconds})"
)


class MysqlMigrations(EnginePart[MysqlEngine]):
    """SessionLocks, Definitions and DdlImpacts of MySQL and MariaDB, where every DDL statement commits."""

    facts = MigrationFacts(
        transactional_ddl=False,
        server_sessions=True,
        long_text="LONGTEXT",
        set_lock_timeout=_SHORTER_LOCK_TIMEOUTS,
        reset_lock_timeout="SET SESSION lock_wait_timeout = DEFAULT, SESSION innodb_lock_wait_timeout = DEFAULT",
        home="SELECT DATABASE() FROM DUAL WHERE $1 IS NOT NULL",
    )

    def settings(self, connection: MysqlSession) -> Mapping[str, str | None]:
        """All variables of the session, its database and role; GET_LOCK's locks would not survive a reset of it."""
        rows = connection.send("SHOW SESSION VARIABLES").fetchall()
        settings = {_text(name).lower(): _text(value) for name, value in rows}
        return settings | {"ROLE": _role(connection), "DATABASE": _answer(connection, "SELECT DATABASE()")}

    def take_back(
        self, connection: MysqlSession, settings: Mapping[str, str | None], temporary: Sequence[str]
    ) -> None:
        here = _answer(connection, "SELECT DATABASE()") if temporary else None
        for place in filter(None, {settings["DATABASE"], here}):
            for table in temporary:
                quoted = f"{quote_identifier(place, 'mysql')}.{quote_identifier(table, 'mysql')}"
                connection.send(f"DROP TEMPORARY TABLE IF EXISTS {quoted}").fetchall()
        # A limit of rows cuts the list of variables, too.
        connection.send("SET SESSION sql_select_limit = DEFAULT").fetchall()
        present = self.settings(connection)
        changed = {name for name, value in settings.items() if present.get(name, value) != value}
        # One that stands still shows it by no difference.
        statements = ["SET SESSION timestamp = DEFAULT"]
        for name in sorted(changed - _OF_THE_DATABASE - _OF_EACH_STATEMENT):
            if not name.startswith("gtid_"):
                statements.append(_setting(connection, name, settings[name]))
        if changed & _OF_THE_DATABASE and (database := settings["DATABASE"]) is not None:
            statements.append(f"USE {quote_identifier(database, 'mysql')}")
        for sql in statements:
            try:
                connection.send(sql).fetchall()
            except pymysql.err.MySQLError as error:
                # A variable of the server, which the file meant to change.
                if error.args[0] not in _NOT_OF_THE_SESSION:
                    raise

    def lock(self, connection: MysqlSession, name: str, note: str) -> bool:
        taken = self._one(connection, "SELECT GET_LOCK(?, 0)", lock_name(self._engine, name)) == 1
        if taken:
            connection.send("SET @katax_note = ?", [note])
        return taken

    def renew(self, connection: MysqlSession, name: str, note: str) -> bool:
        return (
            self._one(connection, "SELECT IS_USED_LOCK(?) = CONNECTION_ID()", lock_name(self._engine, name))
            == 1
        )

    def unlock(self, connection: MysqlSession, name: str) -> None:
        self._one(connection, "SELECT RELEASE_LOCK(?)", lock_name(self._engine, name))

    def holder(self, connection: MysqlSession, name: str) -> LockSession | None:
        for number, user, client in connection.send(_HOLDER, [lock_name(self._engine, name)]).fetchall():
            return LockSession(str(number), "", user, client)
        number = self._one(connection, "SELECT IS_USED_LOCK(?)", lock_name(self._engine, name))
        return None if number is None else LockSession(str(number), "")

    def noted(self, connection: MysqlSession) -> list[LockSession] | None:
        """Also of sessions that have released their lock: `holder` is exact."""
        row = connection.send("SELECT @@performance_schema").fetchone()
        if row and row[0]:
            with suppress(pymysql.err.MySQLError):  # not everybody may read it
                rows = connection.send(_NOTED).fetchall()
                return [
                    LockSession(str(number), _text(told), user, client) for number, told, user, client in rows
                ]
        return None

    def end_session(self, connection: MysqlSession, session: str) -> bool:
        with suppress(pymysql.err.OperationalError):
            connection.send(f"KILL CONNECTION {int(session)}")
            return True
        return False

    def definitions(
        self, connection: MysqlSession, objects: Sequence[ObjectName] | None = None
    ) -> dict[str, str]:
        indexes: list[tuple[str, str]] = []
        if objects is None:
            entities = list(connection.send(_OBJECTS).fetchall())
            indexes += connection.send(_INDEXES.format(condition="")).fetchall()
        else:
            entities = list(_present(connection, objects))
            for entity in objects:
                indexes += _indexes(connection, entity) if entity.kind == "index" else ()
        return dict([*_defined(connection, entities), *indexes])

    def script(
        self, connection: MysqlSession, statements: Sequence[str]
    ) -> tuple[int, pymysql.err.MySQLError] | None:
        return run_script(connection, statements)

    def packet_limit(self, connection: MysqlSession) -> int:
        row = connection.send("SELECT @@max_allowed_packet").fetchone()
        return int(row[0]) if row else 0

    def without_transactions(self, connection: MysqlSession) -> frozenset[str]:
        names = {_text(name) for (name,) in connection.send(_WITHOUT_TRANSACTIONS).fetchall()}
        if names:
            names |= {_text(name) for (name,) in connection.send(_WRITES_ELSEWHERE).fetchall()}
        return frozenset(names)

    def impact(self, sql: AnySql) -> DdlImpact:
        return impact(sql)

    def blockers(self, connection: MysqlSession, table: str) -> list[str]:
        """Sessions with open transactions; only MySQL with its performance schema says on which tables."""
        with suppress(pymysql.err.MySQLError):
            return [
                f"session {number} of {user}@{client} holds {mode} on {name}"
                for number, user, client, mode, name in connection.send(
                    _METADATA_LOCKS, [table.rpartition(".")[2].strip("`")]
                ).fetchall()
            ]
        with suppress(pymysql.err.MySQLError):
            return [
                f"session {number} has been in a transaction for {seconds} s, perhaps on {table}"
                for number, seconds in connection.send(_TRANSACTIONS).fetchall()
            ]
        return []

    def _one(self, connection: MysqlSession, sql: str, name: str) -> object:
        row = connection.send(sql, [name]).fetchone()
        return row[0] if row else None


def _present(connection: MysqlSession, objects: Sequence[ObjectName]) -> Iterator[tuple[str, str]]:
    """Those that are there. Asked for by exact names, for which the server opens nothing else."""
    for entity in objects:
        if entity.kind == "trigger":
            yield "trigger", entity.name
        elif entity.kind != "index":
            yield from connection.send(_OBJECT.get(entity.kind, _TABLE), [entity.name]).fetchall()


def _defined(connection: MysqlSession, found: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for kind, name in found:
        try:
            row = connection.send(f"SHOW CREATE {kind.upper()} {quote_identifier(name, 'mysql')}").fetchone()
        except pymysql.err.MySQLError as error:
            if error.args[0] != ER.TRG_DOES_NOT_EXIST:
                raise
            continue
        text = (row[_DEFINITION_COLUMN[kind]] if row else None) or ""
        yield f"{kind} {name}", _COUNTER.sub("", text)


def _indexes(connection: MysqlSession, index: ObjectName) -> Iterable[tuple[str, str]]:
    condition = "AND table_name = ? AND index_name = ?" if index.table else "AND index_name = ?"
    names = [index.table, index.name] if index.table else [index.name]
    return connection.send(_INDEXES.format(condition=condition), names).fetchall()


def _role(connection: MysqlSession) -> str | None:
    try:
        return _answer(connection, "SELECT CURRENT_ROLE()")
    except pymysql.err.MySQLError as error:
        # MySQL before 8 has no roles.
        if error.args[0] in (ER.SP_DOES_NOT_EXIST, ER.PARSE_ERROR):
            return None
        raise


def _answer(connection: MysqlSession, sql: str) -> str | None:
    row = connection.send(sql).fetchone()
    return None if row is None or row[0] is None else _text(row[0])


def _setting(connection: MysqlSession, name: str, value: str | None) -> str:
    """The statement that gives a session back what it had."""
    if name == "ROLE":
        # MySQL quotes its roles, of which there may be several; MariaDB does not.
        is_written = value is None or value == "NONE" or value.startswith("`")
        return f"SET ROLE {(value or 'NONE') if is_written or value is None else quote_identifier(value, 'mysql')}"
    value = value or ""
    return f"SET SESSION {name} = {value if _NUMBER.fullmatch(value) else connection.escape(value)}"


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


_METADATA_LOCKS = """
SELECT t.processlist_id, t.processlist_user, t.processlist_host, l.lock_type, l.object_name
FROM performance_schema.metadata_locks l JOIN performance_schema.threads t ON t.thread_id = l.owner_thread_id
WHERE l.object_schema = DATABASE() AND l.object_name = ? AND l.lock_status = 'GRANTED'
AND t.processlist_id <> CONNECTION_ID()"""
_TRANSACTIONS = """
SELECT trx_mysql_thread_id, TIMESTAMPDIFF(SECOND, trx_started, NOW()) FROM information_schema.innodb_trx
WHERE trx_mysql_thread_id <> CONNECTION_ID()"""


def impact(sql: AnySql) -> DdlImpact:
    """The locks of a statement, by its syntax; https://dev.mysql.com/doc/refman/8.0/en/innodb-online-ddl.html."""
    statement = statement_of(sql, "mysql")
    effect = statement.effect
    texts = [token.text for token in statement_code(statement.text, "mysql")]
    words = [text.upper() for text in texts]
    if effect.kind == "write":
        return DdlImpact("rows")
    if effect.kind != "ddl":
        return DdlImpact()
    if words[:2] != ["ALTER", "TABLE"]:
        return DdlImpact("metadata, exclusive", transactional=False)
    text = f" {' '.join(words)} "
    rewrites = any(part in text for part in _NO_ONLINE)
    advice = None if "ALGORITHM" in words else "ALGORITHM=INPLACE, LOCK=NONE makes the server refuse a copy"
    table = "".join(texts[2:5]) if texts[3:4] == ["."] else "".join(texts[2:3])
    return DdlImpact("metadata, exclusive", (table,), transactional=False, rewrites=rewrites, advice=advice)


create = MysqlMigrations
