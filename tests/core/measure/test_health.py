"""What healthy means, and how long it takes to change one's mind."""

import pytest

from katax_cli.core.measure.health import HealthPolicy, Hysteresis, worst
from katax_cli.snapshot import HealthStatus


@pytest.mark.parametrize(
    ("latency_ms", "status"),
    [
        (0.0, "healthy"),
        (99.999, "healthy"),
        (100.0, "degraded"),
        (500.0, "degraded"),
        (500.001, "unhealthy"),
    ],
)
def test_the_verdict(latency_ms: float, status: HealthStatus) -> None:
    assert HealthPolicy().verdict(latency_ms) == status
    assert (HealthPolicy().remark(latency_ms) is None) is (status == "healthy")


@pytest.mark.parametrize(("degraded", "unhealthy"), [(0, 1), (-1, 1), (2, 1)])
def test_limits_that_contradict_each_other(degraded: float, unhealthy: float) -> None:
    with pytest.raises(ValueError) as error:
        HealthPolicy(degraded_ms=degraded, unhealthy_ms=unhealthy)
    assert str(error.value) == (
        f"health degraded_ms is {degraded}, expected more than 0 and at most unhealthy_ms ({unhealthy})"
    )


def test_equal_limits_leave_no_room_between() -> None:
    policy = HealthPolicy(degraded_ms=5, unhealthy_ms=5)

    assert [policy.verdict(4.9), policy.verdict(5), policy.verdict(5.1)] == [
        "healthy",
        "degraded",
        "unhealthy",
    ]


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([], "healthy"),
        (["healthy"], "healthy"),
        (["healthy", "degraded", "healthy"], "degraded"),
        (["unhealthy", "degraded"], "unhealthy"),
    ],
)
def test_the_worst_counts(statuses: list[HealthStatus], status: HealthStatus) -> None:
    assert worst(statuses) == status


H: HealthStatus = "healthy"
D: HealthStatus = "degraded"
U: HealthStatus = "unhealthy"


@pytest.mark.parametrize(
    ("seen", "shown"),
    [
        ([U], [U]),
        ([H, U, H, U, H], [H, H, H, H, H]),
        ([H, U, U], [H, H, U]),
        ([H, D, U], [H, H, U]),
        ([U, H, H], [U, U, H]),
        ([U, H, D], [U, U, D]),
        ([D, H, U, U], [D, D, D, U]),
        ([D, U, H, H], [D, D, D, H]),
        ([H, U, U, H, H], [H, H, U, U, H]),
        ([H, U, H, U, U], [H, H, H, H, U]),
    ],
)
def test_hysteresis(seen: list[HealthStatus], shown: list[HealthStatus]) -> None:
    """A single result changes nothing but the first; two in a row in the same direction do."""
    hysteresis = Hysteresis()

    assert [hysteresis.seen(status) for status in seen] == shown


def test_hysteresis_with_other_patience() -> None:
    hysteresis = Hysteresis(bad=3, good=1)

    assert [hysteresis.seen(status) for status in (H, U, U, U, H)] == [H, H, H, U, H]
