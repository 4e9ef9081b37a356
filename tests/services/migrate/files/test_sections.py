"""Sections, directives, and what two texts have in common."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.core.sql import Dialect, split
from katax_cli.errors import MigrationError
from katax_cli.services.migrate.files.checksum import same_meaning
from katax_cli.services.migrate.files.sections import parse, statements
from katax_cli.services.migrate.values import Directives

DIALECTS: tuple[Dialect, ...] = ("postgresql", "mysql", "sqlite")


def texts(text: str, dialect: Dialect = "postgresql") -> dict[str, list[str]]:
    script = parse(text, "001_a.sql", dialect)
    found = {"up": script.up, "down": script.down, "verify": script.verify}
    return {
        name: [one.text for one in statements(section, dialect)] for name, section in found.items() if section
    }


def test_katax_markers_and_dbmates_mean_the_same() -> None:
    own = texts("-- UP\nSELECT 1;\n-- DOWN\nSELECT 2;\n-- VERIFY\nSELECT 3;\n")
    dbmate = texts("-- migrate:up\nSELECT 1;\n\n-- migrate:down\nSELECT 2;\n")

    assert own == {"up": ["SELECT 1"], "down": ["SELECT 2"], "verify": ["SELECT 3"]}
    assert dbmate == {"up": ["SELECT 1"], "down": ["SELECT 2"]}


def test_line_ends_and_marks_of_windows() -> None:
    assert texts("-- UP\r\nSELECT 1;\r\n-- DOWN\r\nSELECT 2;\r\n") == {
        "up": ["SELECT 1"],
        "down": ["SELECT 2"],
    }


def test_a_marker_in_a_literal_or_a_comment_is_none() -> None:
    text = "-- UP\nSELECT '\n-- DOWN\n', $$\n-- VERIFY\n$$;\n/*\n-- DOWN\n*/\nSELECT 2;\n"

    assert list(texts(text)) == ["up"]
    assert len(texts(text)["up"]) == 2


def test_lines_are_those_of_the_file() -> None:
    section = parse("-- head\n-- UP\n\nSELECT 1;\nSELECT 2;\n", "001_a.sql", "postgresql").up

    assert [one.line for one in statements(section, "postgresql")] == [4, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "migration 001_a.sql has no UP section; write '-- UP' or '-- migrate:up' above its statements"),
        ("-- DOWN\nSELECT 1;\n", "migration 001_a.sql has no UP section"),
        (
            "SELECT 1;\n-- UP\nSELECT 2;\n",
            "migration 001_a.sql has a statement outside its sections at line 1",
        ),
        ("-- UP\n-- UP\n", "migration 001_a.sql has two UP sections; join them"),
        (
            "-- UP\n-- katax: fast\n",
            "migration 001_a.sql has unknown directive 'fast'; known: no-transaction",
        ),
        ("-- UP\n-- katax: lock-timeout=soon\n", "migration 001_a.sql, directive 'lock-timeout=soon': "),
        ("-- migrate:up transaction:no\n", "migration 001_a.sql has unknown option 'transaction:no'"),
    ],
)
def test_what_makes_no_sense_is_said(text: str, message: str) -> None:
    with pytest.raises(MigrationError) as error:
        parse(text, "001_a.sql", "postgresql")

    assert str(error.value).startswith(message)


def test_directives_are_for_their_section_or_for_all() -> None:
    script = parse(
        "-- katax: statement-timeout=1m\n-- UP\n-- katax: no-transaction, lock-timeout=250ms\n-- DOWN\n",
        "001_a.sql",
        "postgresql",
    )

    assert script.up.directives == Directives(transaction=False, lock_timeout=0.25, statement_timeout=60.0)
    assert script.down is not None
    assert script.down.directives == Directives(statement_timeout=60.0)
    assert not parse("-- migrate:up transaction:false\n", "001_a.sql", "mysql").up.directives.transaction
    in_data = "-- UP\nINSERT INTO notes VALUES ('\n-- katax: no-transaction\n-- katax: x');\n"
    assert parse(in_data, "001_a.sql", "sqlite").up.directives == Directives()


@pytest.mark.parametrize(
    ("now", "same"),
    [
        ("-- UP\r\n\r\n-- why\r\nCREATE  TABLE a (\r\n id int);\r\n", True),
        ("-- UP\nCREATE TABLE a (id int);\n-- DOWN\nDROP TABLE a;\n", True),
        ("-- UP\nCREATE TABLE a (id bigint);\n", False),
        ("-- UP\n-- katax: no-transaction\nCREATE TABLE a (id int);\n", False),
        ("-- UP\nCREATE TABLE a (id int);\nSELECT 1;\n", False),
        ("no section", False),
    ],
)
def test_the_meaning_of_a_file_is_what_it_applies(now: str, same: bool) -> None:
    assert same_meaning("001_a.sql", "-- UP\nCREATE TABLE a (id int);\n", now, "postgresql") is same


def test_spaces_in_literals_count() -> None:
    assert not same_meaning("001_a.sql", "-- UP\nSELECT 'a b';\n", "-- UP\nSELECT 'a  b';\n", "sqlite")


def test_the_meaning_of_python_is_its_code() -> None:
    code = "def up(db):\n    db.execute('x')\n"

    assert same_meaning("001_a.py", code, f"# why\n{code}\n\n", None)
    assert not same_meaning("001_a.py", code, code.replace("x", "y"), None)


PIECES = st.sampled_from(
    [
        "'a;b'",
        "'it''s'",
        '"q;"',
        "/* c; */",
        "-- line;\n",
        "1",
        "x",
        "(",
        ")",
        ",",
        "\n",
        " ",
        "'\n-- DOWN\n'",
    ]
)
POSTGRES = st.sampled_from(["$$;$$", "$t$ ; $$ ; $t$", "/* a /* b; */ ; */", "E'\\';'"])
BODY = st.lists(PIECES | POSTGRES, min_size=1, max_size=12).map(" ".join)


@given(st.lists(BODY, min_size=1, max_size=6))
def test_every_statement_is_kept_in_its_section(bodies: list[str]) -> None:
    """However statements look, as many come out as the splitter finds, in order, and none of the other section."""
    up = "".join(f"SELECT {body}\n;\n" for body in bodies)
    expected = [one.text for one in split(up, "postgresql")]

    found = texts(f"-- UP\n{up}-- DOWN\nSELECT 'the end';\n")

    assert found["up"] == expected
    assert len(expected) == len(bodies)
    assert found["down"] == ["SELECT 'the end'"]


@given(
    st.lists(st.sampled_from(["SELECT 1", "SELECT ';'", "INSERT INTO t VALUES (2)"]), min_size=1, max_size=5),
    st.sampled_from(["//", "$$", "|", "END_OF"]),
)
def test_delimiter_of_mysql_keeps_every_statement(bodies: list[str], delimiter: str) -> None:
    routine = f"CREATE PROCEDURE p() BEGIN {'; '.join(bodies)}; END"

    found = texts(f"-- UP\nDELIMITER {delimiter}\n{routine}{delimiter}\nDELIMITER ;\nSELECT 9;\n", "mysql")

    assert found["up"] == [routine, "SELECT 9"]


@given(st.lists(BODY, min_size=1, max_size=4), st.sampled_from(["\n", "\r\n", " ", "\n-- c\n"]))
def test_layout_between_statements_never_changes_the_meaning(bodies: list[str], layout: str) -> None:
    plain = "-- UP\n" + "".join(f"SELECT {body}\n;\n" for body in bodies)
    spaced = "-- UP\n" + layout.join(f"SELECT {body}\n;\n" for body in bodies) + layout

    assert same_meaning("001_a.sql", plain, spaced, "postgresql")
