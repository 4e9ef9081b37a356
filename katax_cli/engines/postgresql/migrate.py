"""Migrations on PostgreSQL: advisory locks, the schema as text, and the effects of DDL on others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from hashlib import blake2b

from katax_cli.core.sql import AnySql, Token, code_tokens, statement_of
from katax_cli.engines.base import Params
from katax_cli.engines.migrations import CUT, DdlImpact, LockSession, MigrationFacts, ObjectName
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.postgresql import PostgresEngine
from katax_cli.engines.postgresql.pipeline import in_turn, together
from katax_cli.engines.postgresql.session import PostgresConnection

_NOTE_BYTES = 63
"""What the server keeps of an application_name."""

_TRY_LOCK = "SELECT pg_try_advisory_lock($1::int, $2::int)"
_HELD = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
    AND classid = $2::bigint::oid AND objid = $3::bigint::oid AND objsubid = 2
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())),
    set_config('application_name', $1, false)"""
_HOLDER = """
SELECT l.pid::text, CASE WHEN a.query LIKE '/* katax %' THEN substring(a.query FROM 4 FOR
    strpos(a.query, ' */') - 4) ELSE coalesce(a.application_name, '') END,
    a.usename, coalesce(host(a.client_addr), 'local socket')
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
    AND l.classid = $1::bigint::oid AND l.objid = $2::bigint::oid
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
_NOTED = f"""
SELECT DISTINCT l.pid::text, CASE WHEN a.query LIKE '/* katax %' THEN substring(a.query FROM 4 FOR
    strpos(a.query, ' */') - 4) WHEN octet_length(a.application_name) > {_NOTE_BYTES - 4}
    THEN a.application_name || '{CUT}' ELSE a.application_name END,
    a.usename, coalesce(host(a.client_addr), 'local socket')
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND a.application_name LIKE 'katax %'
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
_BLOCKERS = """
SELECT l.pid, l.mode, a.usename, a.application_name, a.state,
    round(extract(epoch FROM now() - a.xact_start))::int
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
    AND l.relation = to_regclass($1)::oid
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY a.xact_start"""

_HOME = """
SELECT coalesce((SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = pg_catalog.to_regclass(pg_catalog.quote_ident($1))), current_schema())::text"""
_ELSEWHERE = """
SELECT n.nspname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = $1 AND c.relkind IN ('r', 'p') AND EXISTS (
    SELECT FROM pg_catalog.pg_settings WHERE name = 'search_path' AND source = 'database')"""

