"""Parameters that other tools write into the URLs they share with katax.

Only these are ignored: any other unknown parameter may be a mistyped one (`sslmod=require`) and stays an error of
its driver. What decides about encryption is never here; see `tls`.
"""

from __future__ import annotations

from collections.abc import Mapping

# Prisma, SQLAlchemy, Rails, Django (dj-database-url), Doctrine, Laravel and node's pools: settings of their own.
_ANY = {
    "connection_limit",
    "pool",
    "pool_size",
    "pool_timeout",
    "max_overflow",
    "pool_recycle",
    "pool_pre_ping",
    "checkout_timeout",
    "reaping_frequency",
    "conn_max_age",
    "conn_health_checks",
    "serverversion",
    "server_version",
    "encoding",
    "charset",
    "reconnect",
    "socket_timeout",
    "idle_timeout",
    "prepared_statements",
    "statement_cache_size",
    "prepared_statement_cache_size",
    "statement_limit",
    "variables",
}
_OF_KIND: Mapping[str, set[str]] = {
    "postgresql": {
        # Prisma, dbmate, lib/pq, pgx, JDBC
        "schema",
        "search_path",
        "currentschema",
        "pgbouncer",
        "async_fallback",
        "prepared_statement_name_func",
        "binary_parameters",
        "default_query_exec_mode",
        "statement_cache_capacity",
        "description_cache_capacity",
        "pool_max_conns",
        "pool_min_conns",
        "pool_max_conn_lifetime",
        "pool_max_conn_idle_time",
        "pool_health_check_period",
        "applicationname",
        "preparethreshold",
        "rewritebatchedinserts",
        "stringtype",
        "logintimeout",
        "sockettimeout",
        "uselibpqcompat",
        "disable_server_side_cursors",
    },
    "mysql": {
        # go-sql-driver, JDBC
        "parsetime",
        "loc",
        "multistatements",
        "interpolateparams",
        "clientfoundrows",
        "columnswithalias",
        "maxallowedpacket",
        "timeout",
        "readtimeout",
        "writetimeout",
        "servertimezone",
        "useunicode",
        "characterencoding",
        "connectioncollation",
        "zerodatetimebehavior",
        "allowpublickeyretrieval",
        "autoreconnect",
        "allowmultiqueries",
        "rewritebatchedstatements",
        "binary_prefix",
    },
    "mongodb": {"usenewurlparser", "useunifiedtopology", "usecreateindex", "usefindandmodify"},
}
# What katax reads of the parameters of servers whose drivers get none.
_OWN = {"redis": {"sentinel_user", "sentinel_password"}, "sqlite": set[str]()}


def is_foreign(kind: str, name: str) -> bool:
    """True for a parameter that only other tools read; golang-migrate's begin with `x-`."""
    plain = name.lower()
    if kind in _OWN:
        return plain not in _OWN[kind]
    return plain.startswith("x-") or plain in _ANY or plain in _OF_KIND[kind]
