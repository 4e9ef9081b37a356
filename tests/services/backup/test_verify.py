"""A folder that is not, byte by byte, what was proven when it was made is refused with the reason."""

import os
import random
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.errors import BackupDamaged, DeadlineExceeded
from katax_cli.services.backup.manifest import MANIFEST, DumpFile, write_manifest
from katax_cli.services.backup.verify import validated
from katax_cli.services.backup.work import StoppableWork
from tests.servers import Server
from tests.servers.fixtures import MakeFresh
from tests.services.backup.server_of_backups import back_up, profile_for, run_sql
from tests.services.backup.test_manifest import WHOLE


def reasons(folder: Path) -> list[str]:
    with pytest.raises(BackupDamaged) as raised:
        validated(folder, StoppableWork("test"))
    return list(raised.value.reasons)


def test_every_damage_is_seen(fresh: MakeFresh, postgresql: Server, tmp_path: Path) -> None:
    profile_for(tmp_path, fresh(postgresql))
    run_sql("CREATE TABLE t (a text)", "INSERT INTO t SELECT md5(g::text) FROM generate_series(1, 9000) g")
    manifest = back_up()
    whole = tmp_path / "backups" / manifest.name
    assert validated(whole, StoppableWork("test")) == manifest

    copy = tmp_path / "copies" / manifest.name
    chance = random.Random(14)
    sizes = [file.size_bytes for file in manifest.files]
    for file in chance.choices(manifest.files, weights=sizes, k=20):
        shutil.copytree(whole, copy)
        _flip(copy / file.path, chance.randrange(file.size_bytes * 8))
        assert reasons(copy) == [f"{file.path} was changed: its digest does not fit"]
        shutil.rmtree(copy)

    largest = max(manifest.files, key=lambda file: file.size_bytes)
    shutil.copytree(whole, copy)
    with (copy / largest.path).open("r+b") as cut:
        cut.truncate(largest.size_bytes // 2)
    (copy / "dump" / "toc.dat").unlink()
    (copy / "dump" / "more").touch()
    assert reasons(copy) == [
        "dump/more is not in the manifest",
        *sorted(
            [
                f"{largest.path} has {largest.size_bytes // 2:,} of {largest.size_bytes:,} bytes",
                "dump/toc.dat is missing",
            ]
        ),
    ]


def test_what_another_backup_says_does_not_count(
    fresh: MakeFresh, postgresql: Server, tmp_path: Path
) -> None:
    profile_for(tmp_path, fresh(postgresql))
    first, second = back_up(), back_up()
    folder = tmp_path / "backups"
    shutil.copy(folder / first.name / MANIFEST, folder / second.name / MANIFEST)

    assert reasons(folder / second.name) == [
        f"manifest.json is of another backup, {first.name!r}; this folder is {second.name!r}"
    ]
    (tmp_path / "empty").mkdir()
    assert reasons(tmp_path / "empty") == ["the folder is empty"]


def test_a_link_out_of_the_folder_is_no_file_of_it(tmp_path: Path) -> None:
    profile_for(tmp_path, f"sqlite:///{tmp_path}/app.db")
    run_sql("CREATE TABLE t (a text)")
    manifest = back_up()
    file = tmp_path / "backups" / manifest.name / manifest.files[0].path
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")

    assert reasons(file.parent) == [f"{file.name} is no plain file"]
    file.unlink()
    (tmp_path / "elsewhere").rename(file)
    (file.parent / "more").symlink_to(tmp_path)
    assert reasons(file.parent) == ["more is not in the manifest"]
    (file.parent / "more").unlink()
    validated(file.parent, StoppableWork("test"))
    (file.parent / MANIFEST).rename(tmp_path / "elsewhere")
    (file.parent / MANIFEST).symlink_to(tmp_path / "elsewhere")
    assert reasons(file.parent) == [f"{MANIFEST} cannot be read: Too many levels of symbolic links"]
    (file.parent / MANIFEST).unlink()
    os.mkfifo(file.parent / MANIFEST)
    assert reasons(file.parent) == [f"{MANIFEST} is no JSON"]


def test_nor_is_a_file_in_a_linked_folder(tmp_path: Path) -> None:
    file = DumpFile("dump/toc.dat", 3, sha256(b"toc").hexdigest())
    folder = tmp_path / WHOLE.name
    folder.mkdir()
    write_manifest(folder, replace(WHOLE, files=(file,)))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "toc.dat").write_bytes(b"toc")
    (folder / "dump").symlink_to(tmp_path / "elsewhere")
    assert reasons(folder) == ["dump/toc.dat is no plain file"]

    (folder / "dump").unlink()
    (tmp_path / "elsewhere").rename(folder / "dump")
    validated(folder, StoppableWork("test"))


def test_it_ends_when_its_time_is_up(tmp_path: Path) -> None:
    profile_for(tmp_path, f"sqlite:///{tmp_path}/app.db")
    run_sql("CREATE TABLE t (a text)")
    folder = tmp_path / "backups" / back_up().name

    with pytest.raises(DeadlineExceeded):
        validated(folder, StoppableWork("backups", Deadline(0)))


def _flip(file: Path, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)
