"""The folder of migrations: reading it, and adding to it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise

from katax_cli.core.text.text import undecodable
from katax_cli.errors import ConfigError, MigrationError, unknown_name
from katax_cli.profiles.sources.new_file import write_new
from katax_cli.services.migrate.files.other_tools import (
    DOWN_SUFFIX,
    UP_SUFFIX,
    paired,
    refuse_folder,
    refuse_lonely_down,
    refuse_nested,
)
from katax_cli.services.migrate.values import BOM, MigrationFile

_FILE = re.compile(r"(\d+)[^/]*\.(sql|py)")
_TIMESTAMP_DIGITS = 14
_SQL = "-- UP\n\n-- DOWN\n"
_PYTHON = '''"""{title}."""


def up(db):
    pass


def down(db):
    pass
'''


def scan(directory: str, *, adding: bool = False) -> list[MigrationFile]:
    """The migrations of a folder in the order of their versions; other files are left alone. For `adding` one to it,
    one that has only an archive within it is empty.

    Raises ConfigError when there is no such folder and for one of another tool, MigrationError for a file that
    cannot be read and for two files of one version.
    """
    try:
        present = os.listdir(directory)
    except OSError as error:
        raise ConfigError(
            f"no migrations folder at {directory}: {error.strerror}; "
            "make one with 'katax migrate create NAME' or set directory in [migrate]"
        ) from error
    names = {name for name in present if _FILE.fullmatch(name)}
    # The files of Alembic have names that a migration may have.
    refuse_folder(directory, [name for name in present if name not in names or name.endswith(".py")])
    if not names and not adding:
        refuse_nested(directory, present)
    refuse_lonely_down(names)
    paths = [os.path.join(directory, name) for name in sorted(names) if not name.endswith(DOWN_SUFFIX)]
    files = sorted(map(read, paths), key=lambda file: file.number)
    _refuse_duplicates(files)
    return files


def read(path: str) -> MigrationFile:
    """One migration. Raises MigrationError when it cannot be read."""
    name = os.path.basename(path)
    match = _FILE.fullmatch(name)
    if match is None:
        raise MigrationError(f"{name} is no migration; name it <version>_<name>.sql or .py")
    if (escaped := undecodable(name)) is not None:
        raise MigrationError(f"migration {escaped} has a name that is not UTF-8; rename the file")
    data = _bytes_of(path)
    sections: tuple[int, ...] = ()
    if name.endswith(UP_SUFFIX):
        down = path.removesuffix(UP_SUFFIX) + DOWN_SUFFIX
        reverting = _bytes_of(down).removeprefix(BOM) if os.path.exists(down) else None
        data, sections = paired(data.removeprefix(BOM), reverting)
    return MigrationFile(match[1], name, path, data, sha256(data).hexdigest(), sections)


def _bytes_of(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        name = os.path.basename(path)
        raise MigrationError(f"migration {name} cannot be read: {error.strerror}; check {path}") from error


def _refuse_duplicates(files: Sequence[MigrationFile]) -> None:
    for one, other in pairwise(files):
        if one.number == other.number:
            raise MigrationError(
                f"version {other.version} belongs to two migrations: {one.name} and {other.name}; "
                "give one of them another version"
            )


def find(files: Iterable[MigrationFile], wanted: str) -> MigrationFile:
    """The migration with this version, file name, or path. Raises ConfigError with the nearest name."""
    known = list(files)
    base = os.path.basename(wanted)
    for file in known:
        if base == file.name or (wanted.isdigit() and int(wanted) == file.number):
            return file
    raise ConfigError(unknown_name("migration", wanted, [file.name for file in known], "migrations"))


def new_path(directory: str, title: str, *, python: bool = False, now: float) -> str:
    """The path that `create` would write to."""
    slug = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
    if not slug:
        raise ConfigError(f"no letter or digit in the name {title!r}; use a-z, 0-9 and _")
    known = scan(directory, adding=True) if os.path.isdir(directory) else []
    version = next_version([file.version for file in known], now)
    pairs = bool(known) and known[-1].name.endswith(UP_SUFFIX)
    ending = ".py" if python else UP_SUFFIX if pairs else ".sql"
    return os.path.join(directory, f"{version}_{slug}{ending}")


def create(directory: str, title: str, *, python: bool = False, now: float) -> str:
    """Writes a new migration in the folder's style and returns its path; makes the folder when needed.

    `now` is seconds since the epoch. Raises ConfigError when no name is left of the title.
    """
    path = new_path(directory, title, python=python, now=now)
    os.makedirs(directory, exist_ok=True)
    if path.endswith(UP_SUFFIX):
        for made in (path, path.removesuffix(UP_SUFFIX) + DOWN_SUFFIX):
            write_new(made, "")
        return path
    write_new(path, _PYTHON.format(title=title.replace('"', "'")) if python else _SQL)
    return path


def next_version(versions: Sequence[str], now: float) -> str:
    """The next number where the folder counts, else the time as UTC digits, above all that are there."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d%H%M%S")
    if not versions:
        return stamp
    last = max(versions, key=int)
    if len(last) < _TIMESTAMP_DIGITS:
        return str(int(last) + 1).zfill(len(last))
    return stamp if int(stamp) > int(last) else str(int(last) + 1)
