"""Where a syntax error stands, when that is certain."""

from pathlib import Path

from katax_cli.engines.mysql.places import located
from tests.cli.harness import katax, write_profile

SAYS = "You have an error in your SQL syntax; check the manual for the right syntax to use"


def told(statement: str, rest: str, line: int) -> tuple[int | None, tuple[str, ...]] | None:
    words = located(statement, f"{SAYS} near '{rest}' at line {line}")
    return None if words is None else (words.position, words.excerpt)


def test_the_rest_that_the_server_quotes_is_found() -> None:
    assert told("selec 1", "selec 1", 1) == (1, ("LINE 1: selec 1", "        ^"))
    assert told("select 1\nform t where x = 'a'", "t where x = 'a'", 2) == (
        15,
        ("LINE 2: form t where x = 'a'", "             ^"),
    )
    assert told("select '中文' form t", "t", 1) == (18, ("LINE 1: select '中文' form t", " " * 27 + "^"))
    assert told("select (1", "", 1) == (10, ("LINE 1: select (1", " " * 17 + "^"))


def test_what_is_not_certain_is_not_shown() -> None:
    long = "select " + "a, " * 100 + "form t"
    assert told(long, long[20:100], 1) is None, "the same stands in many places"
    assert told("selec 1", "select 1", 1) is None
    assert told("selec 1", "selec 1", 2) is None
    assert located("selec 1", "something else") is None


def test_a_person_sees_line_and_caret(mysql_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": mysql_url})

    done = katax("db", "query", "select 1\nform t where x = 1")
    wrong = katax("db", "query", "select 1\nform t where x = 1", "-f", "json")

    assert done.err.splitlines()[1:] == ["LINE 2: form t where x = 1", "             ^"]
    assert '"position": 15' in wrong.err
