"""Each rule of the table: it speaks past its limit, and is silent at it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from katax_cli.core.measure.recommend import RULES, ConnectionFacts, recommend
from katax_cli.snapshot import PoolStats, QueryStats

WELL = ConnectionFacts(
    queries=QueryStats(100, 10.0, 1.0, 60.0, p95_ms=50.0, p99_ms=60.0, slow_count=5),
    pool=PoolStats(max=10, total=8, active=8, idle=0, waiting=0),
    max_connections=23,
    reserved=3,
    instances=2,
)
assert WELL.queries is not None
assert WELL.pool is not None


def test_at_every_limit_nothing_is_recommended() -> None:
    assert recommend(WELL) == ()


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (
            replace(WELL, queries=WELL.queries._replace(slow_count=6)),
            "6 of 100 queries were slow; look at 'katax db slow' and at the indexes of their tables",
        ),
        (
            replace(WELL, queries=WELL.queries._replace(p95_ms=50.1)),
            "the 95th percentile, 50.1 ms, is more than 5 times the average of 10 ms; "
            "a few queries wait for locks or read far more than the others",
        ),
        (
            replace(WELL, pool=WELL.pool._replace(active=9)),
            "9 of 10 connections of the pool are in use; raise pool.max or return connections sooner",
        ),
        (
            replace(WELL, pool=WELL.pool._replace(waiting=1)),
            "1 callers wait for a connection; raise pool.max or make transactions shorter",
        ),
        (
            replace(WELL, pool=WELL.pool._replace(max=11)),
            "the pool may open 11 connections, but the server has 10 for each of 2 instances "
            "(23 − 3 reserved); lower pool.max",
        ),
    ],
)
def test_a_rule_past_its_limit(facts: ConnectionFacts, text: str) -> None:
    assert recommend(facts) == (text,)


def test_all_rules_together_keep_their_order() -> None:
    queries = QueryStats(10, 1.0, 1.0, 9.0, p95_ms=9.0, p99_ms=9.0, slow_count=10)
    pool = PoolStats(max=5, total=5, active=5, idle=0, waiting=3)
    said = recommend(ConnectionFacts(queries, pool, max_connections=4))

    assert len(said) == len(RULES)
    assert [text.split()[0] for text in said] == ["10", "the", "5", "3", "the"]


def test_what_is_not_known_is_not_judged() -> None:
    assert recommend(ConnectionFacts()) == ()
    assert recommend(ConnectionFacts(QueryStats(0, None, None, None, None, None, 0), None)) == ()


def test_what_is_reserved_counts_once_for_all_instances() -> None:
    assert ConnectionFacts(max_connections=100, reserved=3, instances=4).fair_share == 24
    assert ConnectionFacts().fair_share is None
