"""The meaning of pymongo's errors, by the server's code and labels where there are some."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WriteError,
)

from katax_cli.core.resilience.failure import Failure, FailureKind
from katax_cli.errors import PoolTimeout

MAX_BSON_SIZE = 16 * 1024 * 1024
"""https://www.mongodb.com/docs/manual/reference/limits/"""


class MongoNotSent(ConnectionFailure):
    """The connection could not be opened, so the command was not sent; the cause is chained."""


class PartlyDone(PyMongoError):
    """A write that ended in its middle, after a number of documents that is not known; the cause is chained."""


# Names of https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_BY_CODE: Mapping[int, FailureKind] = {
    6: FailureKind.LOST,  # HostUnreachable: reported by a mongos about a shard
    7: FailureKind.LOST,  # HostNotFound
    13: FailureKind.REJECTED,  # Unauthorized
    18: FailureKind.AUTHENTICATION,  # AuthenticationFailed
    24: FailureKind.BUSY,  # LockTimeout
    46: FailureKind.BUSY,  # LockBusy
    50: FailureKind.TIMED_OUT,  # MaxTimeMSExpired
    64: FailureKind.UNKNOWN_OUTCOME,  # WriteConcernFailed: applied here, not known elsewhere
    89: FailureKind.LOST,  # NetworkTimeout
    # The next three interrupt what runs too, a half-done update of many documents among it.
    91: FailureKind.LOST,  # ShutdownInProgress
    189: FailureKind.LOST,  # PrimarySteppedDown
    11600: FailureKind.LOST,  # InterruptedAtShutdown
    11602: FailureKind.LOST,  # InterruptedDueToReplStateChange
    112: FailureKind.ROLLED_BACK,  # WriteConflict
    246: FailureKind.ROLLED_BACK,  # SnapshotUnavailable
    251: FailureKind.ROLLED_BACK,  # NoSuchTransaction
    261: FailureKind.OVERLOADED,  # TooManyLogicalSessions
    262: FailureKind.TIMED_OUT,  # ExceededTimeLimit
    8000: FailureKind.AUTHENTICATION,  # AtlasError
    9001: FailureKind.LOST,  # SocketException
    10107: FailureKind.UNREACHABLE,  # NotWritablePrimary: refused before anything was done
    11601: FailureKind.TIMED_OUT,  # Interrupted, by killOp
    13435: FailureKind.UNREACHABLE,  # NotPrimaryNoSecondaryOk
    13436: FailureKind.UNREACHABLE,  # NotPrimaryOrSecondary
}
_BY_LABEL = {
    "UnknownTransactionCommitResult": FailureKind.UNKNOWN_OUTCOME,
    "TransientTransactionError": FailureKind.ROLLED_BACK,
}
# Also reported by a mongos for each document that it did not get to a shard.
_NOT_OF_THE_DOCUMENT = {
    1,  # InternalError
    8,  # UnknownError
    63,  # StaleShardVersion
    70,  # ShardNotFound
    82,  # NoProgressMade
    96,  # OperationFailed
    133,  # FailedToSatisfyReadPreference
    146,  # ExceededMemoryLimit
    150,  # StaleEpoch
    202,  # NetworkInterfaceExceededTimeLimit
    249,  # StaleDbVersion
    317,  # ConnectionPoolExpired
    13388,  # StaleConfig
    14031,  # OutOfDiskSpace
}
_UNAUTHORIZED = 13
_TOLD = (FailureKind.REJECTED, FailureKind.UNKNOWN_OUTCOME)
# What pymongo says where its monitor gave the server up: a question each 10 s on a connection of its own.
_GIVEN_UP = "operation cancelled"
# Where pymongo begins to describe its own state.
_STATE_NOTES = (", Timeout: ", " (configured timeouts: ", ", full error: ", ", Topology Description: ")


def classify(error: BaseException) -> Failure:
    """The failure that `error` means for server and command; UNKNOWN for errors not raised by pymongo."""
    if not isinstance(error, PyMongoError | BSONError):
        return Failure(FailureKind.UNKNOWN, type(error).__name__)
    code = _code(error)
    return Failure(_kind(error, code), _message(error), None if code is None else str(code))


def _kind(error: BaseException, code: int | None) -> FailureKind:
    if isinstance(error, PyMongoError):
        for label, kind in _BY_LABEL.items():
            if error.has_error_label(label):
                return kind
    if isinstance(error, WriteConcernError | PartlyDone):
        return FailureKind.UNKNOWN_OUTCOME
    if code == _UNAUTHORIZED and "requires authentication" in _message(error):
        return FailureKind.AUTHENTICATION
    if code is not None and code in _BY_CODE:
        return _BY_CODE[code]
    return _kind_of_class(error)


