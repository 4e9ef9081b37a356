"""Backups of MySQL and MariaDB: by their tool, of one moment, whole or none."""

import shutil
import sys
from pathlib import Path

import pymysql
import pytest

from katax_cli.core.settings import ConnectionSettings
from katax_cli.profiles.load import load_profile
from katax_cli.services.backup.streams import opened
from tests.cli.harness import katax
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, MakeProxy, Target
from tests.services.backup.server_of_backups import back_up, left, profile_for, refused, run_sql

SCHEMA = (
    "CREATE TABLE t (id int PRIMARY KEY AUTO_INCREMENT, text text, b blob, m int, g int AS (m + 1) STORED)",
    "CREATE TABLE `we``ird (x` (n int) COMMENT = '(1)'",
    "INSERT INTO `we``ird (x` VALUES (1), (NULL)",
    "CREATE TABLE empty (n int)",
    "CREATE VIEW v AS SELECT * FROM t",
    "CREATE TRIGGER tr BEFORE INSERT ON empty FOR EACH ROW SET NEW.n = 1",
    "CREATE PROCEDURE p() SELECT 1",
    "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM empty",
)
ROWS = {"t": 500, "we`ird (x": 2, "empty": 0}


@pytest.fixture
def target(fresh: MakeFresh, mysql: Server, tmp_path: Path) -> Target:
    target = fresh(mysql)
    profile_for(tmp_path, target)
    run_sql(*SCHEMA)
    with connect() as connection, connection.cursor() as cursor:
        values = [("'),\n(\\", bytes(range(256)))] * 500
        cursor.executemany("INSERT INTO t (text, b) VALUES (%s, %s)", values)
        connection.commit()
    return target


def connect() -> "pymysql.Connection[pymysql.cursors.Cursor]":
    settings: ConnectionSettings = load_profile().connection("main")
    password = settings.password.reveal() if settings.password else ""
    return pymysql.connect(
        host=settings.host,
        port=settings.port or 0,
        user=settings.user,
        password=password,
        database=settings.database,
    )


def test_a_backup_says_what_is_in_it(target: Target, tmp_path: Path) -> None:
    manifest = back_up()

    assert dict(manifest.rows) == ROWS
    assert manifest.objects == {
        "constraint": 1, "event": 1, "index": 1, "routine": 1, "table": 3, "trigger": 1, "view": 1,
    }  # fmt: skip
    assert (manifest.left_out, manifest.consistency) == ((), "all tables at one moment")
    assert [file.path for file in manifest.files] == ["dump.sql.zst"]
    assert left(tmp_path) == [manifest.name]
    again = back_up()
    assert (again.server_id, again.schema_hash) == (manifest.server_id, manifest.schema_hash)
    run_sql(
        "CREATE INDEX i ON empty (n)",
        "CREATE TABLE old (n int) ENGINE = Aria" if _is_maria(target) else "DO 0",
    )
    later = back_up()
    assert later.schema_hash != manifest.schema_hash
    if _is_maria(target):
        assert later.consistency.endswith("but old (Aria), each as it was when it was read")


