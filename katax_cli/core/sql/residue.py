"""State that a statement may leave in its session for the connection's next user, read from its syntax.

Only what is known to leave nothing counts as plain: reads and changes that call none but well-known functions,
and the words of transactions. A trigger or view that sets something by itself cannot be seen here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum

from katax_cli.core.sql.classify import Classification
from katax_cli.core.sql.lexer import Dialect, Token, code_tokens, keywords

_READ_LENGTH = 16_384
_PLAIN = frozenset({"read", "write"})
_UNPLAIN_VERBS = frozenset({"CALL", "DO", "REFRESH", "FETCH"})
_OF_TRANSACTIONS = frozenset({"BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "END", "ABORT"})
_OF_SCHEMAS = keywords(
    "CREATE ALTER DROP TRUNCATE RENAME COMMENT GRANT REVOKE REINDEX VACUUM ANALYZE OPTIMIZE"
)
_TEMPORARY = keywords("TEMP TEMPORARY PG_TEMP")
_LASTING_FUNCTIONS = frozenset({"dblink_connect", "dblink_connect_u"})
_SYNTAX = keywords(
    """ALL AND ANY ARRAY AS BETWEEN BY CASE CHAR CONFLICT CUBE DECIMAL DISTINCT DOUBLE ELSE EXCEPT EXISTS EXPLAIN
    FILTER FLOAT FROM FULL GROUP GROUPING HAVING ILIKE IN INDEX INTERSECT INTERVAL INTO IS JOIN KEY LATERAL LIKE
    LIMIT MATERIALIZED NOT NUMERIC OFFSET ON OR OVER PARTITION PRECISION RETURNING ROLLUP ROW SELECT SET SETS SOME
    THEN TIME TIMESTAMP UNION UNIQUE USING VALUES VARCHAR WHEN WHERE WINDOW WITHIN"""
)
_HARMLESS = keywords(
    """abs acos adddate addtime age any_value array_agg array_append array_cat array_length array_position
    array_prepend array_remove array_replace array_to_json array_to_string array_upper ascii asin atan atan2 avg
    bit_and bit_count bit_length bit_or bool_and bool_or btrim cardinality cast ceil ceiling changes char
    char_length character_length chr clock_timestamp coalesce concat concat_ws conv convert convert_tz corr cos cot
    count crc32 cume_dist curdate current_date current_database current_role current_schema current_schemas
    current_setting current_time current_timestamp current_user currval curtime database date date_add date_bin
    date_format date_part date_sub date_trunc datediff datetime day dayname dayofmonth dayofweek dayofyear decode
    degrees dense_rank elt encode every exp extract field find_in_set first_value floor format format_type
    found_rows from_base64 from_days from_unixtime gcd gen_random_uuid generate_series get_bit get_byte glob
    greatest group_concat hex hour if ifnull iif inet6_aton inet_aton inet_ntoa initcap insert instr isnull json
    json_agg json_array json_array_elements json_array_elements_text json_array_length json_arrayagg json_build_array
    json_build_object json_contains json_each json_each_text json_extract json_extract_path json_group_array
    json_group_object json_insert json_keys json_length json_merge_patch json_object json_object_agg
    json_object_keys json_objectagg json_patch json_populate_record json_quote json_remove json_replace json_search
    json_set json_table json_to_record json_tree json_type json_typeof json_unquote json_valid json_value
    jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array
    jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path jsonb_insert jsonb_object_agg
    jsonb_object_keys jsonb_path_exists jsonb_path_query jsonb_path_query_array jsonb_pretty jsonb_set
    jsonb_strip_nulls jsonb_to_record jsonb_typeof julianday justify_days justify_hours justify_interval lag
    last_day last_insert_rowid last_value lastval lcase lcm lead least left length ln localtime localtimestamp
    locate log log10 log2 lower lpad ltrim make_date make_interval make_time make_timestamp make_timestamptz
    makedate maketime max md5 microsecond mid min minute mod month monthname name_const nextval now nth_value ntile
    nullif num_nonnulls num_nulls octet_length ord overlay percent_rank percentile_cont percentile_disc period_add
    period_diff pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_backend_pid pg_column_size pg_database_size
    pg_get_constraintdef pg_get_expr pg_get_indexdef pg_get_serial_sequence pg_get_viewdef pg_is_in_recovery
    pg_relation_size pg_size_pretty pg_sleep pg_table_is_visible pg_total_relation_size pg_try_advisory_xact_lock
    pg_try_advisory_xact_lock_shared pg_typeof phraseto_tsquery pi plainto_tsquery position pow power printf
    quarter quote quote_ident quote_literal quote_nullable radians rand random random_bytes randomblob rank
    regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
    regexp_split_to_table regexp_substr repeat replace reverse right round row_count row_number row_to_json rpad
    rtrim schema sec_to_time second session_user setval sha1 sha2 sha224 sha256 sha384 sha512 sign sin sleep soundex
    space split_part sqlite_version sqrt starts_with statement_timestamp std stddev stddev_pop stddev_samp
    str_to_date strcmp strftime string_agg string_to_array strpos subdate substr substring substring_index subtime
    sum sysdate tan time time_format time_to_sec timediff timestamp timestampadd timestampdiff timezone to_ascii
    to_base64 to_char to_date to_days to_hex to_json to_jsonb to_number to_seconds to_timestamp to_tsquery
    to_tsvector total total_changes transaction_timestamp translate trim trunc truncate ts_headline ts_rank typeof
    ucase uncompress unhex unicode unistr unix_timestamp unixepoch unnest upper user utc_date utc_time
    utc_timestamp uuid uuid_short uuid_to_bin bin_to_uuid value var_pop var_samp variance version
    password websearch_to_tsquery week weekday weekofyear width_bucket xmlagg year yearweek zeroblob"""
)


class Residue(IntEnum):
    """The part of a session that a statement may have changed."""

    NONE = 0
    RESETTABLE = 1
    """Settings, temporary tables, locks, cursors, prepared statements: what the server itself can reset."""
    LASTING = 2
    """What survives the server's reset: the connection has to be closed."""