def _kind_of_class(error: BaseException) -> FailureKind:
    if isinstance(error, MongoNotSent | ServerSelectionTimeoutError):
        return _why_not_sent(error)
    if isinstance(error, NotPrimaryError):
        return FailureKind.UNREACHABLE
    if isinstance(error, ConnectionFailure):
        return FailureKind.LOST
    if isinstance(error, ExecutionTimeout):
        return FailureKind.TIMED_OUT
    if isinstance(error, ConfigurationError):
        return FailureKind.CONFIGURATION
    return FailureKind.REJECTED


def _why_not_sent(error: BaseException) -> FailureKind:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return FailureKind.UNREACHABLE
        if isinstance(cause, ssl.SSLError | PermissionError):
            return FailureKind.CONFIGURATION
    # pymongo keeps only the words of what the server selection met.
    return FailureKind.CONFIGURATION if "certificate verify failed" in str(error) else FailureKind.UNREACHABLE


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, ServerSelectionTimeoutError):
            yield from _met_while_selecting(error)
        error = error.__cause__ or error.__context__


def _met_while_selecting(error: ServerSelectionTimeoutError) -> Iterator[BaseException]:
    topology: Any = error.details
    servers = topology.server_descriptions().values() if hasattr(topology, "server_descriptions") else ()
    for server in servers:
        if server.error is not None:
            yield from _causes(server.error)


def _answer(error: BaseException) -> Mapping[str, Any]:
    """The server's answer; of a bulk write, the one about the first document that failed."""
    details = getattr(error, "details", None)
    if not isinstance(details, Mapping):
        return {}
    if isinstance(error, BulkWriteError):
        failed = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
        return failed[0] if failed else {}
    return details


def refuse_large(sizes: Sequence[int]) -> None:
    """Raises DocumentTooLarge for the first document over MongoDB's limit, on which a server may just hang up."""
    for number, size in enumerate(sizes, 1):
        if size > MAX_BSON_SIZE:
            raise DocumentTooLarge(
                f"document {number} has {size} bytes, {MAX_BSON_SIZE} is the most; no document was inserted"
            )


def check_writes(answer: Mapping[str, Any]) -> None:
    """Raises the errors of a write command, which the server reports beside `ok: 1`."""
    refused = [*answer.get("writeErrors", ())]
    if answer.get("nErrors"):
        refused += [entry for entry in answer["cursor"]["firstBatch"] if not entry.get("ok", 1)]
    if refused:
        raise WriteError(str(refused[0].get("errmsg")), refused[0].get("code"), refused[0])
    if concern := answer.get("writeConcernError"):
        raise WriteConcernError(str(concern.get("errmsg")), concern.get("code"), concern)


def is_about_document(code: int | None) -> bool:
    """True where a document was refused for what it is; False where a server or a shard was in trouble."""
    return code is not None and code not in _BY_CODE and code not in _NOT_OF_THE_DOCUMENT


def may_be_partly_done(error: PyMongoError | PoolTimeout, *, sent: bool, answered: bool) -> bool:
    """True for a limit that ended a write, and for a failure after one of its commands had been answered."""
    if isinstance(error, PoolTimeout):
        return answered
    kind = classify(error).kind
    return (sent and kind is FailureKind.TIMED_OUT) or (answered and kind not in _TOLD)


def _code(error: BaseException) -> int | None:
    code = _answer(error).get("code")
    if code is None and isinstance(error, OperationFailure) and not isinstance(error, BulkWriteError):
        code = error.code
    return code if isinstance(code, int) else None


def _message(error: BaseException) -> str:
    text = str(_answer(error).get("errmsg") or error)
    for note in _STATE_NOTES:
        text = text.partition(note)[0]
    if text == _GIVEN_UP:
        text = "no answer, nor to the driver's question whether it lives"
    return f"{' '.join(text.split())}{_done_before(error)}"


def _done_before(error: BaseException) -> str:
    """The documents before the refused one, which are not taken back."""
    inserted = (error.details or {}).get("nInserted", 0) if isinstance(error, BulkWriteError) else 0
    if not inserted:
        return ""
    before = "the document before it was" if inserted == 1 else f"the {inserted} documents before it were"
    return f"; {before} inserted"
