"""The way of a dump into a database of another name."""

from __future__ import annotations

import random
import re

import psycopg

from katax_cli.engines.mysql.backup.restore import MysqlRestore
from katax_cli.engines.postgresql.backup.restore import PostgresRestore
from katax_cli.services.backup.restore.load import count_rows, differences
from katax_cli.services.tables.scratch import open_settings
from tests.engines.connections import settings_for
from tests.servers import Server
from tests.servers.fixtures import MakeFresh

PRINTED = """
CREATE DATABASE "a;b""c" WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'it''s;
C';
ALTER DATABASE "a;b""c" OWNER TO "Mr. X";
COMMENT ON DATABASE "a;b""c" IS 'one;
two {name}';
ALTER DATABASE "a;b""c" SET search_path TO 'x', "y;z";
ALTER DATABASE "a;b""c" CONNECTION LIMIT = 5;
ALTER ROLE "Mr. X" IN DATABASE "a;b""c" SET search_path TO 'x;y';
ALTER TABLE t OWNER TO app;
REVOKE CONNECT,TEMPORARY ON DATABASE "a;b""c" FROM PUBLIC;
GRANT CONNECT ON DATABASE "a;b""c" TO reader WITH GRANT OPTION;
GRANT SELECT ON TABLE t TO PUBLIC;
GRANT SELECT ON TABLE t TO reader WITH GRANT OPTION;
--
-- Name: FUNCTION f(); Type: COMMENT; Schema: public; Owner: app
--
COMMENT ON FUNCTION public.f() IS 'see
ALTER DATABASE "a;b""c" OWNER TO mallory;
GRANT ALL ON DATABASE "a;b""c" TO mallory;
';
CREATE FUNCTION public.f() RETURNS void LANGUAGE plpgsql AS $_$
begin
ALTER DATABASE "a;b""c" CONNECTION LIMIT 0;
ALTER ROLE postgres IN DATABASE "a;b""c" SET search_path TO evil;
GRANT ALL ON DATABASE "a;b""c" TO mallory;
end $_$;
"""


def test_the_head_of_a_dump_says_how_its_database_was_made() -> None:
    head = PostgresRestore.head(None, PRINTED)  # type: ignore[arg-type]

    assert head.create == (
        "CREATE DATABASE {name} WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'it''s;\nC'"
    )
    assert list(head.finish) == [
        "COMMENT ON DATABASE {name} IS 'one;\ntwo {name}'",
        "ALTER DATABASE {name} SET search_path TO 'x', \"y;z\"",
    ]
    assert {part.what: set(part.names) for part in head.parts if part.names} == {
        "owners": {"Mr. X", "app"},
        "grants": {"reader"},
        "settings of roles": {"Mr. X"},
    }
    assert {part.what: part.finish for part in head.parts if part.finish} == {
        "owners": ('ALTER DATABASE {name} OWNER TO "Mr. X"', "ALTER DATABASE {name} CONNECTION LIMIT = 5"),
        "grants": (
            "REVOKE CONNECT,TEMPORARY ON DATABASE {name} FROM PUBLIC",
            "GRANT CONNECT ON DATABASE {name} TO reader WITH GRANT OPTION",
        ),
        "settings of roles": ("ALTER ROLE \"Mr. X\" IN DATABASE {name} SET search_path TO 'x;y'",),
    }