def residue(statement: str, dialect: Dialect, seen: Classification) -> Residue:
    """The residue of `statement`. A long text counts as leaving something: reading it costs more."""
    if len(statement) > _READ_LENGTH:
        return Residue.RESETTABLE
    code = list(code_tokens(statement, dialect))
    calls = list(_calls(code))
    if any(name in _LASTING_FUNCTIONS for name, _ in calls) or _outlasts_reset(code, dialect):
        return Residue.LASTING
    if seen.verb == "PRAGMA" and seen.kind == "read":
        return Residue.NONE
    if not (_leaves_nothing(seen, code) or _ends_with_transaction(code, dialect)):
        return Residue.RESETTABLE
    if dialect == "mysql" and any(token.kind == "variable" and token.text[:2] != "@@" for token in code):
        return Residue.RESETTABLE
    if seen.verb in _OF_SCHEMAS and not any(token.text.upper() == "SELECT" for token in code):
        # What looks like a call is a table, a type or a default.
        return Residue.NONE
    return Residue.NONE if _are_harmless(calls, code) else Residue.RESETTABLE


def calls_others(statement: str, dialect: Dialect) -> bool:
    """True when it calls a function that is not known to change nothing."""
    code = list(code_tokens(statement, dialect))
    return not _are_harmless(list(_calls(code)), code)


def _are_harmless(calls: Sequence[tuple[str, int]], code: Sequence[Token]) -> bool:
    return all(name in _HARMLESS or _is_local(name, code, at) for name, at in calls)


def _leaves_nothing(seen: Classification, code: Sequence[Token]) -> bool:
    if seen.kind == "transaction":
        return seen.verb in _OF_TRANSACTIONS
    if seen.verb in _OF_SCHEMAS:
        return not any(token.text.strip('"`').upper() in _TEMPORARY for token in code)
    plain = seen.kind in _PLAIN and seen.verb not in _UNPLAIN_VERBS
    return plain and not (seen.reason or "").startswith("SELECT INTO")


def _outlasts_reset(code: Sequence[Token], dialect: Dialect) -> bool:
    return _word(code, 0) == {"postgresql": "LOAD", "mysql": "XA"}.get(dialect)


def _ends_with_transaction(code: Sequence[Token], dialect: Dialect) -> bool:
    first, second = _word(code, 0), _word(code, 1)
    if dialect != "postgresql":
        return False
    return first in ("LOCK", "NOTIFY") or (
        first == "SET" and second in ("LOCAL", "CONSTRAINTS", "TRANSACTION")
    )


def _calls(code: Sequence[Token]) -> Iterator[tuple[str, int]]:
    """The functions that are called, and where; a name of a type or of a query may be among them."""
    for index, token in enumerate(code[:-1]):
        if code[index + 1].text != "(" or token.kind not in ("word", "quoted"):
            continue
        start = _start_of_name(code, index)
        if token.text.upper() in _SYNTAX or _word(code, start - 1) in ("INTO", "AS"):
            continue
        yield (
            ".".join(part.text.lower() for part in code[start : index + 1 : 2]).removeprefix("pg_catalog."),
            index,
        )


def _start_of_name(code: Sequence[Token], index: int) -> int:
    while index >= 2 and code[index - 1].text == ".":
        index -= 2
    return index


def _is_local(name: str, code: Sequence[Token], at: int) -> bool:
    """`set_config(…, …, true)` ends with its transaction."""
    depth = 0
    for index in range(at + 1, len(code)):
        depth += {"(": 1, ")": -1}.get(code[index].text, 0)
        if depth == 0:
            return name == "set_config" and _word(code, index - 1) == "TRUE" and code[index - 2].text == ","
    return False


def _word(code: Sequence[Token], index: int) -> str:
    return code[index].text.upper() if 0 <= index < len(code) and code[index].kind == "word" else ""
