"""The meaning of redis-py's errors, by the server's code where there is one."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

from redis.exceptions import (
    AuthenticationError,
    ClusterError,
    DataError,
    InvalidResponse,
    LockError,
    RedisClusterException,
    RedisError,
    ResponseError,
    WatchError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from katax_cli.core.resilience.failure import Failure, FailureKind
from katax_cli.engines.redis.connection import RedisNotSent

_BY_CODE = {
    "BUSY": FailureKind.BUSY,
    "CLUSTERDOWN": FailureKind.UNREACHABLE,
    "DENIED": FailureKind.CONFIGURATION,
    "LOADING": FailureKind.UNREACHABLE,
    "CROSSSLOT": FailureKind.REJECTED,
    "MASTERDOWN": FailureKind.UNREACHABLE,
    "MISCONF": FailureKind.FULL,
    "MOVED": FailureKind.CONFIGURATION,
    "NOAUTH": FailureKind.AUTHENTICATION,
    "NOREPLICAS": FailureKind.BUSY,
    "OOM": FailureKind.FULL,
    # The server was demoted to a replica: nothing was done, and a new connection may find the primary.
    "READONLY": FailureKind.UNREACHABLE,
    "TRYAGAIN": FailureKind.BUSY,
    "UNBLOCKED": FailureKind.UNREACHABLE,
    "WRONGPASS": FailureKind.AUTHENTICATION,
}
_BY_TEXT = {
    "max number of clients": FailureKind.OVERLOADED,
    "DB index is out of range": FailureKind.CONFIGURATION,
    "Cluster mode is not enabled": FailureKind.CONFIGURATION,
    "Client sent AUTH, but no password is set": FailureKind.AUTHENTICATION,
    # redis-py's own words: it does not send what a cluster would refuse.
    "must map to the same key slot": FailureKind.REJECTED,
    "No way to dispatch this command to Redis Cluster": FailureKind.REJECTED,
}
# redis-py puts the failing command of a pipeline, values included, in front of the server's words.
_PIPELINE_NOTE = " of pipeline caused error: "

# What a command of a script met, as servers before Redis 7 wrap it.
_IN_SCRIPT = re.compile(r"@user_script: ?\d+: (?:@user_script: ?\d+: )?-([A-Z]{2,}) ")
# The texts when a server accepts a connection and closes it.
_HUNG_UP = ("Error while reading from", "Connection closed by server")
# What Python says of the buffer of a connection that another thread closed while redis-py waited for the answer.
_CLOSED_BUFFER = "I/O operation on closed file"


def classify(error: BaseException) -> Failure:
    """The failure that `error` means for server and command; UNKNOWN for errors not raised by redis-py."""
    if isinstance(error, ValueError) and str(error).startswith(_CLOSED_BUFFER):
        return Failure(FailureKind.LOST, "its connection was closed meanwhile")
    if not isinstance(error, RedisError | RedisClusterException):
        return Failure(FailureKind.UNKNOWN, type(error).__name__)
    return Failure(_kind(error), _message(error), _code(error))


def _kind(error: BaseException) -> FailureKind:
    code, text = _code(error), str(error)
    if code in _BY_CODE:
        return _BY_CODE[code]
    told = next((kind for sign, kind in _BY_TEXT.items() if sign in text), None)
    return told or _kind_of_class(error)


def _kind_of_class(error: BaseException) -> FailureKind:
    if isinstance(error, AuthenticationError):
        return FailureKind.AUTHENTICATION
    if isinstance(error, RedisNotSent):
        return _why_not_sent(error)
    if isinstance(error, WatchError):
        return FailureKind.ROLLED_BACK
    if isinstance(error, RedisClusterException | ClusterError) or _is_not_found(error):
        return FailureKind.UNREACHABLE
    if isinstance(error, ResponseError | DataError | LockError):
        return FailureKind.REJECTED
    if isinstance(error, RedisConnectionError | RedisTimeoutError | InvalidResponse):
        return FailureKind.LOST
    return FailureKind.REJECTED


def _why_not_sent(error: RedisNotSent) -> FailureKind:
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError) for cause in causes):
        return FailureKind.UNREACHABLE
    if any(isinstance(cause, ssl.SSLError | PermissionError | InvalidResponse) for cause in causes):
        return FailureKind.CONFIGURATION
    return FailureKind.UNREACHABLE


def _is_not_found(error: BaseException) -> bool:
    """Sentinel knows no primary; its class is looked up by name so that redis.sentinel is not needed here."""
    return type(error).__name__ in ("MasterNotFoundError", "SlaveNotFoundError")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _code(error: BaseException) -> str | None:
    """The server's code: redis-py takes the ones it knows off the text and leaves the others in front."""
    parsed: str | None = getattr(error, "status_code", None)
    if parsed and parsed != "ERR":
        return parsed
    text = _message(error)
    if isinstance(error, ResponseError):
        first = text.partition(" ")[0]
        inner = _IN_SCRIPT.search(text)
        return inner[1] if inner else first if first.isalpha() and first.isupper() else None
    return "CROSSSLOT" if "must map to the same key slot" in text else None


def _message(error: BaseException) -> str:
    text = str(error)
    _, note, told = text.partition(_PIPELINE_NOTE)
    hung_up = isinstance(error, RedisNotSent) and text.startswith(_HUNG_UP)
    hint = "; does the server expect TLS?" if hung_up else ""
    return " ".join((told if note else text).split()) + hint