def test_a_dump_of_mysql_names_the_database_that_it_goes_to() -> None:
    text = (
        b"CREATE TABLE `t` (a int);\n"
        b"INSERT INTO `t` VALUES ('ALTER DATABASE `s``rc` x'),('\\nALTER DATABASE `s``rc` y');\n"
        b"ALTER DATABASE `s``rc` CHARACTER SET latin1 COLLATE latin1_bin ;\n"
        b"/*!50003 ALTER DATABASE `s``rc` CHARACTER SET utf8mb4 */;\n"
        b"ALTER DATABASE `s``rc2` CHARACTER SET latin1;\n"
        b"last line without an end"
    )
    wanted = text.replace(b"\nALTER DATABASE `s``rc` C", b"\nALTER DATABASE `new` C").replace(
        b"/*!50003 ALTER DATABASE `s``rc`", b"/*!50003 ALTER DATABASE `new`"
    )
    chance = random.Random(19)
    restore = MysqlRestore(None)  # type: ignore[arg-type]

    for _ in range(200):
        cuts = sorted(chance.randrange(len(text)) for _ in range(chance.randrange(12)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert b"".join(restore.addressed(pieces, source="s`rc", target="new")) == wanted


def test_a_right_that_is_missing_is_known_in_every_language() -> None:
    """Other words of MariaDB are of the dump itself."""
    said = "mariadb failed: ERROR {} (42000) at line 22: Vous n'êtes pas autorisé à utiliser la base"
    for number, is_hindered in ((1044, True), (1142, True), (1227, True), (1064, False), (1062, False)):
        assert bool(MysqlRestore.hindered.search(said.format(number))) is is_hindered, number


def test_every_event_of_a_dump_is_made_disabled() -> None:
    head = b"/*!50106 CREATE*/ /*!50117 DEFINER=`a*/ `` b`@`%`*/ /*!50106 EVENT `x``y` ON SCHEDULE "
    schedules = [
        b"AT '2026-01-01 00:00:00' ON COMPLETION NOT PRESERVE ENABLE DO DELETE FROM t */ ;;",
        b"EVERY 1 SECOND ON COMPLETION PRESERVE DISABLE ON SLAVE COMMENT ' ON COMPLETION PRESERVE ENABLE DO ' DO a",
        b"EVERY '1 1' DAY_HOUR STARTS '2026-01-01' ENDS '2027-01-01' ON COMPLETION NOT PRESERVE ENABLE DO b",
    ]
    row = b"('\\n" + head + schedules[0] + b"');"
    text = b"\n".join([row, *(head + schedule for schedule in schedules), b""])

    held = b"".join(MysqlRestore(None).addressed([text], source="a", target="b"))  # type: ignore[arg-type]

    lines = held.splitlines()
    assert lines[0] == row, "a row is as it was"
    for line, schedule in zip(lines[1:], schedules, strict=True):
        when, _, rest = schedule.partition(b" ON COMPLETION ")
        action = rest[re.search(b" (?:DO|COMMENT) ", rest).start() :]  # type: ignore[union-attr]
        assert line == head + when + b" ON COMPLETION PRESERVE DISABLE" + action


def test_rows_of_a_table_of_an_extension_are_those_that_its_dump_has(
    fresh: MakeFresh, postgresql: Server
) -> None:
    """What an extension brings itself comes with it, as the reference systems of PostGIS."""
    target = fresh(postgresql)
    with psycopg.connect(target.url, autocommit=True) as connection:
        for statement in (
            "CREATE TABLE systems (id int, is_own bool)",
            "INSERT INTO systems SELECT g, g > 7 FROM generate_series(1, 9) g",
            "CREATE TABLE hidden AS SELECT 1",
            "ALTER EXTENSION plpgsql ADD TABLE systems",
            "ALTER EXTENSION plpgsql ADD TABLE hidden",
            "UPDATE pg_extension SET extconfig = ARRAY['systems'::regclass], extcondition = ARRAY['WHERE is_own']"
            " WHERE extname = 'plpgsql'",
        ):
            connection.execute(statement.encode())

    with open_settings(settings_for(target.url)) as database:
        assert count_rows(database, ["public.systems"]) == {"public.systems": 2}


def test_differences_are_one_line_each() -> None:
    assert differences("rows of", {"a": 1, "b": 2, "empty": 0}, {"a": 1, "c": 3000}) == [
        "rows of b: 2 in the backup, 0 restored",
        "rows of c: 0 in the backup, 3,000 restored",
    ]
