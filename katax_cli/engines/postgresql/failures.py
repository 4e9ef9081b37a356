"""The meaning of PostgreSQL's and libpq's errors: by SQLSTATE, and by libpq's text where it has no code."""

from __future__ import annotations

import re

import psycopg

from katax_cli.core.resilience.failure import ConstraintKind, Failure, FailureKind, ServerWords, Violation

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_CODE = {
    "08007": FailureKind.UNKNOWN_OUTCOME,
    "40003": FailureKind.UNKNOWN_OUTCOME,
    "40001": FailureKind.ROLLED_BACK,
    "40P01": FailureKind.DEADLOCK,
    "53300": FailureKind.OVERLOADED,
    "55P03": FailureKind.BUSY,
    "57014": FailureKind.TIMED_OUT,
    "25006": FailureKind.READ_ONLY,
    "3D000": FailureKind.CONFIGURATION,
    # The server closes the session with these: shutdown, crash, not ready, database dropped, idle too long.
    "57P01": FailureKind.LOST,
    "57P02": FailureKind.LOST,
    "57P03": FailureKind.LOST,
    "57P04": FailureKind.LOST,
    "57P05": FailureKind.LOST,
    "25P03": FailureKind.LOST,
    "25P04": FailureKind.LOST,
}
_BY_CLASS = {"08": FailureKind.LOST, "28": FailureKind.AUTHENTICATION}
_CONSTRAINTS: dict[str, ConstraintKind] = {
    "23502": "not_null",
    "23503": "foreign_key",
    "23505": "unique",
    "23514": "check",
}

# libpq gives no SQLSTATE for a connection that did not come about, so here its and the server's words count.
# Text of servers that speak another language ends in the fallbacks of `connect_failure`.
# They are compiled when a connection fails, not when a command starts.
_BY_WORDS: tuple[tuple[str, FailureKind, str | None], ...] = (
    (r"password authentication failed|no password supplied", FailureKind.AUTHENTICATION, "28P01"),
    (
        r"no pg_hba\.conf entry .*(no encryption|SSL off|SSL encryption)",
        FailureKind.CONFIGURATION,
        "28000",
    ),
    (r"requires a valid client certificate", FailureKind.CONFIGURATION, "28000"),
    (
        r"(peer|ident|certificate|GSSAPI|LDAP|PAM|RADIUS) authentication failed",
        FailureKind.AUTHENTICATION,
        "28000",
    ),
    (r"role \".*\" (does not exist|is not permitted to log in)", FailureKind.AUTHENTICATION, "28000"),
    (r"no pg_hba\.conf entry|no such user|authentication failed", FailureKind.AUTHENTICATION, "28000"),
    (r"permission denied for database", FailureKind.AUTHENTICATION, "42501"),
    (r"database \".*\" does not exist|no such database", FailureKind.CONFIGURATION, "3D000"),
    (
        r"too many (clients|connections)|connection slots are reserved|max_client_conn",
        FailureKind.OVERLOADED,
        "53300",
    ),
    (
        r"is (starting up|shutting down|in recovery mode|not (yet )?accepting)",
        FailureKind.UNREACHABLE,
        "57P03",
    ),
    # A server that dies, is restarted, or is too busy to finish a login; not one that refuses it.
    (
        r"terminating connection|canceling authentication due to timeout|could not fork|out of (shared )?memory",
        FailureKind.UNREACHABLE,
        None,
    ),
    (
        r"server closed the connection|SSL connection has been closed|could not (receive|send) data"
        r"|connection reset by peer|broken pipe|SYSCALL error: EOF",
        FailureKind.UNREACHABLE,
        None,
    ),
    (
        r"does not support SSL|SSL error|certificate|sslmode|\bssl\b.*required",
        FailureKind.CONFIGURATION,
        None,
    ),
    (
        r"invalid .*(option|value|port|integer)|unsupported startup parameter",
        FailureKind.CONFIGURATION,
        None,
    ),
    (r"unrecognized configuration parameter", FailureKind.CONFIGURATION, "42704"),
)
_PREFIX = r"^(connection (failed|is bad): )?(connection to server .*? failed: )?((FATAL|ERROR): +)?"
_CONNECTING = r"^(connection failed|connection is bad|connection timeout expired|failed to resolve)"


