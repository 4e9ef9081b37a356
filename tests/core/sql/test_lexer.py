"""The tokenizer: lossless on anything, and exact about what each dialect calls a literal."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katax_cli.core.sql import Dialect, code_tokens, comments, quote_identifier, statement_code, tokens

DIALECTS: list[Dialect] = ["postgresql", "mysql", "sqlite"]
FRAGMENTS = [
    *"'\"`$?:;@#[]()/*-+\\.,!|& \n\r\t0a",
    *("E'", "U&'", "x'", "$$", "$a$", "/*", "*/", "/*!", "/*+", "--", "-- ",
      "::", ":n", "$1", "?|", "1.5", "é", "\ufeff"),
]  # fmt: skip
sql_like = st.lists(st.sampled_from(FRAGMENTS), max_size=24).map("".join)


def kinds(text: str, dialect: Dialect) -> list[tuple[str, str]]:
    return [(token.kind, token.text) for token in tokens(text, dialect) if token.kind != "space"]


def texts(text: str, dialect: Dialect) -> list[str]:
    return [token.text for token in tokens(text, dialect) if token.kind != "space"]


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=25)
@given(text=st.one_of(sql_like, st.text(max_size=40)))
def test_tokens_joined_are_the_input(dialect: Dialect, text: str) -> None:
    found = list(tokens(text, dialect))
    assert "".join(token.text for token in found) == text
    assert all(text.startswith(token.text, token.start) and token.text for token in found)


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ("postgresql", "'it''s'"),
        ("postgresql", "'back\\'"),
        ("postgresql", "E'it\\'s'"),
        ("postgresql", "E'a''b'"),
        ("postgresql", "e'a'\n  'b\\'c'"),
        ("postgresql", "U&'d\\0061t'"),
        ("postgresql", "N'x'"),
        ("postgresql", "B'01'"),
        ("postgresql", "X'FF'"),
        ("postgresql", "$$it's; --$$"),
        ("postgresql", "$tag$ $$ $x$ $tag$"),
        ("postgresql", "$é$a$é$"),
        ("mysql", "'it''s'"),
        ("mysql", "'it\\'s'"),
        ("mysql", '"a\\"b""c"'),
        ("mysql", "x'FF'"),
        ("sqlite", "'back\\'"),
        ("sqlite", "x'ff'"),
    ],
)
def test_string_is_one_token(dialect: Dialect, text: str) -> None:
    assert kinds(f"{text} b", dialect) == [("string", text), ("word", "b")]
    assert kinds(f"({text})", dialect)[1] == ("string", text)


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ("postgresql", '"a""b;"'),
        ("postgresql", 'U&"d\\0061"'),
        ("mysql", "`a``b;`"),
        ("sqlite", '"a""b"'),
        ("sqlite", "`a``b`"),
        ("sqlite", "[a b'c]"),
    ],
)
def test_quoted_identifier_is_one_token(dialect: Dialect, text: str) -> None:
    assert kinds(f"{text};", dialect) == [("quoted", text), ("punct", ";")]


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ("postgresql", "/* a /* nested */ ' */"),
        ("postgresql", "-- a ' b"),
        ("postgresql", "--a"),
        ("mysql", "-- a"),
        ("mysql", "--"),
        ("mysql", "# it's"),
        ("mysql", "/* a /* flat */"),
        ("sqlite", "--a"),
        ("sqlite", "/* never closed '"),
    ],
)
def test_comment_is_one_token(dialect: Dialect, text: str) -> None:
    assert kinds(text, dialect) == [("comment", text)]


def test_nested_comment_ends_early_where_comments_do_not_nest() -> None:
    assert kinds("/* a /* b */ c", "mysql")[1:] == [("word", "c")]
    assert kinds("/* a /* b */ c", "postgresql") == [("comment", "/* a /* b */ c")]


def test_two_dashes_without_space_are_two_operators_in_mysql_only() -> None:
    assert texts("5--1", "mysql") == ["5", "-", "-", "1"]
    assert texts("5--1", "postgresql") == ["5", "--1"]


def test_hash_is_an_operator_in_postgresql() -> None:
    assert texts("a #>> b", "postgresql") == ["a", "#>>", "b"]


def test_prefix_letter_counts_only_as_a_word_of_its_own() -> None:
    assert texts("namee'a\\'", "postgresql") == ["namee", "'a\\'"]
    assert texts("a$b$c$b$", "postgresql") == ["a$b$c$b$"]


def test_brackets_quote_in_sqlite_and_subscript_in_postgresql() -> None:
    assert texts("a[1]", "postgresql") == ["a", "[", "1", "]"]
    assert texts("a[1]", "sqlite") == ["a", "[1]"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a::int", ["a", "::", "int"]),
        ("a=?", ["a", "=", "?"]),
        ("a=-1", ["a", "=", "-", "1"]),
        ("a ?| b ?& c", ["a", "?|", "b", "?&", "c"]),
        ("?||'x'", ["?", "||", "'x'"]),
        ("a @? b @@ c", ["a", "@?", "b", "@@", "c"]),
        ("v @@?", ["v", "@@", "?"]),
        ("f(a:=1)", ["f", "(", "a", ":=", "1", ")"]),
        ("1..10", ["1", "..", "10"]),
        ("1.5e-3+.5", ["1.5e-3", "+", ".5"]),
        ("0xFF 1_000", ["0xFF", "1_000"]),
        ("a*/*c*/b", ["a", "*", "/*c*/", "b"]),
        ("a->>'b'", ["a", "->>", "'b'"]),
    ],
)
def test_postgresql_operators_and_numbers(text: str, expected: list[str]) -> None:
    assert texts(text, "postgresql") == expected


def test_mysql_variables_and_names() -> None:
    assert kinds("@a:=@@global.x", "mysql") == [
        ("variable", "@a"),
        ("operator", ":="),
        ("variable", "@@global.x"),
    ]
    assert kinds("1abc", "mysql") == [("word", "1abc")]
    assert kinds("größe", "mysql") == [("word", "größe")]


def test_sqlite_native_placeholders() -> None:
    assert [kind for kind, _ in kinds("? ?12 :a @b $c", "sqlite")] == ["param"] * 5


def test_executable_comment_is_opened_and_a_hint_is_not() -> None:
    text = "select /*+ NO_ICP(t) */ /*!50001 '*/', */ /*M! 2 */ x"
    assert [token.text for token in code_tokens(text, "mysql")] == ["select", "'*/'", ",", "2", "x"]
    assert ("hint", "/*+ NO_ICP(t) */") in kinds(text, "mysql")
    assert ("executable", "/*!50001 '*/', */") in kinds(text, "mysql")


def test_deep_nesting_of_executable_comments_is_no_recursion() -> None:
    text = "select " + "/*!" * 1500 + " 1 */"
    assert [token.text for token in code_tokens(text, "mysql")] == ["select", "1"]


@pytest.mark.parametrize(
    ("dialect", "quoted"),
    [("postgresql", '"a""b`"'), ("sqlite", '"a""b`"'), ("mysql", '`a"b```')],
)
def test_quoted_name_reads_back_as_one_identifier(dialect: Dialect, quoted: str) -> None:
    assert quote_identifier('a"b`', dialect) == quoted
    assert kinds(quoted, dialect) == [("quoted", quoted)]


def test_names_no_server_can_hold_are_refused() -> None:
    with pytest.raises(ValueError) as nul:
        quote_identifier("a\0b", "sqlite")
    assert str(nul.value) == "identifier 'a\\x00b' holds a NUL character; remove it"
    with pytest.raises(ValueError) as empty:
        quote_identifier("", "mysql")
    assert str(empty.value) == "identifier is empty; give a name"


@pytest.mark.parametrize("dialect", DIALECTS)
@given(text=sql_like)
def test_comments_begin_where_the_tokens_say(dialect: Dialect, text: str) -> None:
    in_blocks = "/*" if dialect == "postgresql" else "\0"
    wanted = [token for token in tokens(text, dialect) if token.kind == "comment"]
    assert list(comments(text, dialect)) == [
        token.start for token in wanted if not token.text.startswith(in_blocks)
    ]


@pytest.mark.parametrize(
    ("sql", "rest"),
    [
        ("SET STATEMENT a = 1 FOR SELECT 2", "SELECT 2"),
        ("/*M! SET STATEMENT a = (SELECT 1 FOR UPDATE), b = 'FOR' FOR */ INSERT INTO t", "INSERT INTO t"),
        ("set statement a=1 for SET STATEMENT b=2 FOR DO 3", "DO 3"),
        ("SET STATEMENT a = 1", ""),
        ("SET @statement = 1", "SET @statement = 1"),
    ],
)
def test_the_statement_behind_set_statement(sql: str, rest: str) -> None:
    assert " ".join(token.text for token in statement_code(sql, "mysql")) == rest
