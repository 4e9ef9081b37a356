"""Texts that other people write, nearly right: each reader takes them or refuses them with an error of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katax_cli.core.schedule.crontab import parse_crontab
from katax_cli.core.schedule.schedule import parse_schedule
from katax_cli.core.sql import Dialect, compile_query, split
from katax_cli.core.sql.conditions import parse_condition, parse_value
from katax_cli.core.sql.placeholders import PlaceholderError
from katax_cli.core.sql.redact import fingerprint, redact
from katax_cli.core.text.duration import parse_duration
from katax_cli.core.text.mongo_call import is_whole, parse_call
from katax_cli.errors import KataxError
from katax_cli.profiles.check import check_profiles
from katax_cli.profiles.load import load_profile
from katax_cli.services.backup.manifest import read_manifest, write_manifest
from katax_cli.services.migrate.files import sections
from katax_cli.services.redis.values import decode, to_stored
from katax_cli.services.seeds.rows import parse_rows
from katax_cli.services.seeds.values import SeedFile
from katax_cli.services.transfer.formats.readers import parsed_object
from katax_cli.services.ws.transport.packets import MALFORMED, WirePacket
from tests.services.backup.test_manifest import WHOLE

DIALECTS: tuple[Dialect, ...] = ("postgresql", "mysql", "sqlite")
PROFILES = Path(__file__).parents[1] / "profiles"
VARIABLES = ("AUDITOR_PASSWORD", "CACHE_PASSWORD", "DB_PASSWORD", "POSTGRES_PASSWORD", "REDIS_PASSWORD")
PIECES = (
    *("\0", "\ufeff", "\u202e", "\x1b[31m", "\x7f", "\ud800", "é", "💩", "\r\n", "\n", "\t", " ", ""),
    *(
        "'",
        '"',
        "`",
        "\\",
        "$$",
        "$a$",
        "/*",
        "*/",
        "--",
        "#",
        ";",
        ",",
        ":",
        "=",
        "%",
        "?",
        "@",
        "*",
        "/",
        "-",
    ),
    *("{", "}", "[", "]", "(", ")", "${", "${env:", "[[", "]]", "'''", '"""', "\\u0000", "\\ud800", "\\."),
    *(
        "1e999",
        "NaN",
        "-0",
        "9" * 30,
        "0x1",
        "inf",
        "true",
        "null",
        "../../etc/passwd",
        "@reboot",
        "CRON_TZ=",
    ),
    *("-- DOWN\n", "DELIMITER //\n", "COPY t FROM stdin;\n", "a" * 2000),
    *("[" * 2000, "(" * 2000, '{"a":' * 1500, "{ a = " * 1500, "not " * 500, "/*" * 500),
)


class Reader(NamedTuple):
    """A reader of foreign text, right examples of it, and the errors that it documents."""

    read: Callable[[str, Path], object]
    examples: tuple[str, ...]
    errors: tuple[type[BaseException], ...] = (KataxError,)


@st.composite
def nearly(draw: st.DrawFn, examples: tuple[str, ...]) -> str:
    """An example with a few parts removed, repeated or replaced by what means something somewhere."""
    text = draw(st.sampled_from(examples))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from((0, 0, 1, 1, 3, 20))))
        piece = draw(st.sampled_from(PIECES)) if draw(st.booleans()) else text[start:end] * 3
        text = text[:start] + piece + text[end:]
    return text


def profile(text: str, folder: Path) -> None:
    file = folder / "profiles" / "nearly.toml"
    file.parent.mkdir(exist_ok=True)
    (file.parent / "other.toml").write_text('role = "dev"\n[connections.main]\nurl = "sqlite:///a.db"\n')
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    environ = {**os.environ, **dict.fromkeys(VARIABLES, "secret")}
    check_profiles()
    load_profile("nearly", cwd=str(folder), environ=environ)


def dotenv(text: str, folder: Path) -> None:
    file = folder / "profiles" / "other.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text('role = "dev"\n[connections.main]\nurl = "${env:DATABASE_URL}"\n')
    (folder / ".env").write_bytes(text.encode("utf-8", "surrogatepass"))
    check_profiles()
    load_profile("other", cwd=str(folder))


