"""The folder of seeds: reading it, and adding to it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from hashlib import sha256

from katax_cli.errors import ConfigError, SeedError, unknown_name
from katax_cli.services.seeds.values import SeedFile

KINDS = ("sql", "py", "json", "csv")
_FILE = re.compile(rf"[^._][^/]*\.({'|'.join(KINDS)})")
_STARTERS = {
    "sql": """-- Applied once, and again when this file changes, in one transaction.
-- Write rows so that a second run changes nothing, for example:
-- INSERT INTO users (id, email) VALUES (1, 'ada@example.com')
--   ON CONFLICT (id) DO UPDATE SET email = excluded.email;
""",
    "py": '''"""Applied once, and again when this file changes, in one transaction where the server has them."""


def seed(db):
    # db.random gives the same numbers at every run; db.upsert inserts a row or changes it.
    # db.upsert("users", [{"id": n, "score": db.random.randint(1, 9)} for n in range(1, 4)])
    pass
''',
    "json": '{{\n  "table": "{table}",\n  "key": ["id"],\n  "rows": []\n}}\n',
    "csv": "id\n",
}


def scan(directory: str) -> list[SeedFile]:
    """The seeds of a folder in the order of their names; other files, and those with `_` in front, are left alone.

    Raises ConfigError when there is no such folder, SeedError for a file that cannot be read.
    """
    try:
        names = sorted(name for name in os.listdir(directory) if _FILE.fullmatch(name))
    except OSError as error:
        raise ConfigError(
            f"no seeds folder at {directory}: {error.strerror}; "
            "make one with 'katax seed create NAME' or set directory in [seed]"
        ) from error
    paths = [os.path.join(directory, name) for name in names]
    return [_read(path) for path in paths if not os.path.isdir(path)]


def _read(path: str) -> SeedFile:
    name = os.path.basename(path)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise SeedError(f"seed {name} cannot be read: {error.strerror}; check {path}") from error
    return SeedFile(name, path, data, sha256(data).hexdigest())


def choose(files: Sequence[SeedFile], name: str | None, *, default: str | None = None) -> list[SeedFile]:
    """The seed called `name`; without a name the one called `default` if there is one, else all.

    Raises ConfigError when no file has the name, or when several have it with different endings.
    """
    if name is None:
        return _named(files, default) if default else list(files)
    matching = _matching(files, name)
    if not matching:
        raise ConfigError(unknown_name("seed", name, [file.name for file in files], "seeds"))
    return _only(matching, name)


def _named(files: Sequence[SeedFile], default: str) -> list[SeedFile]:
    return _only(_matching(files, default), default) or list(files)


def _matching(files: Sequence[SeedFile], name: str) -> list[SeedFile]:
    exact = [file for file in files if file.name == os.path.basename(name)]
    return exact or [file for file in files if file.stem == name]


def _only(matching: list[SeedFile], name: str) -> list[SeedFile]:
    if len(matching) > 1:
        names = ", ".join(file.name for file in matching)
        raise ConfigError(f"several seeds are called {name!r}: {names}; give the name with its ending")
    return matching


def new_path(directory: str, name: str) -> str:
    """The path that `create` would write to. Raises ConfigError for a name that is no file name, or is taken."""
    if os.path.basename(name) != name or not _FILE.fullmatch(name if "." in name else f"{name}.sql"):
        raise ConfigError(f"{name!r} is no name for a seed; write NAME or NAME.{'|'.join(KINDS)}")
    path = os.path.join(directory, name if "." in name else f"{name}.sql")
    if os.path.lexists(path):
        raise ConfigError(f"{path} exists; edit it or choose another name")
    return path


def create(directory: str, name: str) -> str:
    """Writes a commented starter and returns its path; makes the folder when needed.

    The ending of `name` says of what kind, `.sql` without one. Raises what `new_path` raises.
    """
    path = new_path(directory, name)
    seed = SeedFile(os.path.basename(path), "", b"", "")
    os.makedirs(directory, exist_ok=True)
    text = _STARTERS[seed.kind]
    with open(path, "x", encoding="utf-8") as file:
        file.write(text.format(table=seed.table) if seed.kind == "json" else text)
    return path
