"""The folder of seeds: reading it, and adding to it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from hashlib import sha256

from katax_cli.core.text.text import undecodable
from katax_cli.errors import ConfigError, SeedError, unknown_name
from katax_cli.profiles.sources.new_file import write_new
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
    """The seeds of a folder in the order of their names. Raises what `listed` and `read` raise."""
    return [read(directory, name) for name in listed(directory)]


def listed(directory: str) -> list[str]:
    """The names of the seeds of a folder in order; other files, and those with `_` in front, are left alone.

    Raises ConfigError when there is no such folder.
    """
    try:
        names = sorted(name for name in os.listdir(directory) if _FILE.fullmatch(name))
    except OSError as error:
        raise ConfigError(
            f"no seeds folder at {directory}: {error.strerror}; "
            "make one with 'katax seed create NAME' or set directory in [seed]"
        ) from error
    return [name for name in names if not os.path.isdir(os.path.join(directory, name))]


def read(directory: str, name: str) -> SeedFile:
    """One seed. Raises SeedError when it cannot be read."""
    path = os.path.join(directory, name)
    if (escaped := undecodable(name)) is not None:
        raise SeedError(f"seed {escaped} has a name that is not UTF-8; rename the file")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise SeedError(f"seed {name} cannot be read: {error.strerror}; check {path}") from error
    return SeedFile(name, path, data, sha256(data).hexdigest())


def choose(names: Sequence[str], wanted: str | None, *, default: str | None = None) -> list[str]:
    """The seed called `wanted`; without a name the one called `default` if there is one, else all.

    Raises ConfigError when no file has the name, or when several have it with different endings.
    """
    if wanted is None:
        return (_only(_matching(names, default), default) if default else []) or list(names)
    matching = _matching(names, wanted)
    if not matching:
        raise ConfigError(unknown_name("seed", wanted, list(names), "seeds"))
    return _only(matching, wanted)


def _matching(names: Sequence[str], wanted: str) -> list[str]:
    exact = [name for name in names if name == os.path.basename(wanted)]
    return exact or [name for name in names if name.rpartition(".")[0] == wanted]


def _only(matching: list[str], wanted: str) -> list[str]:
    if len(matching) > 1:
        raise ConfigError(
            f"several seeds are called {wanted!r}: {', '.join(matching)}; give the name with its ending"
        )
    return matching


def new_path(directory: str, name: str) -> str:
    """The path that `create` would write to. Raises ConfigError for a name that is no file name, or is taken."""
    if os.path.basename(name) != name or not _FILE.fullmatch(name if "." in name else f"{name}.sql"):
        raise ConfigError(f"{name!r} is no name for a seed; write NAME or NAME.{'|'.join(KINDS)}")
    if (escaped := undecodable(name)) is not None:
        raise ConfigError(f"{escaped} is not UTF-8; write another name for a seed")
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
    write_new(path, text.format(table=seed.table) if seed.kind == "json" else text)
    return path