def url(text: str, folder: Path) -> None:
    load_profile(url=text, cwd=str(folder), environ={})


def crontab(text: str, _folder: Path) -> None:
    for user_column in (False, True):
        parse_crontab(text, user_column=user_column)


def schedule(text: str, _folder: Path) -> None:
    found = parse_schedule(text, "Europe/Berlin")
    found.after(1_700_000_000.0)
    found.count(1_700_000_000.0, 1_710_000_000.0)


def migration(text: str, _folder: Path) -> None:
    for dialect in DIALECTS:
        try:
            script = sections.parse(text, "000001_nearly.sql", dialect)
        except KataxError:
            continue
        for section in (script.up, script.down):
            if section is not None:
                sections.statements(section, dialect)


def sql(text: str, _folder: Path) -> None:
    for dialect in DIALECTS:
        for statement in split(text, dialect):
            assert statement.effect.kind
            assert statement.residue is not None
            redact(statement.text, dialect, max_length=500)
            fingerprint(statement.text, dialect)
            try:
                compile_query(statement.text, dialect).bind((1, 2))
            except PlaceholderError:
                continue


def condition(text: str, _folder: Path) -> None:
    parse_value(text)
    parse_condition(text)


def redis_value(text: str, _folder: Path) -> None:
    data = text.encode("utf-8", "surrogateescape" if "\ud800" not in text else "surrogatepass")
    decode(data)
    to_stored(data)


def json_line(text: str, _folder: Path) -> None:
    parsed_object(text)


def mongo_call(text: str, _folder: Path) -> None:
    is_whole(text)
    parse_call(text)


def seed_file(name: str, data: bytes) -> SeedFile:
    return SeedFile(name, name, data, sha256(data).hexdigest())


def seed(name: str) -> Callable[[str, Path], None]:
    def read(text: str, _folder: Path) -> None:
        for row in parse_rows(seed_file(name, text.encode("utf-8", "surrogatepass")), json.loads).rows:
            assert row is not None

    return read


