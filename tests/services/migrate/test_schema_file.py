"""The schema file: written after migrations or said not to be, and an empty database built from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import MakeFresh, Target
from tests.servers.server import Server
from tests.services.migrate.conftest import Write
from tests.services.migrate.test_dump import mysqldump, pg_dump

KEPT = '[migrate]\nschema_file = "schema.sql"\n'
FIRST = {
    "postgresql": """CREATE TABLE a (id serial PRIMARY KEY, name text DEFAULT '-- katax: end');
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
-- DOWN
RETURN new; END $$;
CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION f()""",
    "mysql": """CREATE TABLE a (id int AUTO_INCREMENT PRIMARY KEY, name varchar(50) DEFAULT '-- katax: end');
CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW BEGIN
SET new.name = concat(new.name, ';'); END""",
    "sqlite": """CREATE TABLE a (id integer PRIMARY KEY, -- DOWN
name text DEFAULT '-- katax: end');
CREATE VIRTUAL TABLE words USING fts5(word);
CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET name = ';'; DELETE FROM a WHERE id < 0; END""",
}
SECOND = "CREATE VIEW v AS SELECT id FROM a"


@pytest.fixture(autouse=True)
def tools(mysql: Server, postgresql: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers' own tools, as they would be on PATH."""
    for server in (mysql, postgresql):
        if server.tools is not None:
            monkeypatch.setenv("PATH", str(server.tools), prepend=os.pathsep)


@pytest.fixture
def engine(sql_engine: Target, write: Write, tmp_path: Path) -> Target:
    """With two migrations that wait."""
    write("001_a.sql", FIRST[sql_engine.engine], "DROP TABLE a")
    write("002_v.sql", SECOND, "DROP VIEW v")
    write_profile(tmp_path, {"main": sql_engine.url}, extra=KEPT)
    return sql_engine


def schema_of(target: Target) -> str:
    """As the server's own tool has it, or SQLite."""
    if target.engine == "sqlite":
        return katax(
            "db", "query", "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2", "-f", "csv"
        ).out
    if target.engine == "postgresql":
        text = pg_dump(target.server, target.url, "--schema-only")
        return "\n".join(line for line in text.splitlines() if not line.startswith("\\"))
    return mysqldump(target.server, target.url, "--no-data", "--skip-comments")


def test_a_database_that_was_loaded_is_one_that_was_migrated(
    engine: Target, fresh: MakeFresh, tmp_path: Path
) -> None:
    file = tmp_path / "schema.sql"
    up = katax("migrate", "up", "-y")
    migrated, kept = schema_of(engine), file.read_bytes()
    again, dumped = katax("migrate", "up"), katax("migrate", "dump")
    other = fresh(engine.engine)
    write_profile(tmp_path, {"main": other.url}, extra=KEPT)
    planned = katax("migrate", "load", "--dry-run", "-f", "json")
    assert katax("migrate", "status", "--exit-code").code == 1

    loaded = katax("migrate", "load", "-f", "json")

    assert (up.code, again.code, dumped.code) == (0, 0, 0), up.err + again.err
    assert f"wrote {file}" in up.err
    assert "wrote" not in again.err
    assert dumped.stdout == kept == file.read_bytes()
    names = ["001_a.sql", "002_v.sql"]
    assert planned.json == {"would_load": str(file), "recorded": names}
    assert (loaded.code, loaded.json) == (0, {"loaded": str(file), "recorded": names}), loaded.err
    assert schema_of(other) == migrated
    assert katax("migrate", "status", "--exit-code").code == 0
    assert katax("migrate", "up", "-f", "json").json == {"done": []}
    assert file.read_bytes() == kept
    refused = katax("migrate", "load")
    assert (refused.code, "is not empty" in refused.err) == (1, True)
    assert katax("migrate", "down", "-y").code == 0
    assert b"002_v.sql" not in file.read_bytes()