# What stands before the statements of migrations, for those who look at the server's list of sessions.
_OWN_COMMENT = r"/\* katax .*? \*/ "


class ConnectFailed(psycopg.OperationalError):
    """Connecting did not succeed; `failure` says why, the driver's error is its cause."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class PostgresNotSent(psycopg.OperationalError):
    """The connection was found dead before the statement was sent."""


class StandbyRefused(psycopg.errors.ReadOnlySqlTransaction):
    """A write that a server in recovery refused; the server's own error is its cause."""


def classify(error: BaseException) -> Failure:
    """The failure that an error of psycopg or of this package means."""
    if isinstance(error, ConnectFailed):
        return error.failure
    if not isinstance(error, psycopg.Error):
        return Failure(FailureKind.UNKNOWN, one_line(str(error)))
    message = error.diag.message_primary or one_line(str(error))
    if error.sqlstate is not None:
        code = error.sqlstate
        kind = _BY_CODE.get(code) or _BY_CLASS.get(code[:2], FailureKind.REJECTED)
        if kind is FailureKind.LOST and _is_about_another_server(error):
            kind = FailureKind.REJECTED
        return Failure(kind, message, error.sqlstate, _words(error), _violation(error))
    if re.match(_CONNECTING, str(error)):
        return connect_failure(str(error))
    return Failure(_kind_without_code(error, message), message)


def _violation(error: psycopg.Error) -> Violation | None:
    kind = _CONSTRAINTS.get(error.sqlstate or "")
    diag = error.diag
    return kind and Violation(kind, diag.constraint_name, diag.table_name, diag.column_name)


def _words(error: psycopg.Error) -> ServerWords:
    """Everything beside the sentence; libpq writes the line of the statement, with a caret, into its own text."""
    diag = error.diag
    lines = str(error).splitlines()
    excerpt = next((lines[at : at + 2] for at, line in enumerate(lines) if re.match(r"LINE \d+: ", line)), [])
    position = int(diag.statement_position) if diag.statement_position else None
    own = re.match(rf"LINE 1: ({_OWN_COMMENT})", excerpt[0]) if excerpt else None
    if own and position:
        excerpt = [line[:8] + line[8 + len(own[1]) :] for line in excerpt]
        position -= len(own[1])
    return ServerWords(diag.message_hint, diag.message_detail, position, error.sqlstate, tuple(excerpt))


def on_standby(failure: Failure, *, other_hosts: bool) -> Failure:
    """A refused write: with other hosts to try, the primary is one of them and is not available."""
    kind = FailureKind.UNREACHABLE if other_hosts else FailureKind.READ_ONLY
    return failure._replace(
        kind=kind, message=f"the server is a standby, which takes no writes: {failure.message}"
    )


def connect_failure(text: str, *, password_was_sent: bool = False) -> Failure:
    """The failure that libpq's text about a failed connection means.

    Unknown words after a password was sent count as a refused login, so that no retry locks the account.
    """
    message = one_line(text)
    if "unsupported startup parameter" in message:
        message += '; behind PgBouncer set pooler = "transaction" on the connection'
    for words, kind, code in _BY_WORDS:
        if re.search(words, message, re.IGNORECASE):
            return Failure(kind, message, code)
    return Failure(FailureKind.AUTHENTICATION if password_was_sent else FailureKind.UNREACHABLE, message)


def one_line(text: str) -> str:
    """The first line of a driver's text, without libpq's preamble."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    return re.sub(_PREFIX, "", first)


def _is_about_another_server(error: psycopg.Error) -> bool:
    """True where the session goes on: a server that closes it says FATAL, one that lost a third server says ERROR.

    PgBouncer's own errors (08P01) say either.
    """
    return error.diag.severity_nonlocalized == "ERROR" and error.sqlstate != "08P01"


def _kind_without_code(error: psycopg.Error, message: str) -> FailureKind:
    if isinstance(error, PostgresNotSent) or message == "the connection is closed":
        return FailureKind.UNREACHABLE
    return FailureKind.LOST if isinstance(error, psycopg.OperationalError) else FailureKind.REJECTED
