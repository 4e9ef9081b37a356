"""What each kind of failure allows, in one table."""

import pytest

from katax_cli.core.resilience.failure import Failure, FailureKind

# kind: (may work later, says the server is ill)
TABLE = {
    FailureKind.REJECTED: (False, False),
    FailureKind.AUTHENTICATION: (False, False),
    FailureKind.CONFIGURATION: (False, False),
    FailureKind.READ_ONLY: (False, False),
    FailureKind.UNREACHABLE: (True, True),
    FailureKind.OVERLOADED: (True, True),
    FailureKind.FULL: (False, False),
    FailureKind.ROLLED_BACK: (True, False),
    FailureKind.DEADLOCK: (True, False),
    FailureKind.BUSY: (True, False),
    FailureKind.TIMED_OUT: (False, False),
    FailureKind.LOST: (True, True),
    FailureKind.UNKNOWN_OUTCOME: (False, False),
    FailureKind.UNKNOWN: (False, False),
}


@pytest.mark.parametrize("kind", FailureKind)
def test_what_a_kind_allows(kind: FailureKind) -> None:
    failure = Failure(kind, "no")

    assert (failure.transient, failure.counts) == TABLE[kind]
