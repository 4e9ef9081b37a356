"""PostgreSQL databases that are as good as new, lent again.

A database takes 60 to 300 ms to create on a busy machine and 6 ms to empty. One is lent again only when its catalogs
prove that it is as CREATE DATABASE leaves it; any other is dropped.
"""

import psycopg

from tests.servers.server import Server

_EMPTIED = r"""
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend';
DO $$ DECLARE statement text; BEGIN
    FOR statement IN
        SELECT format('DROP EXTENSION %I CASCADE', extname) FROM pg_extension WHERE oid >= 16384
        UNION ALL SELECT format('DROP SCHEMA %I CASCADE', nspname) FROM pg_namespace
            WHERE oid >= 16384 AND nspname NOT LIKE 'pg\_%'
    LOOP EXECUTE statement; END LOOP;
    FOR statement IN
        SELECT format('DROP %s IF EXISTS public.%I CASCADE', CASE relkind WHEN 'v' THEN 'VIEW'
            WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE'
            WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, relname)
            FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
        UNION ALL SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', oid::regprocedure) FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT format('DROP TYPE IF EXISTS public.%I CASCADE', typname) FROM pg_type
            WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd', 'r')
    LOOP EXECUTE statement; END LOOP;
END $$;
SELECT pg_stat_reset();
"""
# From 16384 on, objects are users' own.
_WITH_OBJECTS = [
    "class",
    "type",
    "proc",
    "extension",
    "event_trigger",
    "publication",
    "largeobject_metadata",
    "cast",
    "language",
    "foreign_data_wrapper",
    "foreign_server",
    "default_acl",
    "collation",
    "conversion",
    "operator",
    "opclass",
    "opfamily",
    "am",
    "ts_config",
    "ts_dict",
    "ts_parser",
    "ts_template",
    "transform",
    "user_mapping",
    "statistic_ext",
    "policy",
    "rewrite",
    "trigger",
    "constraint",
]
_LEFT = " UNION ALL ".join(
    [f"SELECT 'pg_{catalog}' FROM pg_{catalog} WHERE oid >= 16384" for catalog in _WITH_OBJECTS]
    + [
        r"SELECT nspname FROM pg_namespace WHERE oid >= 16384 AND nspname NOT LIKE 'pg\_%'",
        "SELECT 'public' WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public' AND nspacl::text"
        " = '{pg_database_owner=UC/pg_database_owner,=U/pg_database_owner}')",
        "SELECT 'session' FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        "SELECT 'prepared' FROM pg_prepared_xacts WHERE database = current_database()",
        "SELECT 'slot' FROM pg_replication_slots WHERE database = current_database()",
        "SELECT 'setting' FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " WHERE d.datname = current_database()",
        "SELECT 'subscription' FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
        " WHERE d.datname = current_database()",
        "SELECT 'database' FROM pg_database WHERE datname = current_database() AND (datacl IS NOT NULL"
        " OR datconnlimit <> -1 OR datistemplate OR pg_get_userbyid(datdba) <> current_user)",
        "SELECT 'size' WHERE pg_database_size(current_database()) > 12e6",
        "SELECT 'preloaded' WHERE current_setting('shared_preload_libraries') <> ''",
        "SELECT 'language' WHERE (SELECT count(*) FROM pg_extension) <> 1",
    ]
)
_idle: dict[str, list[str]] = {}


def lend(server: Server) -> str | None:
    """The name of an empty database that nothing has had before under this name."""
    idle = _idle.get(server.url)
    return idle.pop() if idle else None


def give_back(server: Server, name: str, new_name: str) -> bool:
    """Whether `name` was emptied; as `new_name` it may be lent again."""
    if server.process is not None or server.source in ("URL", "Docker"):
        return False
    try:
        with psycopg.connect(server.database_url(name), autocommit=True) as connection:
            connection.execute(_EMPTIED.encode())
            if connection.execute(_LEFT.encode()).fetchall():
                return False
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" RENAME TO "{new_name}"'.encode())
    except psycopg.Error:
        return False
    _idle.setdefault(server.url, []).append(new_name)
    return True
