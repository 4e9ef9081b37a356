"""Results stream: 700,000 rows in constant memory, whatever the format, on every SQL engine; imports too."""

import os
from pathlib import Path

import pytest
import redis

from katax_cli.services.cache import copy
from katax_cli.services.cache.cache import Cache
from tests.cli.harness import write_profile
from tests.cli.processes import memory_of_children_kib
from tests.cli.test_signals import NUMBERS
from tests.servers.fixtures import MakeFresh
from tests.services.redis_database import opened

ROWS = 700_000
MIB = 1024
WIDE = {
    "postgresql": "select generate_series(1, {rows}) as n, repeat('x', 40) as t",
    "mysql": "select seq as n, repeat('x', 40) as t from seq_1_to_{rows}",
    "sqlite": (
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows}) "
        "select i as n, printf('%.*c', 40, 'x') as t from n"
    ),
}


def test_the_engines_are_all_there() -> None:
    assert set(WIDE) == set(NUMBERS)


@pytest.mark.parametrize(
    ("engine", "format"),
    [("postgresql", "csv"), ("postgresql", "jsonl"), ("mysql", "csv"), ("sqlite", "jsonl")],
)
def test_a_result_of_any_length_takes_the_same_memory(
    engine: str, format: str, fresh: MakeFresh, tmp_path: Path
) -> None:
    """34 MB of rows: held in memory they would take several times the bound, as the few rows' figure shows.

    Every engine streams and every format streams; the two know nothing of each other.
    """
    write_profile(tmp_path, {"main": fresh(engine).url})
    few, many = tmp_path / "few", tmp_path / "many"
    query = WIDE[engine]

    words = ["db", "query", "-f", format, "--timeout", "10m"]

    least = memory_of_children_kib([*words, query.format(rows=1000)], str(few))
    most = memory_of_children_kib([*words, query.format(rows=ROWS)], str(many))

    assert many.stat().st_size > 30 * MIB * MIB
    assert most < least + 24 * MIB
    with many.open("rb") as file:
        assert sum(1 for _ in file) == ROWS + (format == "csv")


def test_an_import_of_any_length_takes_the_same_memory(redis_url: str, tmp_path: Path) -> None:
    """40 MB of lines that restore one key again and again, after a question about their number."""
    write_profile(tmp_path, {"cache": redis_url})
    client = redis.Redis.from_url(redis_url)
    client.set("k", os.urandom(100_000))
    with opened(redis_url) as database:
        ((line,),) = copy.export(Cache(database))
    few, many = tmp_path / "few.jsonl", tmp_path / "many.jsonl"
    few.write_text(f"{line}\n")
    many.write_text(f"{line}\n" * 300)

    words = ["cache", "import", "--replace", "-y", "-f", "json"]
    least = memory_of_children_kib([*words, str(few)], str(tmp_path / "out"))
    most = memory_of_children_kib([*words, str(many)], str(tmp_path / "out"))

    assert (tmp_path / "out").read_text().split() == ['{"imported":', "300,", '"skipped":', "0}"]
    assert many.stat().st_size > 36 * MIB * MIB
    assert most < least + 24 * MIB
