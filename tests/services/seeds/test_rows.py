"""Many rows of a data file on real servers: fast, counted, undone as a whole, and refused by their line."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.errors import SeedError
from katax_cli.seeds import Seeder
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.seeds.rows import parse_rows
from katax_cli.services.seeds.values import SeedFile
from tests.servers.fixtures import Target
from tests.services.seeds.test_seeder import Open, database, folder, outcomes, seeder

__all__ = ["database", "folder", "seeder"]
NOTES = "CREATE TABLE notes (id integer PRIMARY KEY, text text, flag boolean)"
ODD = (
    "plain",
    'a "quoted" one',
    "two\nlines",
    "two\r\nlines",
    "tab\tand \\N and \\. and \\",
    "é€😀",
    " ",
    "\\.",
)
KILLED = """
import os, signal, sys
from katax_cli.engines.postgresql import PostgresEngine
from katax_cli.seeds import Seeder
from tests.services.connections import open_database

copy = PostgresEngine.copy_rows

def half(rows):
    for number, row in enumerate(rows):
        if number == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield row

PostgresEngine.copy_rows = lambda self, on, sql, rows: copy(self, on, sql, half(rows))
Seeder(open_database(sys.argv[1]), sys.argv[2]).run()
"""


@given(st.text(alphabet='ab,,\n\n"\r', max_size=24))
def test_every_csv_is_read_as_the_csv_module_reads_it(text: str) -> None:
    reader = csv.reader(io.StringIO("a,b\n" + text, newline=""), strict=True)
    try:
        wanted = [(cells, reader.line_num) for cells in reader if cells][1:]
    except csv.Error:
        wanted = [([], 0)]
    file = SeedFile("t.csv", "t.csv", b"a,b\n" + text.encode(), "")
    try:
        read = parse_rows(file, str)
    except SeedError:
        assert any(len(cells) != 2 for cells, _ in wanted)
    else:
        rows = [
            ([row["a"] or "", row["b"] or ""], line) for row, line in zip(read.rows, read.lines, strict=True)
        ]
        assert rows == wanted


def write_csv(folder: Path, numbers: range, *, bom: bool = False, end: str = "\n") -> None:
    cells = [(str(n), ODD[n % len(ODD)].replace('"', '""')) for n in numbers]
    text = "id,text,flag" + end + "".join(f'{n},"{text}",{end}' for n, text in cells)
    (folder / "notes.csv").write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.encode())


def notes(database: SqlDatabase) -> dict[int, str]:
    return {row["id"]: row["text"] for row in database.query("SELECT id, text FROM notes")}


@pytest.mark.parametrize(("bom", "end"), [(False, "\n"), (True, "\r\n")])
def test_odd_texts_arrive_by_every_way(
    sql_engine: Target, open_url: Open, folder: Path, bom: bool, end: str
) -> None:
    database = open_url(sql_engine.url)
    database.execute(NOTES)
    seeder = Seeder(database, str(folder))
    expected = {n: ODD[n % len(ODD)] for n in range(500)}

    write_csv(folder, range(400), bom=bom, end=end)
    assert outcomes(seeder) == [("notes.csv", "applied", 400, 0, 400)]
    write_csv(folder, range(100, 500), bom=bom, end=end)
    database.execute("UPDATE notes SET text = 'changed' WHERE id < 150")
    assert outcomes(seeder) == [("notes.csv", "applied", 100, 50, 150)]
    write_csv(folder, range(50), bom=bom, end=end)
    assert outcomes(seeder) == [("notes.csv", "applied", 0, 50, 50)]
    write_csv(folder, range(500), bom=bom, end=end)
    assert outcomes(seeder, dry_run=True) == [("notes.csv", "would_apply", 0, 50, 50)]
    assert outcomes(seeder) == [("notes.csv", "applied", 0, 50, 50)]

    assert notes(database) == expected


@pytest.mark.parametrize("filled", [False, True])
def test_a_refused_row_is_named_by_its_line_and_nothing_lasts(
    sql_engine: Target, open_url: Open, folder: Path, filled: bool
) -> None:
    database = open_url(sql_engine.url)
    database.execute(
        "CREATE TABLE notes (id integer PRIMARY KEY, amount integer NOT NULL, CHECK (amount < 1000))"
    )
    if filled:
        database.execute("INSERT INTO notes VALUES (0, 0)")
    lines = ["id,amount", *(f"{n},{n % 7}" for n in range(300))]
    lines[250] = "249,5000"
    (folder / "notes.csv").write_text("\n".join(lines) + "\n")

    with pytest.raises(SeedError) as error:
        Seeder(database, str(folder)).run()

    assert str(error.value).startswith("seed notes.csv, line 251: ")
    assert "nothing of it was applied" in str(error.value)
    assert len(database.query("SELECT id FROM notes")) == int(filled)


def test_rows_without_their_key_and_twice_are_named_by_their_lines(seeder: Seeder, folder: Path) -> None:
    (folder / "users.csv").write_text('id,email\n1,"a\nb"\n,c\n')
    with pytest.raises(SeedError, match=r"seed users\.csv: line 4 has no 'id'"):
        seeder.run()
    (folder / "users.csv").write_text('id,email\n1,"a\nb"\n\n1,c\n')
    with pytest.raises(SeedError, match=r"seed users\.csv: line 3 and line 5 have the same id"):
        seeder.run()


def test_mysql_has_no_nan_and_says_in_which_row(mysql_url: str, open_url: Open, folder: Path) -> None:
    database = open_url(mysql_url)
    database.execute("CREATE TABLE sizes (id integer PRIMARY KEY, size double)")
    (folder / "sizes.json").write_text('[{"id": 1, "size": 1.5}, {"id": 2, "size": NaN}]')

    with pytest.raises(SeedError) as error:
        Seeder(database, str(folder)).run()

    assert str(error.value).startswith("seed sizes.json, row 2: nan was given, and MySQL has no such number")
    assert database.query("SELECT id FROM sizes") == []


def test_a_seeder_that_is_killed_while_it_copies_leaves_nothing(
    postgresql_url: str, open_url: Open, folder: Path
) -> None:
    database = open_url(postgresql_url)
    database.execute(NOTES)
    write_csv(folder, range(20_000))
    for begun in (1, 10_000, 19_999):
        words = [sys.executable, "-c", KILLED, postgresql_url, str(folder), str(begun)]
        done = subprocess.run(words, cwd=Path(__file__).parents[3], env={**os.environ}, check=False)
        assert done.returncode == -signal.SIGKILL
        assert notes(database) == {}
    assert outcomes(Seeder(database, str(folder))) == [("notes.csv", "applied", 20_000, 0, 20_000)]
    assert len(notes(database)) == 20_000


def test_two_seeders_at_once_and_a_writer_between_them(
    postgresql_url: str, open_url: Open, folder: Path
) -> None:
    """The lock of the empty table makes the writer wait; without it the rows would collide."""
    open_url(postgresql_url).execute(NOTES)
    write_csv(folder, range(5_000))

    def write(_: object) -> None:
        with psycopg.connect(postgresql_url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO notes SELECT n, 'mine' FROM generate_series(0, 9) n ON CONFLICT DO NOTHING"
            )

    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(outcomes, Seeder(open_url(postgresql_url), str(folder))) for _ in range(2)]
        pool.submit(write, None).result()
        states = sorted(run.result()[0][1] for run in runs)

    assert states == ["applied", "unchanged"]
    assert len(notes(open_url(postgresql_url))) == 5_000


@pytest.mark.parametrize(
    "odd",
    [
        "",
        '5001,"",\n',
        "5001,a,\n\n",
        "5001,\\.,\n",
        '5001,"x\ny",\n',
        '5001,"""q""",',
        '5001,5"x10",',
        '5001,a""b,',
    ],
)
def test_a_plain_text_is_copied_as_it_stands_and_means_the_same(
    postgresql_url: str, open_url: Open, folder: Path, odd: str
) -> None:
    """Into an empty table by COPY, whatever the text; into one with a row by the reader of Python."""
    text = "id,text,flag\n" + "".join(f"{n},t{n},\n" for n in range(300)) + odd
    (folder / "notes.csv").write_text(text)
    database = open_url(postgresql_url)
    database.execute(NOTES)
    Seeder(database, str(folder)).run()
    copied = database.query("SELECT * FROM notes ORDER BY id")

    database.execute("TRUNCATE notes")
    database.execute("INSERT INTO notes VALUES (7, 'there', NULL)")
    database.execute("DELETE FROM katax_seeds")
    Seeder(database, str(folder)).run()

    assert copied == database.query("SELECT * FROM notes ORDER BY id")
    assert len(copied) == 300 + bool(odd)


def test_a_unique_key_without_a_value_is_refused_in_a_copy_too(
    postgresql_url: str, open_url: Open, folder: Path
) -> None:
    """A unique index takes any number of rows without it; a seed could never find them again."""
    database = open_url(postgresql_url)
    database.execute("CREATE TABLE notes (id serial, code text UNIQUE)")
    rows = "".join(f"{n},c{n}\n" for n in range(300))
    (folder / "notes.csv").write_text(f"id,code\n{rows}300,\n")

    with pytest.raises(SeedError, match="no primary key; name a unique one"):
        Seeder(database, str(folder)).run()

    database.execute("ALTER TABLE notes ADD PRIMARY KEY (id)")
    (folder / "notes.csv").write_text(f"id,code\n{rows},c300\n")
    with pytest.raises(SeedError, match=r"line 302 has no 'id'"):
        Seeder(database, str(folder)).run()
    assert database.query("SELECT count(*) AS n FROM notes") == [{"n": 0}]


def test_a_transaction_that_sqlite_rolled_back_by_itself_leaves_nothing_of_a_seed(
    open_url: Open, folder: Path
) -> None:
    """As it does on a full disk; row by row the rest would be committed."""
    database = open_url(f"sqlite:///{folder}/notes.db")
    database.execute(NOTES)
    database.execute(
        "CREATE TRIGGER full BEFORE INSERT ON notes WHEN new.id = 250 BEGIN SELECT RAISE(ROLLBACK, 'full'); END"
    )
    write_csv(folder, range(400))

    with pytest.raises(SeedError, match=r"full.*nothing of it was applied"):
        Seeder(database, str(folder)).run()

    assert notes(database) == {}
    assert [one.state for one in Seeder(database, str(folder)).status()] == ["pending"]
    database.execute("DROP TRIGGER full")
    assert outcomes(Seeder(database, str(folder))) == [("notes.csv", "applied", 400, 0, 400)]
