"""Folders and ledgers of other migration tools: what is read as it is, and what is refused by its name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

from katax_cli.errors import ConfigError, MigrationError

if TYPE_CHECKING:
    from katax_cli.services.databases.sql import SqlDatabase
    from katax_cli.services.databases.statements import Queries

DBMATE_TABLE = "schema_migrations"
_DBMATE, _GOLANG, _OTHER = "dbmate", "golang-migrate", "another tool"
UP_SUFFIX, DOWN_SUFFIX = ".up.sql", ".down.sql"
_FLYWAY = re.compile(r"(?:[VUB]\d[\w.]*_|R__).*\.(sql|java|kt|rs)", re.IGNORECASE)
"""Also in other letters and with one underscore: Flyway passes such files over, and so would katax."""
_PRISMA = re.compile(r"\d{14}_.*")
_DIESEL = re.compile(r"\d.*")
_ALEMBIC = re.compile(r"(?=\d*[a-f])[0-9a-f]{12}_.*\.py")
_OTHER_LANGUAGE = re.compile(r"\d.*\.(rb|[cm]?[jt]s|php|go|cs|exs|java|kt|rs|xml|up\.json)", re.IGNORECASE)
_OTHER_LETTERS = re.compile(r"\d.*\.(sql|py)", re.IGNORECASE)
_LEDGERS = {
    "flyway_schema_history": "Flyway",
    "_prisma_migrations": "Prisma",
    "alembic_version": "Alembic",
    "django_migrations": "Django",
    "knex_migrations": "Knex",
    "SequelizeMeta": "Sequelize",
    "goose_db_version": "goose",
    "databasechangelog": "Liquibase",
    "DATABASECHANGELOG": "Liquibase",
    "_sqlx_migrations": "sqlx",
    "__diesel_schema_migrations": "Diesel",
}
_RAILS_TABLE = "ar_internal_metadata"
"""Stands beside Rails' `schema_migrations`, which has dbmate's name and column."""
_THEN = "then say 'katax migrate baseline VERSION' where they are applied"
_CREATE_DBMATE = f"CREATE TABLE IF NOT EXISTS {DBMATE_TABLE} (version varchar(128) PRIMARY KEY)"


def refuse_folder(directory: str, names: Sequence[str]) -> None:
    """Raises ConfigError for a folder of a tool whose files katax does not read and would pass over.

    `names` are those in it that may be such a tool's.
    """
    flyway = next((name for name in sorted(names) if _FLYWAY.fullmatch(name)), None)
    if flyway is not None:
        raise ConfigError(
            f"{directory} holds files of Flyway ({flyway}); rename them to <version>_<name>.sql with '-- UP' above "
            f"their statements, {_THEN}"
        )
    prisma = next((name for name in sorted(names) if _is_prisma(directory, name)), None)
    if prisma is not None:
        raise ConfigError(
            f"{directory} holds folders of Prisma ({prisma}); copy each migration.sql to a file called after its "
            f"folder ({prisma}.sql), with '-- UP' above its statements, {_THEN}"
        )
    is_alembic = "versions" in names and ("env.py" in names or "script.py.mako" in names)
    if is_alembic or any(_ALEMBIC.fullmatch(name) for name in names):
        raise ConfigError(
            f"{directory} is a folder of Alembic; write its SQL ('alembic upgrade head --sql') to "
            f"<version>_<name>.sql below '-- UP', {_THEN}"
        )
    _refuse_unread(directory, sorted(names))


def _refuse_unread(directory: str, names: Sequence[str]) -> None:
    """Raises ConfigError for files that have a version, or are a plan of Sqitch, and would be passed over."""
    for name in names:
        if _OTHER_LANGUAGE.fullmatch(name) or name in ("sqitch.plan", "schema.rb"):
            raise ConfigError(
                f"{directory} holds {name} of another tool, and katax reads .sql and .py only; write its migrations "
                f"to <version>_<name>.sql below '-- UP', {_THEN}"
            )
        if _DIESEL.fullmatch(name) and os.path.isfile(os.path.join(directory, name, "up.sql")):
            raise ConfigError(
                f"{directory} holds folders of Diesel ({name}); copy each up.sql and down.sql to "
                f"<version>_<name>.up.sql and .down.sql, {_THEN}"
            )
        if _OTHER_LETTERS.fullmatch(name) and not name.endswith((".sql", ".py")):
            lower = os.path.splitext(name)[1].lower()
            raise ConfigError(
                f"{os.path.join(directory, name)} would be passed over; let its name end in {lower}"
            )


def refuse_nested(directory: str, names: Sequence[str]) -> None:
    """Raises ConfigError for a folder without migrations that has folders with some, as Flyway reads them."""
    for name in sorted(names):
        inside = os.path.join(directory, name)
        files = sorted(os.listdir(inside)) if os.path.isdir(inside) and os.access(inside, os.R_OK) else []
        nested = next(
            (file for file in files if _FLYWAY.fullmatch(file) or _OTHER_LETTERS.fullmatch(file)), None
        )
        if nested is not None:
            raise ConfigError(
                f"{directory} holds no migrations, but {os.path.join(inside, nested)} may be one; katax reads no "
                "folders in it: move its files up, or set directory in [migrate]"
            )


def _is_prisma(directory: str, name: str) -> bool:
    return _PRISMA.fullmatch(name) is not None and os.path.isfile(
        os.path.join(directory, name, "migration.sql")
    )


def paired(up: bytes, down: bytes | None) -> tuple[bytes, tuple[int, ...]]:
    """golang-migrate's two files as the two sections of one, and where those begin."""
    sections = b"-- UP\n" + up
    if down is None:
        return sections, (0,)
    return sections + b"\n-- DOWN\n" + down, (0, len(sections) + 1)