_USER = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%'"
_OWN = "NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = {id} AND d.deptype = 'e')"
_PARTS = (
    # columns
    f"""SELECT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' ELSE 'table ' END
        || n.nspname || '.' || c.relname, a.attnum, 'column ' || a.attname || ' '
        || format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
        || coalesce(CASE a.attgenerated WHEN '' THEN ' default ' ELSE ' generated ' END
            || pg_get_expr(f.adbin, f.adrelid), '')
        || CASE a.attidentity WHEN '' THEN '' ELSE ' identity ' || a.attidentity::text END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef f ON f.adrelid = c.oid AND f.adnum = a.attnum
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND {_USER} AND {_OWN.format(id="c.oid")}
    AND ($1::text[] IS NULL OR lower(c.relname) = ANY ($1))""",
    # tables without columns, and what a table is
    f"""SELECT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' ELSE 'table ' END
        || n.nspname || '.' || c.relname, 0, concat_ws(' ', 'kind', c.relkind::text, c.relpersistence::text,
        CASE WHEN c.relrowsecurity THEN 'row security' END, array_to_string(c.reloptions, ','))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND {_USER} AND {_OWN.format(id="c.oid")}
    AND ($1::text[] IS NULL OR lower(c.relname) = ANY ($1))""",
    # what views say
    f"""SELECT CASE c.relkind WHEN 'v' THEN 'view ' ELSE 'materialized view ' END || n.nspname || '.'
        || c.relname, 5000, pg_get_viewdef(c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('v', 'm') AND {_USER} AND {_OWN.format(id="c.oid")}
    AND ($1::text[] IS NULL OR lower(c.relname) = ANY ($1))""",
    # constraints
    f"""SELECT 'table ' || n.nspname || '.' || c.relname, 10000, 'constraint ' || k.conname || ' '
        || pg_get_constraintdef(k.oid)
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {_USER} AND k.contype <> 'n' AND ($1::text[] IS NULL OR lower(c.relname) = ANY ($1))""",
    # indexes, also those of a table that is named
    f"""SELECT 'index ' || n.nspname || '.' || i.relname, 0, pg_get_indexdef(i.oid)
        || CASE WHEN x.indisvalid THEN '' ELSE ' INVALID' END
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
    JOIN pg_class c ON c.oid = x.indrelid
    WHERE {_USER} AND ($1::text[] IS NULL OR lower(i.relname) = ANY ($1) OR lower(c.relname) = ANY ($1))""",
    # triggers
    f"""SELECT 'trigger ' || n.nspname || '.' || t.tgname, 0, pg_get_triggerdef(t.oid)
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT t.tgisinternal AND {_USER} AND ($1::text[] IS NULL OR lower(t.tgname) = ANY ($1))""",
    # functions and procedures
    f"""SELECT CASE p.prokind WHEN 'p' THEN 'procedure ' ELSE 'function ' END || n.nspname || '.' || p.proname
        || '(' || pg_get_function_identity_arguments(p.oid) || ')', 0,
        CASE p.prokind WHEN 'a' THEN 'aggregate' ELSE pg_get_functiondef(p.oid) END
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE {_USER} AND {_OWN.format(id="p.oid")} AND ($1::text[] IS NULL OR lower(p.proname) = ANY ($1))""",
    # sequences
    f"""SELECT 'sequence ' || n.nspname || '.' || c.relname, 0, concat_ws(' ', s.seqtypid::regtype::text,
        s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle)
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {_USER} AND ($1::text[] IS NULL OR lower(c.relname) = ANY ($1))""",
    # enum types and domains
    f"""SELECT CASE t.typtype WHEN 'd' THEN 'domain ' ELSE 'type ' END || n.nspname || '.' || t.typname, 0,
        CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) ELSE (
            SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
            FROM pg_enum e WHERE e.enumtypid = t.oid) END
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype IN ('e', 'd') AND {_USER} AND {_OWN.format(id="t.oid")}
    AND ($1::text[] IS NULL OR lower(t.typname) = ANY ($1))""",
    # schemas and extensions
    f"""SELECT 'schema ' || n.nspname, 0, 'schema' FROM pg_namespace n
    WHERE {_USER} AND ($1::text[] IS NULL OR lower(n.nspname) = ANY ($1))""",
    """SELECT 'extension ' || e.extname, 0, e.extversion FROM pg_extension e
    WHERE $1::text[] IS NULL OR lower(e.extname) = ANY ($1)""",
)
_DEFINITIONS = " UNION ALL ".join(_PARTS) + " ORDER BY 1, 2, 3"

_EXCLUSIVE, _SHARE, _SHARE_ROW = "ACCESS EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE"
_GENTLE, _ROW = "SHARE UPDATE EXCLUSIVE", "ROW EXCLUSIVE"
_NO_TRANSACTION = frozenset({"VACUUM", "REINDEX CONCURRENTLY", "CREATE DATABASE", "DROP DATABASE"})

# A shorter limit of the role's or the session's own stands; 0 is none.
_SHORTER_LOCK_TIMEOUT = (
    "SELECT set_config('lock_timeout', least({ms}, nullif(setting::bigint, 0))::text, false) "
    "FROM pg_settings WHERE name = 'lock_timeout'"
)


