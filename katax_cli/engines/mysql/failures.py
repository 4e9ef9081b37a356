"""The meaning of errors of MySQL, MariaDB and PyMySQL: by number, where it is ambiguous by their cause."""

from __future__ import annotations

import re
import ssl

import pymysql
from pymysql.constants import CR, ER

from katax_cli.core.resilience.failure import ConstraintKind, Failure, FailureKind, Violation
from katax_cli.engines.mysql.places import words_of

# https://dev.mysql.com/doc/mysql-errors/8.4/en/ and https://mariadb.com/docs/server/reference/error-codes;
# numbers without a name are those that PyMySQL has no constant for.
_KINDS: dict[int, FailureKind] = {
    ER.LOCK_WAIT_TIMEOUT: FailureKind.BUSY,
    3572: FailureKind.BUSY,  # ER_LOCK_NOWAIT
    ER.LOCK_DEADLOCK: FailureKind.DEADLOCK,
    3101: FailureKind.ROLLED_BACK,  # ER_TRANSACTION_ROLLBACK_DURING_COMMIT
    1180: FailureKind.UNKNOWN_OUTCOME,  # ER_ERROR_DURING_COMMIT
    ER.CON_COUNT_ERROR: FailureKind.OVERLOADED,
    ER.TOO_MANY_USER_CONNECTIONS: FailureKind.OVERLOADED,
    ER.USER_LIMIT_REACHED: FailureKind.OVERLOADED,
    ER.ACCESS_DENIED_ERROR: FailureKind.AUTHENTICATION,
    1698: FailureKind.AUTHENTICATION,  # ER_ACCESS_DENIED_NO_PASSWORD_ERROR
    1820: FailureKind.AUTHENTICATION,  # ER_MUST_CHANGE_PASSWORD
    1862: FailureKind.AUTHENTICATION,  # ER_MUST_CHANGE_PASSWORD_LOGIN
    3118: FailureKind.AUTHENTICATION,  # ER_ACCOUNT_HAS_BEEN_LOCKED
    4151: FailureKind.AUTHENTICATION,  # MariaDB's ER_ACCOUNT_HAS_BEEN_LOCKED
    ER.HOST_NOT_PRIVILEGED: FailureKind.CONFIGURATION,
    ER.HOST_IS_BLOCKED: FailureKind.CONFIGURATION,
    ER.DBACCESS_DENIED_ERROR: FailureKind.CONFIGURATION,
    ER.BAD_DB_ERROR: FailureKind.CONFIGURATION,
    CR.CR_SSL_CONNECTION_ERROR: FailureKind.CONFIGURATION,
    CR.CR_AUTH_PLUGIN_CANNOT_LOAD: FailureKind.CONFIGURATION,
    3159: FailureKind.CONFIGURATION,  # ER_SECURE_TRANSPORT_REQUIRED
    1792: FailureKind.READ_ONLY,  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
    1836: FailureKind.READ_ONLY,  # ER_READ_ONLY_MODE
    ER.QUERY_INTERRUPTED: FailureKind.TIMED_OUT,
    ER.STATEMENT_TIMEOUT: FailureKind.TIMED_OUT,
    ER.QUERY_TIMEOUT: FailureKind.TIMED_OUT,
    CR.CR_CONNECTION_ERROR: FailureKind.UNREACHABLE,
    CR.CR_CONN_HOST_ERROR: FailureKind.UNREACHABLE,
    CR.CR_UNKNOWN_HOST: FailureKind.UNREACHABLE,
    ER.SERVER_SHUTDOWN: FailureKind.LOST,
    ER.NORMAL_SHUTDOWN: FailureKind.LOST,
    1927: FailureKind.LOST,  # MariaDB's ER_CONNECTION_KILLED
    4031: FailureKind.LOST,  # ER_CLIENT_INTERACTION_TIMEOUT
    CR.CR_SERVER_GONE_ERROR: FailureKind.LOST,
    CR.CR_SERVER_LOST: FailureKind.LOST,
    CR.CR_COMMANDS_OUT_OF_SYNC: FailureKind.LOST,
}
# The names stand in the text only; in another language than English they are not found.
_FOREIGN_KEY = (
    r"\(`.*?`\.`(?P<table>.*?)`, CONSTRAINT `(?P<constraint>.*?)` "
    r"FOREIGN KEY \(`(?P<column>[^`]*)`\) REFERENCES"
)
_CONSTRAINTS: dict[int, tuple[ConstraintKind, str]] = {
    ER.DUP_ENTRY: ("unique", r"for key '(?P<constraint>[^']*)'$"),
    1586: ("unique", r"for key '(?P<constraint>[^']*)'$"),  # ER_DUP_ENTRY_WITH_KEY_NAME
    ER.BAD_NULL_ERROR: ("not_null", r"^Column '(?P<column>.*)' "),
    ER.NO_DEFAULT_FOR_FIELD: ("not_null", r"^Field '(?P<column>.*)' "),
    ER.ROW_IS_REFERENCED_2: ("foreign_key", _FOREIGN_KEY),
    ER.NO_REFERENCED_ROW_2: ("foreign_key", _FOREIGN_KEY),
    ER.ROW_IS_REFERENCED: ("foreign_key", _FOREIGN_KEY),
    ER.NO_REFERENCED_ROW: ("foreign_key", _FOREIGN_KEY),
    3819: ("check", r"^Check constraint '(?P<constraint>.*)' is violated"),  # ER_CHECK_CONSTRAINT_VIOLATED
    4025: ("check", r"^CONSTRAINT `(?P<constraint>.*)` failed for `.*`\.`(?P<table>.*)`$"),  # MariaDB's
}
_LOST_WHILE_CONNECTING = (CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST)


