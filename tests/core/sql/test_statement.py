"""A statement is read once, and carried so."""

import sys
from collections import Counter
from typing import Any

from katax_cli.core.sql import Dialect, Residue, Statement, split, statement_of

DIALECTS: tuple[Dialect, ...] = ("postgresql", "mysql", "sqlite")


def test_the_same_text_is_the_same_statement_and_a_statement_stays_itself() -> None:
    for dialect in DIALECTS:
        first = statement_of("select 1 /* kept */", dialect)
        assert statement_of("select 1 /* kept */", dialect) is first
        assert statement_of(first, dialect) is first
        long = "select '" + "x" * 20_000 + "'"
        assert statement_of(long, dialect) == Statement(long, dialect)


def test_what_a_statement_does_is_read_once() -> None:
    read: Counter[str] = Counter()

    def seen(frame: Any, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.endswith(("sql/classify.py", "sql/residue.py")):
            read[frame.f_code.co_name] += 1

    script = list(split("drop table a; insert into b values (';'); set x = 1", "mysql"))
    sys.setprofile(seen)
    try:
        for _ in range(3):
            for statement in script:
                assert (statement.effect, statement.residue, statement.commits_by_itself) is not None
    finally:
        sys.setprofile(None)
    assert (read["classify"], read["residue"], read["commits_by_itself"]) == (3, 3, 3)
    assert [statement.kind for statement in script] == ["ddl", "write", "session"]
    assert [statement.commits_by_itself for statement in script] == [True, False, False]
    assert [statement.residue for statement in script] == [Residue.NONE, Residue.NONE, Residue.RESETTABLE]