class PostgresMigrations(EnginePart[PostgresEngine]):
    """SessionLocks, Definitions, DdlImpacts and SendsTogether of PostgreSQL."""

    facts = MigrationFacts(
        transactional_ddl=True,
        server_sessions=True,
        long_text="TEXT",
        set_lock_timeout=_SHORTER_LOCK_TIMEOUT,
        reset_lock_timeout="RESET lock_timeout",
        home=_HOME,
        elsewhere=_ELSEWHERE,
    )

    def settings(self, connection: PostgresConnection) -> Mapping[str, str | None]:
        return {}

    def take_back(
        self, connection: PostgresConnection, settings: Mapping[str, str | None], temporary: Sequence[str]
    ) -> None:
        """RESET ALL leaves the role as it is; that of the session's start is known after its user only."""
        for sql in ("RESET SESSION AUTHORIZATION", "RESET ROLE", "RESET ALL", "DISCARD TEMP"):
            self._engine.execute(connection, sql, None, None)

    def lock(self, connection: PostgresConnection, name: str, note: str) -> bool:
        taken = self._one(connection, _TRY_LOCK, _keys(name)) is True
        return taken and self.renew(connection, name, note)

    def renew(self, connection: PostgresConnection, name: str, note: str) -> bool:
        class_id, object_id = (key % 2**32 for key in _keys(name))
        short = note.encode()[:_NOTE_BYTES].decode(errors="ignore")
        # As a comment it is kept whole, for those who may see what others run.
        head = "" if "/*" in note or "*/" in note else f"/* {note} */"
        return self._one(connection, head + _HELD, [short, class_id, object_id]) is True

    def unlock(self, connection: PostgresConnection, name: str) -> None:
        self._one(connection, "SELECT pg_advisory_unlock($1::int, $2::int)", _keys(name))

    def holder(self, connection: PostgresConnection, name: str) -> LockSession | None:
        keys = [key % 2**32 for key in _keys(name)]
        rows = self._engine.execute(connection, _HOLDER, keys).rows
        return LockSession(*rows[0]) if rows else None

    def noted(self, connection: PostgresConnection) -> list[LockSession]:
        return [LockSession(*row) for row in self._engine.execute(connection, _NOTED).rows]

    def end_session(self, connection: PostgresConnection, session: str) -> bool:
        return self._one(connection, "SELECT pg_terminate_backend($1::int)", [int(session)]) is True

    def definitions(
        self, connection: PostgresConnection, objects: Sequence[ObjectName] | None = None
    ) -> dict[str, str]:
        wanted = None if objects is None else [one.name.lower() for one in objects]
        lines: defaultdict[str, list[str]] = defaultdict(list)
        for key, _, line in self._engine.execute(connection, _DEFINITIONS, [wanted]).rows:
            lines[key].append(line or "")
        return {key: "\n".join(found) for key, found in lines.items()}

    def impact(self, sql: AnySql) -> DdlImpact:
        return impact(statement_of(sql, "postgresql").text)

    def blockers(self, connection: PostgresConnection, table: str) -> list[str]:
        rows = self._engine.execute(connection, _BLOCKERS, [table]).rows
        return [
            f"session {pid} of {user} ({application or 'unnamed'}, {state}, for {seconds or 0} s) holds {mode}"
            for pid, mode, user, application, state, seconds in rows
        ]

    def together(
        self, connection: PostgresConnection, batch: Sequence[tuple[AnySql, Params]], note: str
    ) -> tuple[int, BaseException] | None:
        return together(connection, batch, head=_head(note))

    def in_turn(
        self,
        connection: PostgresConnection,
        last: Sequence[tuple[AnySql, Params]],
        then: Sequence[tuple[AnySql, Params]],
        note: str,
    ) -> Generator[tuple[int, BaseException] | None]:
        return in_turn(connection, last, then, head=_head(note))

    def _one(self, connection: PostgresConnection, sql: str, params: Sequence[object]) -> object:
        return self._engine.execute(connection, sql, params).rows[0][0]


def _head(note: str) -> str:
    """Cheaper than an application_name, which the server reports back to its client at each change."""
    return f"/* {note.replace('*/', '')} */ " if note else ""


def _keys(name: str) -> list[int]:
    digest = blake2b(name.encode(), digest_size=8).digest()
    return [int.from_bytes(part, "big", signed=True) for part in (digest[:4], digest[4:])]


def impact(sql: str) -> DdlImpact:
    """The lock of a statement by its syntax; https://www.postgresql.org/docs/current/explicit-locking.html."""
    words = [_plain(token) for token in code_tokens(sql, "postgresql")]
    text = f" {' '.join(words)} "
    lock, rewrites, advice = _rule(words[:1], text)
    apart = " CONCURRENTLY " in text or any(text.startswith(f" {verb} ") for verb in _NO_TRANSACTION)
    return DdlImpact(lock, _tables(sql, words), not apart, rewrites, advice)


def _plain(token: Token) -> str:
    """A word in upper case, and of a literal, which may read like SQL, nothing."""
    return token.text.upper() if token.kind == "word" else "''" if token.kind == "string" else token.text


def _rule(verb: list[str], text: str) -> tuple[str | None, bool | None, str | None]:
    if text.startswith(" ALTER TABLE "):
        return _alter_table(text)
    for start, lock, rewrites, advice in _RULES:
        if all(part in text if at else text.startswith(part) for at, part in enumerate(start)):
            return lock, rewrites, advice
    return (
        (_ROW, False, None)
        if verb in (["INSERT"], ["UPDATE"], ["DELETE"], ["MERGE"])
        else (None, False, None)
    )