def classify(error: BaseException) -> Failure:
    """The failure that an error of PyMySQL means. The text is the server's own, on one line."""
    if not isinstance(error, pymysql.Error):
        return Failure(FailureKind.UNKNOWN, _line(error))
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    if isinstance(error, pymysql.err.InterfaceError) and number == 0:
        return Failure(FailureKind.UNREACHABLE, "the connection is closed")
    if number is None:
        return Failure(FailureKind.LOST, _line(error))
    message = _line(*error.args[1:2])
    return Failure(
        _kind(number, error), message, str(number), words_of(error), violation=_violation(number, message)
    )


def refused_by_server(failure: Failure) -> bool:
    """True for a write that the whole server takes from nobody, not only this session or transaction."""
    return failure.kind is FailureKind.READ_ONLY and failure.code != "1792"


def _violation(number: int, message: str) -> Violation | None:
    if number not in _CONSTRAINTS:
        return None
    kind, pattern = _CONSTRAINTS[number]
    names = re.search(pattern, message)
    return Violation(kind, **({} if names is None else names.groupdict()))


def connect_failed(error: pymysql.err.OperationalError) -> pymysql.err.OperationalError:
    """The error of a login that broke off: nothing was asked of the server yet, so nothing is lost."""
    if error.args[0] not in _LOST_WHILE_CONNECTING:
        return error
    return pymysql.err.OperationalError(CR.CR_CONN_HOST_ERROR, f"no login: {_line(*error.args[1:2])}")


def _kind(number: int, error: pymysql.Error) -> FailureKind:
    cause = getattr(error, "original_exception", None)
    # A certificate stays wrong; a handshake that was cut short may work next time.
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
        return FailureKind.CONFIGURATION
    # The caller's own fault; with other classes the same numbers mean a broken conversation.
    if isinstance(error, pymysql.err.ProgrammingError):
        return FailureKind.REJECTED
    # One number for every option that forbids a statement.
    if number == ER.OPTION_PREVENTS_STATEMENT and "read-only" in str(error.args[1]).replace("_", "-"):
        return FailureKind.READ_ONLY
    # MariaDB's innodb_snapshot_isolation; other engines have the number for records that lie outside transactions.
    if number == ER.CHECKREAD and "restarting transaction" in str(error.args[1]):
        return FailureKind.ROLLED_BACK
    return _KINDS.get(number, FailureKind.REJECTED)


def _line(*words: object) -> str:
    return " ".join(" ".join(map(str, words)).split())