def test_a_change_of_a_table_fails_it(target: Target, tmp_path: Path) -> None:
    """The tool is held back until the change was made, by another one in its place."""
    tools = tmp_path / "tools"
    tools.mkdir()
    name = "mariadb-dump" if _is_maria(target) else "mysqldump"
    real = (target.server.tools or Path(str(shutil.which(name))).parent) / name
    change = tmp_path / "change"
    (tools / name).write_text(
        f'#!/bin/sh\ncase $1 in --version) exec {real} --version;; esac\n{real} "$@"\nstatus=$?\n'
        f"{sys.executable} -m katax_cli db exec -y @{change} >/dev/null 2>&1\nexit $status\n"
    )
    (tools / name).chmod(0o755)
    profile_for(tmp_path, target, tools=tools)

    for sql, table in (("ALTER TABLE empty ADD COLUMN m int", "empty"), ("DROP TABLE empty", "empty")):
        change.write_text(sql)
        code, message = refused()
        assert (code, message) == (
            1,
            f"'main': changed while it was dumped: {table}; try again when no migration runs",
        )
        assert left(tmp_path) == []
    change.write_text("DROP PROCEDURE p")
    code, message = refused()
    assert (code, "routines or events were made or changed while it was dumped" in message) == (1, True)
    change.write_text("CREATE TABLE late (n int); CREATE INDEX i ON late (n)")
    manifest = back_up()
    assert ("late" in manifest.rows, manifest.objects["table"]) == (False, 2), "it is in the next one"

    change.write_text("DO 0")
    (tools / name).write_text(
        f"#!/bin/sh\ncase $1 in --version) exec {real} --version;; esac\n"
        f"{sys.executable} -m katax_cli db exec -y 'CREATE TABLE early (n int)' >/dev/null 2>&1\n"
        f'exec {real} "$@"\n'
    )
    code, message = refused()
    assert (code, "were made or changed while it was dumped" in message) == (1, True), (
        "its definition is in the dump"
    )


def test_what_a_plain_user_may_not_see_is_named(target: Target, tmp_path: Path) -> None:
    database, user = str(load_profile().connection("main").database), "plain_reader"
    with connect() as owner, owner.cursor() as cursor:
        cursor.execute(f"CREATE USER {user}@'%%' IDENTIFIED BY 'plain'")
        try:
            url = target.url.replace(f"{target.server.user}:{target.server.password}@", f"{user}:plain@")
            profile_for(tmp_path, url, target.server)
            cursor.execute(f"GRANT SELECT ON `{database}`.t TO {user}@'%%'")
            hidden = (
                f"tables: no right to see whether there are others; grant select, show view on {database}.*"
            )
            code, message = refused("--allow-missing")
            assert (code, hidden in message, left(tmp_path)) == (1, True, [])

            cursor.execute(f"GRANT SELECT, SHOW VIEW ON `{database}`.* TO {user}@'%%'")
            assert (
                "routines: no right to see whether there are any; grant select on mysql.proc" in refused()[1]
            )

            cursor.execute(f"GRANT EXECUTE ON `{database}`.* TO {user}@'%%'")
            code, message = refused()
            assert code == 1
            assert f"triggers: no right to see them; grant trigger on {database}.*" in message
            assert f"events: no right to see them; grant event on {database}.*" in message
            assert "routines: no right to see the body of procedure p; grant select on mysql.proc" in message
            assert left(tmp_path) == []

            cursor.execute(f"GRANT TRIGGER, EVENT ON `{database}`.* TO {user}@'%%'")
            manifest = back_up("--allow-missing")
            assert dict(manifest.rows) == ROWS
            assert [one.what for one in manifest.left_out] == ["routines"]
            assert "routine" not in manifest.objects, (
                "one that is seen and left out is not looked for after a restore"
            )
            assert "create procedure" not in _created(tmp_path, manifest.name)

            cursor.execute(f"GRANT SELECT ON mysql.proc TO {user}@'%%'")
            assert back_up().left_out == (), "no administrator is needed"
        finally:
            cursor.execute(f"DROP USER {user}@'%%'")


def test_a_cut_wire_leaves_no_backup(target: Target, proxy: MakeProxy, tmp_path: Path) -> None:
    """The bad twin: the same wire, not cut."""
    wire = proxy(target)
    profile_for(tmp_path, wire.url, target.server)
    for words in (b"FROM `t`", b"FROM `empty`", b"SHOW CREATE PROCEDURE"):
        wire.cut_after(words, forward=True)
        done = katax("db", "backup", "-f", "json")
        assert (done.code, left(tmp_path)) == (1, []), done
    assert back_up().rows["t"] == 500


def _is_maria(target: Target) -> bool:
    return target.server.flavour == "mariadb"


def _created(folder: Path, name: str) -> str:
    """The dump without its rows."""
    with opened(folder / "backups" / name / "dump.sql.zst") as pieces:
        lines = b"".join(pieces).decode(errors="replace").lower().splitlines()
    return "\n".join(line for line in lines if not line.startswith("("))
