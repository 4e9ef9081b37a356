"""Databases with one of everything that a restore must bring back, and what is in them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pymysql

from tests.servers import Server
from tests.servers.fixtures import Target

POSTGRESQL = (
    "CREATE SCHEMA app",
    'CREATE TABLE app.users (id serial PRIMARY KEY, name text COLLATE "C" NOT NULL, age int CHECK (age > 0))',
    "INSERT INTO app.users (name, age) SELECT 'user ' || g, g FROM generate_series(1, 500) g",
    "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY (START 7 INCREMENT 3), "
    "user_id int REFERENCES app.users ON DELETE CASCADE, note text DEFAULT 'none')",
    "INSERT INTO orders (user_id, note) SELECT g, E'line\\n\\\\.\\n\\t' || g FROM generate_series(1, 500) g",
    "CREATE INDEX orders_note ON orders (lower(note)) WHERE user_id > 3",
    "CREATE VIEW grown AS SELECT * FROM app.users WHERE age > 17",
    "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM orders",
    "CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n'",
    "CREATE PROCEDURE clear() LANGUAGE sql AS 'DELETE FROM orders'",
    "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.note := NEW.note; RETURN NEW; END$$",
    "CREATE TRIGGER noted BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION noted()",
    "CREATE TABLE parts (n int, t text) PARTITION BY LIST (n)",
    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)",
    "INSERT INTO parts VALUES (1, 'one')",
    "CREATE TABLE events (n int)",
    "CREATE TABLE clicks () INHERITS (events)",
    "INSERT INTO clicks VALUES (1), (2)",
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE DOMAIN short AS text CHECK (length(VALUE) < 9)",
    "CREATE COLLATION german (provider = libc, locale = 'C')",
    "SELECT lo_from_bytea(4711, 'a large object')",
    'CREATE SCHEMA "app.a"',
    'CREATE TABLE "app.a".b AS SELECT 1 AS "-n"',
    'CREATE TABLE app."a.b" AS SELECT generate_series(1, 2)',
)
MYSQL = (
    "CREATE TABLE users (id int AUTO_INCREMENT PRIMARY KEY, name varchar(40) CHARACTER SET utf8mb4 "
    "COLLATE utf8mb4_bin NOT NULL, age int CHECK (age > 0), UNIQUE (name)) AUTO_INCREMENT = 41",
    "INSERT INTO users (name, age) SELECT concat('user ', seq), seq FROM seq_1_to_500",
    "CREATE TABLE orders (id bigint AUTO_INCREMENT PRIMARY KEY, user_id int, note text, picture blob, "
    "FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE, KEY noted (note(10)))",
    "INSERT INTO orders (user_id, note, picture) SELECT id, concat('line\\n\\\\', name), x'00ff0a1a' FROM users",
    "CREATE TABLE prices (n int) WITH SYSTEM VERSIONING",
    "INSERT INTO prices VALUES (1), (2)",
    "DELETE FROM prices WHERE n = 1",
    "CREATE SEQUENCE tickets START WITH 100",
    "CREATE TABLE seats (ticket bigint DEFAULT nextval(tickets), name varchar(40))",
    "INSERT INTO seats (name) VALUES ('a'), ('b')",
    "CREATE VIEW grown AS SELECT * FROM users WHERE age > 17",
    "CREATE FUNCTION twice(n int) RETURNS int DETERMINISTIC RETURN 2 * n",
    "CREATE PROCEDURE clear() BEGIN -- all; 'of' them ;;\n # and more\n DELETE /* them */ FROM orders; END",
    "CREATE TRIGGER noted BEFORE INSERT ON orders FOR EACH ROW SET NEW.note = trim(NEW.note)",
    "CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM orders WHERE id < 0",
)
SQLITE = (
    "CREATE TABLE users (id integer PRIMARY KEY AUTOINCREMENT, name text COLLATE NOCASE UNIQUE, "
    "age int CHECK (age > 0))",
    "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 500) "
    "INSERT INTO users (name, age) SELECT 'user ' || n, n FROM s",
    "CREATE TABLE orders (id integer PRIMARY KEY, user_id int REFERENCES users, note text, picture blob)",
    "INSERT INTO orders (user_id, note, picture) SELECT id, name || char(10), x'00ff0a1a' FROM users",
    "CREATE INDEX noted ON orders (lower(note)) WHERE user_id > 3",
    "CREATE VIEW grown AS SELECT * FROM users WHERE age > 17",
    "CREATE TRIGGER noted AFTER INSERT ON orders BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE words USING fts5 (word)",
    "INSERT INTO words VALUES ('hello')",
)
STATEMENTS = {"postgresql": POSTGRESQL, "mysql": MYSQL, "sqlite": SQLITE}


def fill(target: Target) -> None:
    """Runs the statements of the engine through its own driver."""
    if target.engine == "postgresql":
        with psycopg.connect(target.url, autocommit=True) as connection:
            for statement in POSTGRESQL:
                connection.execute(statement.encode())
    elif target.engine == "mysql":
        with mysql_connection(target.server, urlsplit(target.url).path[1:]) as connection:
            for statement in MYSQL:
                connection.cursor().execute(statement)
            connection.commit()
    else:
        with closing(sqlite3.connect(target.url.removeprefix("sqlite:///"))) as file:
            for statement in SQLITE:
                file.execute(statement)
            file.commit()


def mysql_connection(server: Server, database: str) -> Any:
    return pymysql.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, database=database
    )


def content(server: Server, database: str) -> str:
    """Everything in a database as the server's own tool writes it, without what differs between two dumps of it."""
    if server.engine == "sqlite":
        return _sqlite_content(database)
    tools = server.tools
    assert tools is not None
    if server.engine == "postgresql":
        words = [str(tools / "pg_dump"), f"--dbname={server.database_url(database)}"]
    else:
        program = next(name for name in ("mariadb-dump", "mysqldump") if (tools / name).exists())
        words = [
            str(tools / program),
            "--skip-comments",
            "--hex-blob",
            "--routines",
            "--events",
            "--triggers",
            "--single-transaction",
        ]
        words += [
            f"-h{server.host}",
            f"-P{server.port}",
            f"-u{server.user}",
            f"-p{server.password}",
            database,
        ]
    done = subprocess.run(words, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 0, done.stderr
    # A default of MariaDB names the database of its sequence.
    text = done.stdout.decode().replace(f"`{database}`.", "")
    return "\n".join(
        line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict", "--"))
    )


def _sqlite_content(path: str) -> str:
    with closing(sqlite3.connect(Path(path))) as file:
        return "\n".join(file.iterdump())
