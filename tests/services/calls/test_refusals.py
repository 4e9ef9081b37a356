"""Constraints that a row does not meet, on each SQL engine: one error each, with the names that the server says."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from katax_cli.errors import (
    CheckViolation,
    ConstraintViolation,
    ForeignKeyViolation,
    NotNullViolation,
    QueryError,
    UniqueViolation,
)
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import Target
from tests.services.profiles import profile

Names = tuple[str | None, str | None, str | None]
FACTS: dict[str, dict[type[ConstraintViolation], Names]] = {
    "postgresql": {
        UniqueViolation: ("child_code_key", "child", None),
        ForeignKeyViolation: ("fk", "child", None),
        NotNullViolation: (None, "child", "name"),
        CheckViolation: ("positive", "child", None),
    },
    "mysql": {
        UniqueViolation: ("code", None, None),
        ForeignKeyViolation: ("fk", "child", "parent"),
        NotNullViolation: (None, None, "name"),
        CheckViolation: ("positive", "child", None),
    },
    "sqlite": {
        UniqueViolation: (None, "child", "code"),
        ForeignKeyViolation: (None, None, None),
        NotNullViolation: (None, "child", "name"),
        CheckViolation: ("positive", None, None),
    },
}


def test_each_constraint_has_its_error(sql_engine: Target, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        db = cast(SqlDatabase, runtime.database("main"))
        db.execute("create table parent (id int primary key)")
        db.execute(
            "create table child (id int primary key, code varchar(60) unique, name varchar(9) not null, n int, "
            "parent int, constraint fk foreign key (parent) references parent (id), constraint positive check (n > 0))"
        )
        db.execute("insert into parent values (1)")
        db.execute("insert into child values (1, 'a for key ''x''', 'n', 1, 1)")
        insert = "insert into child values (?, ?, ?, ?, ?)"
        wrong: list[tuple[type[ConstraintViolation], Callable[[Any], object]]] = [
            (UniqueViolation, lambda on: on.execute(insert, (2, "a for key 'x'", "n", 1, 1))),
            (NotNullViolation, lambda on: on.execute(insert, (2, "b", None, 1, 1))),
            (CheckViolation, lambda on: on.table("child").where("id", 1).update({"n": -1})),
            (ForeignKeyViolation, lambda on: on.table("child").create({"id": 2, "name": "n", "parent": 9})),
            (ForeignKeyViolation, lambda on: on.execute("delete from parent")),
            (UniqueViolation, lambda on: on.execute_many(insert, [(1, "b", "n", 1, 1)])),
        ]
        for number, (kind, call) in enumerate(wrong):
            with pytest.raises(kind) as refused:
                call(db)
            with pytest.raises(kind), db.transaction() as transaction:
                call(transaction)
            copy = pickle.loads(pickle.dumps(refused.value))
            assert isinstance(copy, ConstraintViolation)
            assert str(copy).startswith("'main' refused the statement: ")
            assert copy.code is not None
            if number < 4:
                assert (copy.constraint, copy.table, copy.column) == FACTS[db.dialect][kind], kind
        with pytest.raises(QueryError) as other:
            db.query("select nothing from child")
        assert not isinstance(other.value, ConstraintViolation)
        assert db.query("select id, n from child") == [{"id": 1, "n": 1}]
