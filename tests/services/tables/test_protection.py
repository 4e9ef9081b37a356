"""What no rollback would undo is known before anything is sent."""

from pathlib import Path

from katax_cli.core.sql import split
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.tables.protection import Unprotected, unprotected
from tests.servers.fixtures import Target
from tests.services.profiles import profile

PLAIN = "update t set n = 1 where n = 2; insert into t values (1); delete from t where n = 3; select 1"


def judged(database: SqlDatabase, script: str) -> Unprotected | None:
    return unprotected(database, list(split(script, database.dialect)))


def test_what_a_transaction_protects(sql_engine: Target, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        database = runtime.sql(runtime.profile.connection("main"))
        ends = judged(database, "update t set n = 1 where n = 2;\ncommit")
        altered = judged(database, "alter table t add x int; update t set n = 1 where n = 2")

        assert judged(database, PLAIN) is None
        assert judged(database, "savepoint s; delete from t where n = 1; rollback to s") is None
        assert ends == Unprotected("line 2: COMMIT begins or ends a transaction", divides=True)
        committing = Unprotected("line 1: mysql commits at ALTER", divides=True)
        assert altered == (committing if sql_engine.engine == "mysql" else None)
        if sql_engine.engine != "mysql":
            vacuum = judged(database, "delete from t where n = 1; vacuum")
            assert vacuum == Unprotected("line 1: VACUUM runs in no transaction", divides=True)


def test_tables_without_transactions_are_named(mysql_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": mysql_url})) as runtime:
        database = runtime.sql(runtime.profile.connection("main"))
        database.execute("create table t (n int)")
        database.execute("create table `Log` (n int) engine = MyISAM")
        database.execute("create trigger after_t after update on t for each row insert into `Log` values (1)")

        log = judged(database, "delete from `Log` where n = 1")
        through = judged(database, "update t set n = 1 where n = 2")

        assert log == Unprotected("log: no rollback undoes what is written there", divides=False)
        assert through == Unprotected("t: no rollback undoes what is written there", divides=False)
