"""The five formats, byte for byte: golden files of results with every value that is hard to print.

`UPDATE_GOLDEN=1 pytest tests/cli/shell/test_output.py` writes them anew; the diff is the review.
"""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from katax_cli.cli.shell.output import FORMATS, Manner, Output
from katax_cli.core.text.text import printable, width
from tests.cli.harness import Done, katax, write_profile
from tests.servers.fixtures import MakeFresh

GOLDEN = Path(__file__).parents[1] / "golden"

TEXTS = {
    "postgresql": {
        "plain": "'plain'",
        "markup": "'[bold red]no[/] <b>&amp;</b>'",
        "unicode": "'Grüße, Ελλάδα, 😀'",
        "wide": "'漢字かな'",
        "combining": "'e' || chr(769) || 'tude'",
        "control": "chr(27) || '[31mred' || chr(7) || chr(155)",
        "bidi": "'abc' || chr(8238) || 'cba'",
        "lines": "'two' || chr(10) || 'lines' || chr(13) || chr(9) || 'tab'",
        "quotes": """'say "hi", it''s'""",
        "backslash": "'C:\\new\\table'",
        "empty": "''",
    }
}
TEXTS["sqlite"] = {name: sql.replace("chr(", "char(") for name, sql in TEXTS["postgresql"].items()}
TEXTS["mysql"] = {
    "plain": "'plain'",
    "markup": "'[bold red]no[/] <b>&amp;</b>'",
    "unicode": "'Grüße, Ελλάδα, 😀'",
    "wide": "'漢字かな'",
    "combining": "concat('e', convert(x'cc81' using utf8mb4), 'tude')",
    "control": "concat(convert(x'1b' using utf8mb4), '[31mred', convert(x'07c29b' using utf8mb4))",
    "bidi": "concat('abc', convert(x'e280ae' using utf8mb4), 'cba')",
    "lines": "concat('two', convert(x'0a' using utf8mb4), 'lines', convert(x'0d09' using utf8mb4), 'tab')",
    "quotes": """'say "hi", it''s'""",
    "backslash": "'C:\\\\new\\\\table'",
    "empty": "''",
}
VALUES = {
    "postgresql": {
        "a_decimal": "1.10::numeric",
        "a_tiny": "0.000000000000000001::numeric",
        "a_nan": "'NaN'::float8",
        "a_infinity": "'-Infinity'::float8",
        "a_float": "0.1::float8",
        "a_big": "9223372036854775807",
        "a_boolean": "true",
        "a_bytes": "'\\x00ff10'::bytea",
        "a_moment": "timestamptz '2026-02-28 23:59:59.123456+05:30'",
        "a_naive": "timestamp '2026-02-28 23:59:59'",
        "a_day": "date '2026-02-28'",
        "a_interval": "interval '1 day 2:03:04.5'",
        "a_json": """'{"a": [1.10, null, "é"]}'::jsonb""",
        "a_array": "array['a', null, 'b c']",
        "a_uuid": "'6f0e2a4c-3b1d-4e5f-8a9b-0c1d2e3f4a5b'::uuid",
        "a_nothing": "null",
    },
    "mysql": {
        "a_decimal": "cast(1.10 as decimal(10,2))",
        "a_float": "0.1e0",
        "a_big": "9223372036854775807",
        "a_bytes": "x'00ff10'",
        "a_moment": "timestamp '2026-02-28 23:59:59.123456'",
        "a_day": "date '2026-02-28'",
        "a_time": "time '-26:03:04.5'",
        "a_json": """json_object('a', json_array(1.5, null, 'é'))""",
        "a_nothing": "null",
    },
    "sqlite": {
        "a_infinity": "9e999",
        "a_negative": "-9e999",
        "a_float": "0.1",
        "a_big": "9223372036854775807",
        "a_bytes": "x'00ff10'",
        "a_nothing": "null",
    },
}


def hard(engine: str) -> str:
    """One row for each text, then a row of values beside a duplicate column; first the name of what follows."""
    numbered = enumerate(TEXTS[engine].items())
    texts = [f"select {n} as id, '{name}' as name, {sql} as value" for n, (name, sql) in numbered]
    return " union all ".join(texts) + " order by 1"


def values(engine: str) -> str:
    named = ", ".join(f"{sql} as {name}" for name, sql in VALUES[engine].items())
    return f"select {named}, 1 as same, 2 as same"


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def engine(request: pytest.FixtureRequest, fresh: MakeFresh, tmp_path: Path) -> str:
    url = fresh(request.param).url
    zone = "?options=-c%20timezone%3DUTC" if request.param == "postgresql" else ""
    write_profile(tmp_path, {"main": url + zone})
    return str(request.param)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("what", ["texts", "values"])
def test_golden(engine: str, format: str, what: str) -> None:
    done = katax("db", "query", hard(engine) if what == "texts" else values(engine), "-f", format)

    assert done.code == 0, done.err
    file = GOLDEN / f"{engine}-{what}.{format}"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_bytes(done.stdout)
    assert done.stdout == file.read_bytes()
    noted = "duplicate column names were numbered: " if what == "values" and format != "json" else ""
    assert done.err.startswith(noted)
    assert bool(noted) == bool(done.err)


def test_table_and_csv_agree_cell_for_cell(engine: str) -> None:
    for query in (hard(engine), values(engine)):
        as_csv = list(csv.reader(io.StringIO(katax("db", "query", query, "-f", "csv").out, newline="")))
        lines = katax("db", "query", query).out.splitlines()

        assert [cells(line, lines[1]) for line in [lines[0], *lines[2:]]] == [
            [printable(cell) for cell in row] for row in as_csv
        ]