_RULES: tuple[tuple[tuple[str, ...], str | None, bool, str | None], ...] = (
    ((" CREATE ", " INDEX CONCURRENTLY "), _GENTLE, False, None),
    (
        (" CREATE UNIQUE INDEX ",),
        _SHARE,
        False,
        "CREATE UNIQUE INDEX CONCURRENTLY with '-- katax: no-transaction'",
    ),
    ((" CREATE INDEX ",), _SHARE, False, "CREATE INDEX CONCURRENTLY with '-- katax: no-transaction'"),
    ((" DROP INDEX CONCURRENTLY ",), _GENTLE, False, None),
    ((" DROP INDEX ",), _EXCLUSIVE, False, "DROP INDEX CONCURRENTLY with '-- katax: no-transaction'"),
    ((" REINDEX ", " CONCURRENTLY "), _GENTLE, False, None),
    ((" REINDEX ",), _EXCLUSIVE, True, "REINDEX CONCURRENTLY with '-- katax: no-transaction'"),
    ((" REFRESH MATERIALIZED VIEW CONCURRENTLY ",), "EXCLUSIVE", False, None),
    ((" REFRESH MATERIALIZED VIEW ",), _EXCLUSIVE, True, "REFRESH MATERIALIZED VIEW CONCURRENTLY"),
    ((" VACUUM FULL ",), _EXCLUSIVE, True, "plain VACUUM"),
    ((" VACUUM ",), _GENTLE, False, None),
    ((" CLUSTER ",), _EXCLUSIVE, True, None),
    ((" DROP TABLE ",), _EXCLUSIVE, False, "'-- katax: lock-timeout=2s'"),
    ((" TRUNCATE ",), _EXCLUSIVE, False, "'-- katax: lock-timeout=2s'"),
    ((" CREATE TRIGGER ",), _SHARE_ROW, False, "'-- katax: lock-timeout=2s'"),
    ((" LOCK ",), _EXCLUSIVE, False, "'-- katax: lock-timeout=2s'"),
)


def _alter_table(text: str) -> tuple[str, bool, str | None]:
    if " VALIDATE CONSTRAINT " in text or " SET STATISTICS " in text:
        return _GENTLE, False, None
    if " ADD " in text and " FOREIGN KEY " in text and " NOT VALID " not in text:
        return _SHARE_ROW, False, "ADD … NOT VALID, then VALIDATE CONSTRAINT in a later migration"
    if " CHECK " in text and " NOT VALID " not in text:
        return _EXCLUSIVE, False, "ADD … NOT VALID, then VALIDATE CONSTRAINT in a later migration"
    if " ADD " in text and (" UNIQUE " in text or " PRIMARY KEY " in text) and " USING INDEX " not in text:
        return _EXCLUSIVE, False, "CREATE UNIQUE INDEX CONCURRENTLY first, then ADD … USING INDEX"
    if " SET NOT NULL " in text:
        return _EXCLUSIVE, False, "a CHECK (… IS NOT NULL) NOT VALID, validated before, spares the scan"
    if (" ALTER " in text and " TYPE " in text) or " SET TABLESPACE " in text or " SET LOGGED " in text:
        return _EXCLUSIVE, True, "a new column, filled in batches, then swapped"
    volatile = any(
        word in text.lower() for word in (" random ", " gen_random_uuid ", " clock_timestamp ", " nextval ")
    )
    if " ADD " in text and (volatile or " SERIAL " in text or " BIGSERIAL " in text or " STORED " in text):
        return _EXCLUSIVE, True, "ADD COLUMN without a volatile default, then fill it in batches"
    return _EXCLUSIVE, False, "'-- katax: lock-timeout=2s'"


_SKIPPED = frozenset({"ONLY", "IF", "NOT", "EXISTS", "CONCURRENTLY", "FULL", "TABLE"})
_TARGETS = {"CREATE": "ON", "DROP": "TABLE", "ALTER": "TABLE", "INSERT": "INTO", "DELETE": "FROM"}


def _tables(sql: str, words: list[str]) -> tuple[str, ...]:
    """The table that the statement locks, as it is written."""
    start = _TARGETS.get(words[0]) if words else None
    if words[:1] in (["UPDATE"], ["TRUNCATE"], ["VACUUM"], ["CLUSTER"], ["LOCK"]):
        start = words[0]
    if start is None or start not in words:
        return ()
    texts = [token.text for token in code_tokens(sql, "postgresql")]
    at = words.index(start) + 1
    while at < len(words) and words[at] in _SKIPPED:
        at += 1
    name = texts[at : at + 1]
    while texts[at + 1 : at + 2] == ["."]:
        name += texts[at + 1 : at + 3]
        at += 2
    return ("".join(name),) if name else ()


create = PostgresMigrations
