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
    DeadlockDetected,
    ForeignKeyViolation,
    NotNullViolation,
    QueryError,
    RolledBack,
    SerializationFailure,
    Unavailable,
    UniqueViolation,
)
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.cli.harness import katax, write_profile
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


CONFLICT = """
create table child (id int primary key);
create function conflict() returns trigger language plpgsql as
$$ begin raise exception 'could not serialize' using errcode = '{code}'; end $$;
create trigger conflicting before insert on child for each row execute function conflict();
"""


@pytest.mark.parametrize(("code", "kind"), [("40001", SerializationFailure), ("40P01", DeadlockDetected)])
def test_a_conflict_is_nowhere_taken_for_a_refused_row(
    code: str, kind: type[RolledBack], postgresql_url: str, tmp_path: Path
) -> None:
    """Seeds, imports, migrations and the shell's confirmation treat refusals in their own ways; this is none."""
    write_profile(tmp_path, {"main": postgresql_url}, extra="[retry]\ninitial = 0.01\nmax = 0.01\n")
    assert katax("db", "exec", CONFLICT.format(code=code)).code == 0
    for name, text in {
        "seeds/dev.sql": "insert into child values (1);",
        "seeds/rows.csv": "id\n1\n2\n",
        "child.csv": "id\n1\n2\n",
        "migrations/001_one.sql": "-- UP\ninsert into child values (1);\n-- DOWN\n",
        "migrations/002_two.sql": "-- katax: no-transaction\n-- UP\ninsert into child values (1);\n-- DOWN\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    commands = (
        ("seed", "run", "dev"),
        ("db", "import", "child.csv", "child", "--max-errors", "9"),
        ("db", "exec", "insert into child values (1)"),
        ("migrate", "up"),
    )
    for command in commands:
        done = katax(*command, "-f", "json", "-y")
        assert (done.code, "could not serialize" in done.err) == (3, True), (command, done)
        assert f'"sqlstate": "{code}"' in done.err, (command, done.err)

    with Runtime(profile(tmp_path, {"main": postgresql_url})) as runtime:
        db = cast(SqlDatabase, runtime.database("main"))
        breaker = db.breaker
        assert breaker is not None
        for _ in range(20):
            with pytest.raises(kind) as refused, db.transaction() as transaction:
                transaction.execute("insert into child values (1)")
        assert (breaker.get_state().state, breaker.get_state().failures) == ("closed", 0)
        copy = pickle.loads(pickle.dumps(refused.value))
        assert (type(copy), copy.code, str(copy)) == (kind, code, str(refused.value))
        assert isinstance(copy, QueryError)
        assert isinstance(copy, Unavailable)


def test_a_snapshot_that_is_too_old_on_sqlite(sqlite_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": sqlite_url})) as runtime:
        db = cast(SqlDatabase, runtime.database("main"))
        db.execute("create table t (n int)")
        with db.session() as session:
            session.run("BEGIN")
            session.query("select * from t")
            db.execute("insert into t values (1)")
            with pytest.raises(SerializationFailure) as refused:
                session.run("insert into t values (2)")
        assert refused.value.code == "SQLITE_BUSY_SNAPSHOT"
