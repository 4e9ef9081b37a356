"""What each kind of failure allows, in one table."""

import pytest

from katax_cli.core.resilience.failure import Failure, FailureKind

# kind: (may work later, says the server is ill, the connection is dead)
TABLE = {
    FailureKind.REJECTED: (False, False, False),
    FailureKind.AUTHENTICATION: (False, False, False),
    FailureKind.CONFIGURATION: (False, False, False),
    FailureKind.READ_ONLY: (False, False, False),
    FailureKind.UNREACHABLE: (True, True, True),
    FailureKind.OVERLOADED: (True, True, False),
    FailureKind.FULL: (False, False, False),
    FailureKind.ROLLED_BACK: (True, False, False),
    FailureKind.BUSY: (True, False, False),
    FailureKind.TIMED_OUT: (False, False, False),
    FailureKind.LOST: (True, True, True),
    FailureKind.UNKNOWN_OUTCOME: (False, False, True),
    FailureKind.UNKNOWN: (False, False, False),
}


@pytest.mark.parametrize("kind", FailureKind)
def test_what_a_kind_allows(kind: FailureKind) -> None:
    failure = Failure(kind, "no")

    assert (failure.transient, failure.counts, failure.breaks_connection) == TABLE[kind]
