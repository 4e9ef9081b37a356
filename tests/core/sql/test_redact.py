"""Redaction shows no value, fingerprints ignore what does not matter, meaning survives layout."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katax_cli.core.sql import Dialect, fingerprint, normalise, redact

DIALECTS: list[Dialect] = ["postgresql", "mysql", "sqlite"]
PG, MY, LITE = DIALECTS
FRAGMENTS = [
    *"'\"`$?:;@#[]()/*-+.,|& \n1a",
    *(
        "E'",
        "$$",
        "$a$",
        "/*",
        "*/",
        "/*!",
        "/*+",
        "--",
        "-- ",
        ":n",
        "$1",
        "in (",
        "values (1), (2)",
        "1.5",
        "'x'",
    ),
]
sql_like = st.lists(st.sampled_from(FRAGMENTS), max_size=20).map("".join)


@pytest.mark.parametrize(
    ("dialect", "sql", "expected"),
    [
        (PG, "SELECT  *\nFROM t -- token abc\n WHERE a = 'x''y' AND b=1.5", "SELECT * FROM t WHERE a = ? AND b=?"),
        (PG, "select /* secret */ E'a\\'b', $$x$$, U&'z', X'FF', B'1', 0xFF", "select ?, ?, ?, ?, ?, ?"),
        (PG, "select a::int, \"B\", $1, :n, data ? 'k'", 'select a::int, "B", ?, ?, data ? ?'),
        (PG, "alter user u password 'hunter2'", "alter user u password ?"),
        (PG, "select 'never closed; drop", "select ?"),
        (PG, 'select "never closed', "select ?"),
        (MY, "create user u identified by \"hunter2\"", "create user u identified by ?"),
        (MY, "select 1 /*!50000 , 'hunter2' */ from `t`", "select ? , ? from `t`"),
        (MY, "select /*+ x('hunter2') */ 1 # hunter2", "select ?"),
        (MY, "grant all on d.* to 'u'@'h'", "grant all on d.* to ?@?"),
        (LITE, 'select [a b], "c" from t where c = "hunter2"', 'select [a b], "c" from t where c = ?'),
        (LITE, 'insert into "t" values ("hunter2")', 'insert into "t" values (?)'),
        (PG, "a in (1, -2,'3') or b IN ($1,$2)", "a in (?) or b IN (?)"),
        (PG, "insert into t values (1, 'a'), (2, 'b') ,(3, now)", "insert into t values (?, ?)"),
        (PG, "select 1'a'", "select ? ?"),
        (MY, "select 5--/* c */1 + 2", "select ?--? + ?"),
        (PG, "f(1, 2)", "f(?, ?)"),
    ],
)  # fmt: skip
def test_redacted(dialect: Dialect, sql: str, expected: str) -> None:
    assert redact(sql, dialect) == expected


def test_long_text_is_cut_with_a_mark() -> None:
    assert redact("select a, b from t", PG, max_length=10) == "select a,…"
    assert redact("select 'long literal, one mark'", PG, max_length=10) == "select ?"
    assert redact("select '" + "hunter2" * 1000 + "'", PG, max_length=20) == "select ?…"


def literals(dialect: Dialect) -> st.SearchStrategy[str]:
    forms = {
        PG: ["'S'", "E'a\\'S'", "$$S$$", "$t$ ' S$t$", "U&'S'", "'a''S'", "-- S\n", "/* /* S */ S */"],
        MY: ["'S'", '"S"', "'a\\'S'", "'a''S'", "/* S */", "# S\n", "-- S\n", "/*! 'S' */", "N'S'"],
        LITE: ["'S'", "'a''S'", "-- S\n", "/* S */", "x'S'"],
    }
    return st.sampled_from(forms[dialect]).map(lambda form: form.replace("S", "hunter2"))


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=20)
@given(data=st.data())
def test_no_literal_shows(dialect: Dialect, data: st.DataObject) -> None:
    code = st.sampled_from(["a", "=", "(", ")", ",", ";", "in", "values", "1", "$1", "-", "select"])
    parts = data.draw(st.lists(st.one_of(literals(dialect), code), max_size=8))
    sql = "select " + data.draw(st.sampled_from([" ", "\n"])).join(parts)
    cut = data.draw(st.integers(0, len(sql)))
    assert "hunter" not in redact(sql, dialect)
    assert "hunter" not in redact(sql[:cut], dialect)
    assert "hunter" not in redact(sql, dialect, max_length=1 + cut // 16)


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=20)
@given(text=sql_like)
def test_redacting_and_normalising_twice_changes_nothing(dialect: Dialect, text: str) -> None:
    once = redact(text, dialect)
    assert redact(once, dialect) == once
    normal = normalise(text, dialect)
    assert normalise(normal, dialect) == normal


def test_fingerprint_ignores_values_case_and_layout() -> None:
    one = fingerprint("SELECT a FROM t WHERE b IN (1, 2) -- x", PG)
    assert (
        one
        == fingerprint("select a\nfrom t where b in ('x')", PG)
        == fingerprint("select a from t where b in ($1)", PG)
    )
    assert one != fingerprint("select a from t where c in (1)", PG)
    assert fingerprint('select "A"', PG) != fingerprint('select "a"', PG)
    assert one == "7681b3cc617a"


@pytest.mark.parametrize(
    ("dialect", "one", "other"),
    [
        (PG, "select 1;\r\nselect 'a  b' ;", "-- c\nselect/* x */1; ;select\n\t'a  b' -- end"),
        (PG, "select f(a,b)", "select f ( a , b );"),
        (PG, "select a=-1", "select a = - 1"),
        (MY, "DELIMITER //\nselect 1//\nDELIMITER ;\nselect 2", "select 1; # c\nselect 2;"),
        (LITE, "select a+b", "select a /* + */ + b"),
        (MY, "--;select 1", "select 1"),
        (PG, "copy t from stdin;\n1\r\n\\.\n", "copy  t from stdin ;\n1\n\\.\n"),
    ],
)
def test_same_meaning(dialect: Dialect, one: str, other: str) -> None:
    assert normalise(one, dialect) == normalise(other, dialect)


@pytest.mark.parametrize(
    ("dialect", "one", "other"),
    [
        (PG, "select 'a  b'", "select 'a b'"),
        (PG, "select $$a -- x\n$$", "select $$a\n$$"),
        (PG, "select a - b", "select a -- b"),
        (PG, "select 1; select 2", "select 1 select 2"),
        (MY, "select /*+ BKA(t) */ 1", "select 1"),
        (MY, "select 1 /*!50000 + 1 */", "select 1"),
        (PG, "copy t from stdin;\n1\t2\n\\.\n", "copy t from stdin;\n1 2\n\\.\n"),
    ],
)
def test_other_meaning(dialect: Dialect, one: str, other: str) -> None:
    assert normalise(one, dialect) != normalise(other, dialect)
