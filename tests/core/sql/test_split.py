"""Splitting keeps every statement whole, in every dialect's own way."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from katax_cli.core.sql import Dialect, ends_statement, split, tokens

DIALECTS: list[Dialect] = ["postgresql", "mysql", "sqlite"]
COMMON = ["a", "1", "'x;y'", "'it''s;'", "(b, c)", "/* ; ' */", "-- ; '\n", "=", "é", '"q;"', "- 1", "/ 2"]
PIECES: dict[Dialect, list[str]] = {
    "postgresql": [*COMMON, "$$;'$$", "$t$ $$; $t$", "E'\\';'", "/* /* ; */ ; */", "x$$", "date'1;'"],
    "mysql": [*COMMON, "'\\';'", '"\\";"', "`;`", "# ;\n", "/*!1 a; */", "--1"],
    "sqlite": [*COMMON, "[;']", "`;`", "x'00'"],
}


def split_texts(text: str, dialect: Dialect) -> list[str]:
    return [statement.text for statement in split(text, dialect)]


def statements_of(dialect: Dialect) -> st.SearchStrategy[list[str]]:
    body = st.lists(st.sampled_from(PIECES[dialect]), max_size=6).map(
        lambda parts: " ".join(["select", *parts])
    )
    return st.lists(body.map(lambda text: text + " z"), min_size=1, max_size=5)


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=15)
@given(data=st.data())
def test_statements_come_back_as_they_were_joined(dialect: Dialect, data: st.DataObject) -> None:
    written = data.draw(statements_of(dialect))
    assert split_texts(";".join(written), dialect) == written
    assert split_texts("\n;\n".join(written) + ";", dialect) == written


@settings(max_examples=15)
@given(data=st.data(), mark=st.sampled_from(["//", "$$", ";;", "|", "END_OF_IT"]))
def test_a_script_with_delimiters_comes_back(data: st.DataObject, mark: str) -> None:
    written = data.draw(statements_of("mysql"))
    script = f"-- head\nDelimiter {mark}\n" + "".join(f"{text}{mark}\n" for text in written)
    assert split_texts(f"{script}delimiter ;\nselect 1;", "mysql") == [*written, "select 1"]


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=15)
@given(data=st.data())
def test_skimming_agrees_with_the_tokens(dialect: Dialect, data: st.DataObject) -> None:
    pieces = [*PIECES[dialect], ";", "'", '"', "$", "$a$", "/*", "*/", "--", "\n", "E'", "e", "1", "\\"]
    text = "".join(data.draw(st.lists(st.sampled_from(pieces), max_size=16)))
    segments: list[list[str]] = [[]]
    for token in tokens(text, dialect):
        if token.text == ";" and token.kind == "punct":
            segments.append([])
        elif token.kind not in ("space", "comment"):
            segments[-1].append(token.text)
    found = list(split(text, dialect))
    # A line for psql ends without a semicolon.
    assume(all(statement.client_line is None for statement in found))
    assert len(found) == sum(1 for segment in segments if segment)
    for statement, segment in zip(found, filter(None, segments), strict=True):
        assert text.startswith(statement.text, statement.offset)
        assert segment[-1].strip() in statement.text


def test_comments_stay_with_the_statement_they_precede() -> None:
    script = "\n-- users\n/* all */ select 1 ; -- trailing\n;;\n select 2 -- last\n;\n-- end"
    found = list(split(script, "postgresql"))
    assert [(statement.text, statement.line, statement.offset) for statement in found] == [
        ("-- users\n/* all */ select 1", 3, 1),
        ("select 2 -- last", 5, script.index("select 2")),
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("text", ["", " \n", ";", " ; ;\n;", "-- only\n", "/* only */;", "\ufeff"])
def test_nothing_comes_of_nothing(dialect: Dialect, text: str) -> None:
    assert split_texts(text, dialect) == []


def test_offset_leads_back_into_the_script_and_lines_count_from_one() -> None:
    script = "\ufeffselect 1;\r\n\r\n  select\n2;select 3"
    found = list(split(script, "sqlite"))
    assert [statement.line for statement in found] == [1, 3, 4]
    assert all(script.startswith(statement.text, statement.offset) for statement in found)


def test_split_is_lazy() -> None:
    assert next(split("select 1; select '" + "x" * 100, "mysql")).text == "select 1"


WHOLE: list[tuple[Dialect, str]] = [
    ("sqlite", "CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT CASE WHEN 1 THEN 2 END; DELETE FROM b; END"),
    ("sqlite", "create trigger if not exists t delete on a begin update b set x = end; select 1; end"),
    ("postgresql", "create function f() returns int begin atomic select case when a then 1 end; select 2; end"),
    ("postgresql", "CREATE OR REPLACE PROCEDURE p() LANGUAGE sql BEGIN ATOMIC INSERT INTO t VALUES (1); END"),
    ("postgresql", "create function f() returns int as $$ begin; end; $$ language plpgsql"),
    ("postgresql", "create function f(begin date, \"end\" date) returns int as $$ select 1; $$ language sql"),
    ("postgresql", "create rule r as on insert to t do also (insert into a values (1); delete from b)"),
    ("mysql", "create procedure p() begin if x then select if(a, b, c); end if; end"),
    ("mysql", "create procedure p() begin l:LOOP leave l; end loop; end"),
    ("mysql", "create procedure p() begin while a do set a = repeat('x', 3); end while; end"),
    ("mysql", "create procedure p() begin repeat set a = 1; until b end repeat; select 2; end"),
    ("mysql", "create procedure p() begin case x when 1 then select case when 2 then 3 end; end case; select 1; end"),
    ("mysql", "create procedure if not exists p() begin begin select 1; end; select 2; end"),
    ("mysql", "create procedure p() if x then select 1; else select 2; end if"),
    ("mysql", "create procedure p() begin for i in 1..3 do select i; end for; select 1 for update; end"),
    ("mysql", "create definer=`a`@`b` trigger t before insert on x for each row begin set new.a = 1; end"),
    ("mysql", "create event e on schedule every 1 day do begin delete from t; end"),
    ("mysql", "/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`%`*/ /*!50003 TRIGGER t BEFORE INSERT ON x BEGIN a; b; END */"),
    ("mysql", "begin not atomic select 1; select 2; end"),
    ("mysql", "create procedure p() select 1"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "whole"), WHOLE)
def test_a_body_is_not_split_and_what_follows_is(dialect: Dialect, whole: str) -> None:
    assert split_texts(f"select 0; {whole};\nselect 8; select 9", dialect) == [
        "select 0",
        whole,
        "select 8",
        "select 9",
    ]


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ("sqlite", "begin; create table t(a); end; select 1"),
        ("mysql", "begin; create table t(a int); create index i on t(a); commit"),
        ("mysql", "create table if not exists t(a int); select 1"),
        ("postgresql", "begin; create table f(a int default (1)); commit"),
        (
            "postgresql",
            "create function f() returns int as 'begin' language sql; select case when 1 then 2 end",
        ),
        ("postgresql", "create table function_log(a int); select 1"),
    ],
)
def test_a_transaction_or_table_is_no_body(dialect: Dialect, text: str) -> None:
    assert split_texts(text, dialect) == [part.strip() for part in text.split(";")]


def test_a_routine_under_its_own_delimiter_is_split_there() -> None:
    script = "DELIMITER $$\ncreate procedure p() begin select 1; end$$\nselect '$$'$$\nDELIMITER ;\nselect 2;"
    assert split_texts(script, "mysql") == [
        "create procedure p() begin select 1; end",
        "select '$$'",
        "select 2",
    ]
    assert [statement.line for statement in split(script, "mysql")] == [2, 3, 5]


def test_a_column_called_delimiter_is_no_command() -> None:
    assert split_texts("create table t (\n delimiter char(1)\n); select 1", "mysql")[1:] == ["select 1"]
    assert split_texts("select 1; delimiter //\nx", "mysql")[1] == "delimiter //\nx"
    assert len(split_texts("delimiter //\nselect 1; select 2", "postgresql")) == 2


def test_copy_takes_its_data_along() -> None:
    script = "COPY t (a) FROM stdin;\n1\tit's;\n2\t\\N\n\\.\n\nselect 1;\ncopy u from STDIN with (format csv);\n\\.\n"
    found = [
        (statement.text, statement.copy_data, statement.line) for statement in split(script, "postgresql")
    ]
    assert found == [
        ("COPY t (a) FROM stdin", "1\tit's;\n2\t\\N\n", 1),
        ("select 1", None, 6),
        ("copy u from STDIN with (format csv)", "", 7),
    ]


def test_copy_without_an_end_of_data_is_an_ordinary_statement() -> None:
    found = list(split("copy t from stdin;\nselect 1;\ncopy t to stdout", "postgresql"))
    assert [(statement.text[:6], statement.copy_data) for statement in found] == [
        ("copy t", None),
        ("select", None),
        ("copy t", None),
    ]


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "sqlite"])
def test_the_end_of_a_statement_is_known(dialect: Dialect) -> None:
    ended = ["select 1;", "select ';';", "select 1; -- more", "select 1; /* more */", "", " ", "a; b;"]
    open_ = ["select 1", "select ';", "select 1; select", "select 1 -- ;", "select 1 /* ;", 'select ";']

    assert [text for text in ended if not ends_statement(text, dialect)] == []
    assert [text for text in open_ if ends_statement(text, dialect)] == []


def test_the_end_of_a_body_is_known() -> None:
    body = "create function f() returns int language sql begin atomic select 1; "
    assert not ends_statement(body, "postgresql")
    assert ends_statement(body + "end;", "postgresql")
    assert not ends_statement("do $$ begin perform 1; ", "postgresql")
    assert not ends_statement("create trigger t after insert on a begin select 1; ", "sqlite")
    assert not ends_statement("create procedure p() begin select 1; ", "mysql")