def manifest(text: str, folder: Path) -> None:
    """Signed as katax signs, where it is JSON: what comes after the digest is tried too."""
    backup = folder / WHOLE.name
    backup.mkdir(exist_ok=True)
    try:
        values = json.loads(text)
        spelt = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        text = json.dumps({**values, "digest": sha256(spelt.encode()).hexdigest()})
    except (ValueError, TypeError, RecursionError):
        pass
    (backup / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    read_manifest(backup)


def frame(text: str, _folder: Path) -> None:
    packet = WirePacket(encoded_packet=text)
    for _ in range(packet.attachment_count):
        packet.add_attachment(b"x")


MIGRATIONS = (
    "-- UP\nCREATE TABLE a (id int);\nINSERT INTO a VALUES (1);\n-- DOWN\nDROP TABLE a;\n",
    "-- migrate:up transaction:false\nCREATE FUNCTION f() RETURNS int AS $x$ select 1; $x$ LANGUAGE sql;\n",
    "-- UP\nDELIMITER //\nCREATE PROCEDURE p() BEGIN SELECT 1; END//\nDELIMITER ;\n-- DOWN\nDROP PROCEDURE p;\n",
    "-- UP\nCOPY a FROM stdin;\n1\t2\n\\.\nselect 'a''b', E'\\'', \"q\"\"q\"; /* a /* b */ c */ BEGIN; COMMIT;",
)
READERS = {
    "profile": Reader(profile, tuple(file.read_text() for file in sorted(PROFILES.glob("*.toml")))),
    "dotenv": Reader(dotenv, ("A=1\nB='x y'\nexport C=\"q\\n\"\nDATABASE_URL=postgresql://u:p@h/d\n#c\n",)),
    "url": Reader(
        url,
        (
            "postgresql://u:p%40@h:5432/db?sslmode=require&connect_timeout=5",
            "mysql+pymysql://root@localhost/x?charset=utf8mb4",
            "mongodb+srv://u:p@h/db?replicaSet=r",
            "rediss://:pw@[::1]:6379/1",
            "sqlite:///a.db",
        ),
    ),
    "crontab": Reader(
        crontab,
        ("SHELL=/bin/sh\nMAILTO=a\n*/5 * * * * echo hi % x\n@daily root /bin/foo\n0 9-17/2 * * mon-fri x\n",),
        (ValueError,),
    ),
    "schedule": Reader(
        schedule,
        ("*/5 * * * *", "0 9-17/2 1,15 * mon-fri", "0 0 L * *", "30 4 * * 5#2", "@every 30s", "0 0 0 * * *"),
        (ValueError,),
    ),
    "duration": Reader(lambda text, _: parse_duration(text), ("5m", "250ms", "1.5h", "30"), (ValueError,)),
    "migration": Reader(migration, MIGRATIONS),
    "sql": Reader(
        sql, (*MIGRATIONS, "with q as (delete from t where a = ? returning *) select $1, :n from q")
    ),
    "condition": Reader(
        condition, ("a = 1", "b like 'x%'", "name in (1,2,'x')", "a is not null", "n != :p"), (ValueError,)
    ),
    "redis value": Reader(
        redis_value, ('{"a":[1,{"c":null}],"d":"x\\u00e9","e":1e5}', "text"), (ValueError,)
    ),
    "json line": Reader(json_line, ('{"id": 1, "a": [1, 2], "b": {"c": "d"}}',), (ValueError,)),
    "mongo call": Reader(
        mongo_call,
        ('db.users.find({"a": {"$gt": 1}}).limit(5);', 'db["x y"].drop()', "show dbs"),
        (ValueError,),
    ),
    "seed csv": Reader(seed("001_t.csv"), ('a,b\n1,"x, y"\n2,""\n', "a;b\r\n1;2\r\n", "\ufeffa,b\n1,2\n")),
    "seed json": Reader(
        seed("001_t.json"), ('{"table":"t","key":["id"],"rows":[{"id":1,"a":null}]}', '[{"id":1}]')
    ),
    "manifest": Reader(manifest, (json.dumps({"format": WHOLE.format, **asdict(WHOLE)}, default=str),)),
    "frame": Reader(
        frame, ('2["chat",{"a":[1,2]}]', '51-7["x",{"_placeholder":true,"num":0}]', "0/admin,"), MALFORMED
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_nearly_right_text_is_read_or_refused(name: str, tmp_path: Path) -> None:
    reader = READERS[name]

    @settings(max_examples=100)
    @given(nearly(reader.examples))
    def read(text: str) -> None:
        try:
            reader.read(text, tmp_path)
        except reader.errors:
            return

    read()


def test_the_examples_themselves_are_right(tmp_path: Path) -> None:
    for name, reader in READERS.items():
        for number, example in enumerate(reader.examples):
            folder = tmp_path / f"{name}-{number}"
            folder.mkdir()
            reader.read(example, folder)


def test_a_value_that_is_nested_too_deeply_is_refused_in_one_line(tmp_path: Path) -> None:
    deep = {
        "profile": f"a = {'[' * 5000}",
        "seed json": f'[{{"id": {"[" * 5000}{"]" * 5000}}}]',
        "json line": f'{{"a": {"[" * 5000}{"]" * 5000}}}',
        "redis value": "[" * 5000 + "]" * 5000,
        "mongo call": f"db.t.find({'[' * 5000})",
    }
    for name, text in deep.items():
        reader: Any = READERS[name]
        with pytest.raises(reader.errors) as caught:
            reader.read(text, tmp_path)
        assert "\n" not in str(caught.value)


def test_a_cell_of_a_seed_may_be_large() -> None:
    large = "x" * 500_000
    [row] = parse_rows(seed_file("001_t.csv", f'id,name\n1,"{large}\n"\n'.encode()), json.loads).rows
    assert row == {"id": "1", "name": f"{large}\n"}


def test_a_manifest_of_katax_itself_is_signed_as_here(tmp_path: Path) -> None:
    backup = tmp_path / WHOLE.name
    backup.mkdir()
    write_manifest(backup, WHOLE)
    assert read_manifest(backup) == WHOLE
