"""What errors mean: the codes are the server's, the errors those that pymongo makes of them."""

from typing import Any

import pytest
from pymongo import errors

from katax_cli.core.resilience.failure import FailureKind
from katax_cli.engines.mongodb import failures, transfer


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.OperationFailure("Authentication failed.", 18), FailureKind.AUTHENTICATION),
        (errors.OperationFailure("command find requires authentication", 13), FailureKind.AUTHENTICATION),
        (errors.OperationFailure("not authorized on app", 13), FailureKind.REJECTED),
        (errors.ExecutionTimeout("operation exceeded time limit", 50), FailureKind.TIMED_OUT),
        (errors.DuplicateKeyError("E11000", 11000), FailureKind.REJECTED),
        (errors.OperationFailure("interrupted", 11601), FailureKind.TIMED_OUT),
        (errors.OperationFailure("WriteConflict", 112), FailureKind.ROLLED_BACK),
        (errors.OperationFailure("lock", 24), FailureKind.BUSY),
        (errors.OperationFailure("syntax", 9), FailureKind.REJECTED),
        (errors.NotPrimaryError("not primary", {"code": 10107}), FailureKind.UNREACHABLE),
        (errors.NotPrimaryError("stepped down", {"code": 189}), FailureKind.LOST),
        (errors.NotPrimaryError("shutting down", {"code": 91}), FailureKind.LOST),
        (errors.WriteConcernError("waiting for replication timed out", 64), FailureKind.UNKNOWN_OUTCOME),
        (errors.WTimeoutError("timeout", 64), FailureKind.UNKNOWN_OUTCOME),
        (errors.NetworkTimeout("timed out"), FailureKind.LOST),
        (errors.AutoReconnect("connection closed"), FailureKind.LOST),
        (failures.MongoNotSent("connection refused"), FailureKind.UNREACHABLE),
        (errors.ServerSelectionTimeoutError("no servers"), FailureKind.UNREACHABLE),
        (errors.ConfigurationError("unknown option"), FailureKind.CONFIGURATION),
        (errors.InvalidName("bad name"), FailureKind.REJECTED),
        (errors.BulkWriteError({"writeErrors": [{"code": 11000, "errmsg": "E11000"}]}), FailureKind.REJECTED),
        (
            errors.BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "x"}]}),
            FailureKind.UNKNOWN_OUTCOME,
        ),
        (ValueError("x"), FailureKind.UNKNOWN),
    ],
    ids=lambda value: str(value)[:30],
)
def test_errors_are_told_by_code(error: Exception, kind: FailureKind) -> None:
    assert failures.classify(error).kind is kind


def test_labels_beat_codes() -> None:
    error = errors.OperationFailure(
        "x", 91, {"code": 91, "errmsg": "x", "errorLabels": ["TransientTransactionError"]}
    )
    assert failures.classify(error).kind is FailureKind.ROLLED_BACK


def test_messages_quote_no_documents() -> None:
    documents = {"writeErrors": [{"code": 2, "errmsg": "bad value", "op": {"card": "pr1vate"}}]}
    assert failures.classify(errors.BulkWriteError(documents)).message == "bad value"
    reply = {"errmsg": "bad value", "code": 2, "echo": "pr1vate"}
    assert failures.classify(errors.OperationFailure("bad value", 2, reply)).message == "bad value"


def test_trouble_of_a_shard_is_no_refusal_of_a_document() -> None:
    about = [
        code
        for code in (6, 7, 13, 89, 91, 189, 9001, 10107, 11600, 11602, None)
        if failures.is_about_document(code)
    ]
    assert about == []
    assert all(failures.is_about_document(code) for code in (2, 66, 121, 10334, 11000))
    for code, raises in ((91, True), (121, False)):
        answer: dict[str, Any] = {"writeErrors": [{"index": 3, "code": code, "errmsg": "x"}]}

        def refused(answer: dict[str, Any] = answer) -> None:
            raise errors.BulkWriteError(answer)

        if raises:
            with pytest.raises(failures.PartlyDone):
                transfer._attempt(refused)
        else:
            assert transfer._attempt(refused) == [(3, code, "x")]
