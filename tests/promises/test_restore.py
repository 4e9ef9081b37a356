"""Promise 15: a restore touches nothing before its source was validated."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from katax_cli.services.backup.manifest import MANIFEST, Manifest, read_manifest
from katax_cli.services.backup.restore import run
from tests.cli.harness import Done, katax
from tests.servers import Server
from tests.servers.fixtures import MakeFresh
from tests.services.backup.restore.rich import content, fill
from tests.services.backup.server_of_backups import back_up, profile_for

Damage = Callable[[Path], None]


class Watched:
    """A server, the database that a backup is from, and what a restore would have touched."""

    def __init__(self, server: Server, name: str, manifest: Manifest, folder: Path) -> None:
        self.server, self.name, self.folder = server, name, folder
        self.path = folder / "backups" / manifest.name
        self._whole = folder / "whole"
        shutil.copytree(self.path, self._whole)
        self._before = self.seen()

    def seen(self) -> object:
        """Every database with its number, which no other one gets, and how much it wrote; what is in the source."""
        with psycopg.connect(self.server.url) as connection:
            made = connection.execute("SELECT oid, datname FROM pg_database ORDER BY oid").fetchall()
        return made, content(self.server, self.name)

    def damage(self, how: Damage) -> None:
        """Damages the backup, which was whole again before."""
        shutil.rmtree(self.path)
        shutil.copytree(self._whole, self.path)
        how(self.path)

    def restore(self) -> Done:
        return katax("db", "restore", str(self.path), "--into", self.name, "--swap", "-y")

    @property
    def untouched(self) -> bool:
        return self.seen() == self._before


@pytest.fixture
def watched(fresh: MakeFresh, postgresql: Server, tmp_path: Path) -> Iterator[Watched]:
    source = fresh(postgresql)
    fill(source)
    profile_for(tmp_path, source)
    name = source.url.rpartition("/")[2]
    yield Watched(postgresql, name, back_up(), tmp_path)
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        kept = f"SELECT datname FROM pg_database WHERE datname LIKE '{name}\\_katax\\_old\\_%'"
        for (old,) in connection.execute(kept.encode()).fetchall():
            connection.execute(f'DROP DATABASE "{old}" WITH (FORCE)'.encode())


def flipped(chance: random.Random) -> Damage:
    """One bit of one file, weighted by size."""

    def how(folder: Path) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
        [path] = chance.choices(files, [file.stat().st_size for file in files])
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)

    return how


def cut(chance: random.Random) -> Damage:
    def how(folder: Path) -> None:
        path = chance.choice([path for path in sorted(folder.glob("dump/*")) if path.stat().st_size])
        path.write_bytes(path.read_bytes()[: -chance.randint(1, path.stat().st_size)])

    return how


def half(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def test_a_damaged_backup_is_refused_before_anything_is_touched(watched: Watched) -> None:
    chance = random.Random(15)
    damages = [*(flipped(chance) for _ in range(20)), *(cut(chance) for _ in range(5)), half, emptied]

    for number, how in enumerate(damages):
        watched.damage(how)
        done = watched.restore()
        assert done.code in (1, 4), (number, done.err)
        assert watched.untouched, number


def test_bad_twin_that_trusts_the_manifest_touches_the_server(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the guard the damage is found when the restore has begun, or not at all."""
    made: list[str] = []
    guarded = run.discarding

    def noticing(destination: Any, tell: Any) -> Any:
        made.append(destination.target)
        return guarded(destination, tell)

    monkeypatch.setattr(run, "trusted", lambda folder, work: read_manifest(folder))
    monkeypatch.setattr(run, "discarding", noticing)
    data = next(path for path in sorted(watched.path.rglob("*.dat*")) if path.name[0].isdigit())
    data.write_bytes(data.read_bytes()[:-9])

    watched.restore()

    assert made == [watched.name]