def cells(line: str, rule: str) -> list[str]:
    """The cells of a table's line, cut by display width where the line of dashes says."""
    found = []
    position = 0
    for dashes in rule.split("  "):
        cell = ""
        while width(cell) < len(dashes) and position < len(line):
            cell += line[position]
            position += 1
        while position < len(line) and width(line[position]) == 0:
            cell += line[position]
            position += 1
        found.append(cell.strip())
        position += 2
    return found


def test_json_is_exact(postgresql_url: str, tmp_path: Path) -> None:
    """What JSON has no number for is a string; a decimal keeps its digits; bytes are as PostgreSQL writes them."""
    write_profile(tmp_path, {"main": postgresql_url})

    done = katax("db", "query", values("postgresql"), "-f", "json")

    (row,) = json.loads(done.out, parse_float=str)
    assert row["a_decimal"] == "1.10"
    assert row["a_tiny"] in ("0.000000000000000001", "1E-18")
    assert (row["a_nan"], row["a_infinity"], row["a_nothing"]) == ("NaN", "-Infinity", None)
    assert row["a_bytes"] == r"\x00ff10"
    assert (row["same"], row["same_2"]) == (1, 2)
    assert (row["a_json"], row["a_array"]) == ({"a": ["1.10", None, "é"]}, ["a", None, "b c"])
    assert done.err == ""


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_bytes_to_stdout_a_pipe_and_a_file(format: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    words = ["db", "query", hard("sqlite"), "-f", format]

    in_process = katax(*words)
    to_file = katax(*words, "-o", "out")
    piped = subprocess.run([sys.executable, "-m", "katax_cli", *words], capture_output=True, check=True)

    assert (to_file.code, to_file.stdout) == (0, b"")
    assert in_process.stdout == piped.stdout == (tmp_path / "out").read_bytes() != b""


def test_a_dash_is_stdout_and_a_device_is_written_to(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})

    assert katax("db", "query", "select 1 as a", "-f", "csv", "-o", "-").out == "a\n1\n"
    assert katax("db", "query", "select 1 as a", "-o", "/dev/null") == Done(0, b"", "")
    assert Path("/dev/null").is_char_device()


def test_a_table_is_measured_on_its_first_thousand_rows(tmp_path: Path) -> None:
    """Then it streams: a later, wider cell pushes its own line only."""
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    query = (
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000) "
        "select case i when 2500 then 'much wider than the others' when 1000 then 'four' else 'x' end as a, "
        "'b' as b from n"
    )

    lines = katax("db", "query", query).out.splitlines()

    assert lines[:3] == ["a     b", "----  -", "x     b"]
    assert (lines[2501], lines[2502]) == ("much wider than the others  b", "x     b")
    assert len(lines) == 3002


def test_rows_are_written_before_the_last_one_was_read() -> None:
    stream = io.BytesIO()
    sizes: list[int] = []

    def batches() -> Iterator[list[tuple[str]]]:
        for _ in range(30):
            sizes.append(len(stream.getvalue()))
            yield [("x",)] * 100

    for format in FORMATS:
        stream.seek(0)
        stream.truncate()
        sizes.clear()
        Output(stream, format).rows(("a",), batches())
        assert 0 < sizes[15] < sizes[-1], format


def test_no_header_and_a_word_for_null(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    query = "select 1 as a, null as b"

    assert katax("db", "query", query, "--no-header", "--null", "NULL").out == "1  NULL\n"
    assert katax("db", "query", query, "--no-header", "--null", "NULL", "-f", "csv").out == "1,NULL\n"
    assert katax("db", "query", query, "--no-header", "-f", "csv").out == "1,\n"
    assert katax("db", "query", query, "--no-header", "-f", "tsv").out == "1\t\\N\n"
    assert katax("db", "query", query, "--null", "", "-f", "tsv").out == "a\tb\n1\t\n"


def test_a_batch_of_texts_is_written_as_csv_like_one_of_other_values() -> None:
    texts = [("", None), ('a"b', "c,d"), ("e\r\nf", "\\."), (" g", "")]

    def written(*batches: Sequence[tuple[object, ...]], null: str | None = None) -> str:
        stream = io.BytesIO()
        Output(stream, "csv", null=null, header=False).rows(("a", "b"), batches)
        return stream.getvalue().decode()

    for null in (None, "", "N"):
        alone, among = written(texts, null=null), written([(1, None), *texts], null=null)
        assert among.partition("\n")[2] == alone
        assert written([*texts, (True, 1.5)], null=null).startswith(alone)


def test_numbers_stand_right_and_words_left(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})

    out = katax("db", "query", "select 1 as number, 'a' as word union all select 10, 'bb'").out

    assert out == "number  word\n------  ----\n     1  a\n    10  bb\n"


@pytest.mark.parametrize("header", [True, False])
def test_colours_add_nothing_else(header: bool) -> None:
    """Only cells of the shaded column, only in a table, and only where colour is wanted."""
    rows = [("red", "red", None), ("a", "green", "x"), ("漢", "grey", "red")]
    shades = {"status": {"red": "\x1b[31m", "green": "\x1b[32m"}}

    def written(format: str, *, color: bool) -> str:
        stream = io.BytesIO()
        Output(stream, format, header=header, color=color).rows(
            ("name", "status", "more"), [rows], Manner(shades=shades)
        )
        return stream.getvalue().decode()

    plain, coloured = written("table", color=False), written("table", color=True)
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain
    assert [line.count("\x1b") for line in coloured.splitlines()] == [*([2, 0] if header else []), 2, 2, 0]
    assert "red " in coloured, "the same word in another column stays as it is"
    assert coloured.count("\x1b[31mred\x1b[0m") == 1
    assert written("csv", color=True) == written("csv", color=False)
