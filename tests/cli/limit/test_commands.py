"""`katax limit`: answers for scripts."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from katax_cli.cli.limit import commands as limit
from katax_cli.services.redis import limits
from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import MakeProxy

KEYS = ["allowed", "limit", "remaining", "reset_at", "retry_after_seconds"]


@pytest.fixture(autouse=True)
def profile(redis_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"cache": redis_url})


@pytest.mark.parametrize("algorithm", limits.ALGORITHMS)
def test_check_takes_one_until_the_maximum(algorithm: str) -> None:
    words = [
        "limit",
        "check",
        "api:42",
        "--max",
        "2",
        "--window",
        "1h",
        "--algorithm",
        algorithm,
        "-f",
        "json",
    ]
    first, second, third = katax(*words), katax(*words), katax(*words)
    assert [each.code for each in (first, second, third)] == [0, 0, 1]
    assert list(first.json) == KEYS
    assert [each.json["remaining"] for each in (first, second, third)] == [1, 0, 0]
    assert (third.json["allowed"], third.json["limit"], third.err) == (False, 2, "")
    assert 0 < third.json["retry_after_seconds"] <= 3661
    assert datetime.fromisoformat(third.json["reset_at"]).utcoffset() is not None


def test_peek_and_dry_run_take_nothing() -> None:
    words = ["limit", "check", "k", "--max", "1", "-f", "json"]
    for extra in ("--peek", "--dry-run"):
        assert [katax(*words, extra).json["remaining"] for _ in range(2)] == [1, 1]
    assert katax(*words).code == 0
    assert katax(*words, "--peek").code == 1


def test_consume_takes_all_or_none() -> None:
    assert katax("limit", "consume", "k", "8", "--max", "10", "-f", "json").json["remaining"] == 2
    assert katax("limit", "consume", "k", "3", "--max", "10").code == 1
    assert katax("limit", "consume", "k", "2", "--max", "10").code == 0
    done = katax("limit", "consume", "k", "11", "--max", "10")
    assert (done.code, done.err) == (2, "katax: n is 11, expected 1 to the maximum of 10\n")


def test_reset() -> None:
    katax("limit", "check", "k", "--max", "1")
    assert katax("limit", "reset", "k", "-f", "json").json == {"key": "k", "reset": True}
    assert katax("limit", "reset", "k").code == 1
    assert katax("limit", "check", "k", "--max", "1").code == 0


def test_reset_of_production_wants_a_yes(redis_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"cache": redis_url}, role="prod")
    katax("limit", "check", "k", "--max", "1")
    assert katax("limit", "reset", "k").code == 4
    assert katax("limit", "reset", "k", "-y").code == 0


def test_without_redis_the_answer_is_the_callers(redis_url: str, tmp_path: Path, proxy: MakeProxy) -> None:
    way = proxy(redis_url)
    write_profile(tmp_path, {"cache": way.url})
    way.refuse()
    assert katax("limit", "check", "k").code == 3
    opened = katax("limit", "check", "k", "--on-error", "open", "-f", "json")
    assert (opened.code, opened.json["allowed"]) == (0, True)
    closed = katax("limit", "check", "k", "--on-error", "closed")
    assert closed.code == 1
    assert "limit refused without an answer of Redis" in closed.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--max", "0"], "0"),
        (["--max", "x"], "'x'"),
        (["--window", "0"], "expected more than 0 seconds"),
        (["--window", "soon"], "'soon' is no duration"),
        (["--algorithm", "leaky"], "no algorithm named 'leaky'; expected one of: fixed, sliding, gcra"),
        (
            ["--on-error", "perhaps"],
            "no answer for --on-error named 'perhaps'; expected one of: open, closed",
        ),
    ],
)
def test_bad_input_is_usage(words: list[str], told: str) -> None:
    done = katax("limit", "check", "k", *words)
    assert done.code == 2
    assert told in done.err


def test_the_words_are_those_of_the_service() -> None:
    assert (limit.ALGORITHMS, limit.ON_ERROR) == (limits.ALGORITHMS, limits.ON_ERROR)