def refuse_lonely_down(names: Set[str]) -> None:
    """Raises MigrationError for a `.down.sql` without its `.up.sql`."""
    for name in sorted(name for name in names if name.endswith(DOWN_SUFFIX)):
        up = name.removesuffix(DOWN_SUFFIX) + UP_SUFFIX
        if up not in names:
            raise MigrationError(f"migration {name} reverts {up}, which is not there; bring it back")


def refuse_ledger(database: SqlDatabase, table: str) -> None:
    """Raises ConfigError when another tool has migrated the database, so that nothing of it is run again."""
    owner = _owner(database)
    if owner == _GOLANG:
        raise ConfigError(_golang(database, table))
    if owner == _DBMATE:
        raise ConfigError(
            f"{database.name!r} was migrated by dbmate ({DBMATE_TABLE}) and has no {table}; "
            "adopt it with 'katax migrate baseline --from dbmate'"
        )
    if owner is not None:
        raise ConfigError(_migrated_by(owner, DBMATE_TABLE, database, table))
    for name, tool in _LEDGERS.items():
        if database.describe(name) is not None:
            raise ConfigError(_migrated_by(tool, name, database, table))


def _migrated_by(tool: str, name: str, database: SqlDatabase, table: str) -> str:
    return (
        f"{database.name!r} was migrated by {tool} ({name}) and has no {table}; write its migrations as "
        "katax's, then say with 'katax migrate baseline VERSION' which of them are applied"
    )


def _owner(database: SqlDatabase) -> str | None:
    """The tool that has the table `schema_migrations`; None without one."""
    description = database.describe(DBMATE_TABLE)
    if description is None:
        return None
    columns = {column.name for column in description.columns}
    if "dirty" in columns:
        return _GOLANG
    if columns != {"version"}:
        return _OTHER
    return _DBMATE if database.describe(_RAILS_TABLE) is None else "Rails"


def _golang(database: SqlDatabase, table: str) -> str:
    rows = database.run(f"SELECT version, dirty FROM {DBMATE_TABLE}").rows
    known = f"{database.name!r} was migrated by {_GOLANG} ({DBMATE_TABLE}) and has no {table}"
    if not rows:
        return f"{known}; nothing is applied, so drop {DBMATE_TABLE} and go on"
    version, dirty = rows[0]
    if dirty:
        return f"{known}; version {version} is dirty: repair it there first, then say 'katax migrate baseline VERSION'"
    return f"{known}; adopt it with 'katax migrate baseline {version}'"


def dbmate_versions(database: SqlDatabase, on: Queries) -> list[str]:
    """The versions that dbmate has applied. Raises ConfigError when it has no table here, or another tool has it."""
    owner = _owner(database)
    if owner is None:
        raise ConfigError(f"{database.name!r} has no table {DBMATE_TABLE}; dbmate did not migrate it")
    if owner == _DBMATE:
        rows = on.run(f"SELECT version FROM {DBMATE_TABLE} ORDER BY version").rows
        versions = [str(row[0]) for row in rows]
        if all(version.isdecimal() for version in versions):
            return versions
        owner = _OTHER
    raise ConfigError(
        f"{DBMATE_TABLE} on {database.name!r} is {owner}'s; use 'katax migrate baseline VERSION'"
    )


def write_dbmate(database: SqlDatabase, on: Queries, versions: Sequence[str]) -> list[str]:
    """Writes applied versions to dbmate's table; returns the new ones. Raises ConfigError for another tool's table."""
    if database.describe(DBMATE_TABLE) is None:
        on.run(_CREATE_DBMATE)
    known = {int(version) for version in dbmate_versions(database, on)}
    new = [version for version in versions if int(version) not in known]
    for version in new:
        on.run(f"INSERT INTO {DBMATE_TABLE} (version) VALUES (?)", [version])
    return new