def test_what_is_refused_is_refused_before_anything_is_built(
    engine: Target, fresh: MakeFresh, tmp_path: Path, write: Write
) -> None:
    file = tmp_path / "schema.sql"
    assert katax("migrate", "up", "-y").code == 0
    text = file.read_text()
    write_profile(tmp_path, {"main": fresh(engine.engine).url}, extra=KEPT)

    for broken in ("", text[:-20], text.replace("-- katax: end\n", ""), text.partition("\n")[2]):
        file.write_text(broken)
        assert katax("migrate", "load").code == 2, broken[-60:]
    file.write_text(text.replace(f"schema of {engine.engine}", "schema of oracle"))
    assert "is a schema of oracle" in katax("migrate", "load").err
    file.write_text(text)
    write("002_v.sql", f"{SECOND} -- as it was", "DROP VIEW v")
    assert katax("migrate", "load", "--dry-run").code == 0
    write("002_v.sql", f"{SECOND} WHERE id > 1", "DROP VIEW v")
    changed = katax("migrate", "load")
    assert (changed.code, "another text of migration 002_v.sql" in changed.err) == (1, True)
    assert katax("db", "tables", "-f", "json").json == []


def test_a_schema_that_stops_in_its_middle_is_not_called_done(
    engine: Target, fresh: MakeFresh, tmp_path: Path
) -> None:
    file = tmp_path / "schema.sql"
    assert katax("migrate", "up", "-y").code == 0
    text = file.read_text()
    at = text.index("-- katax: applied")
    file.write_text(f"{text[:at]}CREATE VIEW w AS SELECT nope FROM nowhere;\nSELECT nope;\n{text[at:]}")
    write_profile(tmp_path, {"main": fresh(engine.engine).url}, extra=KEPT)

    stopped = katax("migrate", "load")

    line = text[:at].count("\n") + (2 if engine.engine == "sqlite" else 1)
    assert (stopped.code, f"schema.sql failed at line {line}" in stopped.err) == (1, True), stopped.err
    if engine.engine != "mysql":
        assert "nothing of it was applied" in stopped.err
        file.write_text(text)
        assert katax("migrate", "load").code == 0
        return
    assert "'katax db reset'" in stopped.err
    assert katax("migrate", "load").code == 1
    for words in (["up"], ["down"], ["resume"], ["resume", "--assume", "done"], ["resume", "--abandon"]):
        assert "the load of schema.sql stopped in its middle" in katax("migrate", *words, "-y").err, words
    assert katax("db", "reset", "-y").code == 0
    file.write_text(text)
    assert katax("migrate", "load").code == 0


def test_up_says_when_its_schema_was_not_written(
    fresh: MakeFresh, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("001_a.sql", "CREATE TABLE a (id int)")
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    for name in ("pg_dump", "mysqldump", ""):
        engine = {"pg_dump": "postgresql", "mysqldump": "mysql"}.get(name, "postgresql")
        write_profile(tmp_path, {"main": fresh(engine).url}, extra=KEPT)
        if name:
            (tools / name).write_text("#!/bin/sh\necho half of it\necho 'too old: no' >&2\nexit 1\n")
            (tools / name).chmod(0o755)
        else:
            (tools / "pg_dump").unlink()

        up = katax("migrate", "up")

        reason = f"{name} failed: too old: no" if name else "pg_dump is not installed"
        assert up.code == 1
        assert f"what is applied stays applied, but {tmp_path}/schema.sql was not written: {reason}" in up.err
        assert katax("migrate", "status", "--exit-code").code == 0
        assert os.listdir(tmp_path).count("schema.sql") == 0


def test_a_tool_that_hangs_ends_with_the_time_that_was_given(
    postgresql_url: str, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("001_a.sql", "CREATE TABLE a (id int)")
    tool = tmp_path / "pg_dump"
    tool.write_text("#!/bin/sh\nexec sleep 1000\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    write_profile(tmp_path, {"main": postgresql_url}, extra=KEPT)

    up = katax("migrate", "up", "--timeout", "8s")

    assert (up.code, "pg_dump took longer than 8 s" in up.err) == (1, True)


def test_mongodb_has_no_schema_file(mongodb_url: str, tmp_path: Path, folder: Path) -> None:
    write_profile(tmp_path, {"main": mongodb_url}, extra=KEPT)

    up = katax("migrate", "up")

    assert (up.code, "mongodb has no schema in SQL" in up.err) == (1, True)
