"""A folder has the name of a backup when it is whole, and never before."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from katax_cli.errors import BackupError
from katax_cli.services.backup.folder import (
    backup_folders,
    new_folder,
    partial_folders,
    publish,
    remove_leftovers,
)
from katax_cli.services.backup.manifest import write_manifest
from tests.services.backup.test_manifest import WHOLE

HOLDING = """
import signal, sys
from pathlib import Path
from katax_cli.services.backup.folder import new_folder
with new_folder(Path(sys.argv[1]), "killed") as folder:
    (folder / "dump").touch()
    print("held", flush=True)
    signal.pause()
"""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_folder_is_published_when_it_is_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path, "shard/1 ü") as folder:
        assert folder.name.startswith(".partial-shard_1_ü-")
        assert backup_folders(tmp_path) == []
        write_manifest(folder, WHOLE)
        final = publish(folder)

    assert backup_folders(tmp_path) == [final]
    assert final.name == folder.name.removeprefix(".partial-")


def test_what_only_its_owner_writes_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share may show files as somebody else's, whose mode is not ours to set."""

    def refuse(path: object, mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("katax_cli.services.backup.manifest.os.chmod", refuse)
    with new_folder(tmp_path, "main") as folder:
        write_manifest(folder, WHOLE)
        assert publish(folder).is_dir()


def test_nothing_is_left_when_it_is_not(tmp_path: Path) -> None:
    def fail(error: BaseException) -> None:
        with new_folder(tmp_path, "main") as folder:
            (folder / "dump").mkdir()
            (folder / "dump" / "x").touch()
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(error())
    with (
        pytest.raises(BackupError, match="cannot write the backup: No space left"),
        new_folder(tmp_path, "main"),
    ):
        raise OSError(28, "No space left on device")

    assert names(tmp_path) == []
    with pytest.raises(BackupError, match="cannot write to"), new_folder(Path("/proc/x"), "main"):
        pass


def test_leftovers_of_the_dead_are_removed_and_the_work_of_the_living_is_not(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with child.stdout, new_folder(tmp_path, "mine") as folder:
        assert remove_leftovers(tmp_path) == []
        assert [is_held for _, is_held in partial_folders(tmp_path)] == [True, True]

        child.kill()
        child.wait()

        assert [(path.name[9:13], held) for path, held in partial_folders(tmp_path)] == [
            ("kill", False),
            ("mine", True),
        ]
        with new_folder(tmp_path, "next") as another:
            assert names(tmp_path) == sorted([folder.name, another.name])


def test_a_place_that_takes_no_folder_is_told() -> None:
    with (
        pytest.raises(BackupError, match="cannot write to '/proc': No such file"),
        new_folder(Path("/proc"), "main"),
    ):
        pass
