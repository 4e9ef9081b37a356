"""Files of rows are compressed while they grow: whole, counted, and none that is cut or changed is believed."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread

import pytest

from katax_cli.errors import BackupError
from katax_cli.services.backup.dumps.growing_files import CompressedRows, GrowingFiles
from katax_cli.services.backup.streams import digested, opened
from katax_cli.services.backup.work import StoppableWork
from tests.waiting import until

END = b"\\.\n\n\n"
Damage = Callable[[Path], object]


def lines(first: int, count: int) -> bytes:
    return b"".join(b"%d\ttext\n" % number for number in range(first, first + count))


def has_written(growing: GrowingFiles, seen: int) -> bool:
    return growing.written_bytes > seen


def is_given_back(path: Path) -> bool:
    status = path.stat()
    return status.st_blocks * 512 < status.st_size


def test_files_are_compressed_while_they_grow_and_given_back(tmp_path: Path) -> None:
    """More files than threads, one of them written in parts; large objects and the table of contents come last."""
    whole = {f"{number}.dat": lines(0, number % 3) + END for number in range(100, 140)}
    whole["7.dat"] = b"".join(lines(number * 2**18, 2**18) for number in range(8)) + END
    for ending in (".gz", ".zst"):
        folder = tmp_path / ending
        folder.mkdir()
        with GrowingFiles(folder, ending, StoppableWork("main"), 2) as growing:
            with (folder / "7.dat").open("wb", buffering=0) as raw:
                for start in range(0, len(whole["7.dat"]), 2**22):
                    seen = growing.written_bytes
                    raw.write(whole["7.dat"][start : start + 2**22])
                    until(partial(has_written, growing, seen))
                for name in whole.keys() - {"7.dat"}:
                    (folder / name).write_bytes(whole[name])
                (folder / "blob_1.dat").write_bytes(b"no rows\n" + END)
                (folder / "toc.dat").write_bytes(b"toc")
            until(partial(is_given_back, folder / "7.dat"))
            done = {one.file.path: one for one in growing.finish()}
        assert sorted(os.listdir(folder)) == sorted([*done, "toc.dat"])
        assert done.pop(f"blob_1.dat{ending}").rows is None
        assert done.keys() == {name + ending for name in whole}
        for name, data in whole.items():
            one = done[name + ending]
            with opened(folder / one.file.path) as pieces:
                assert b"".join(pieces) == data, name
            assert one == CompressedRows(digested(folder, one.file.path), data.count(b"\n") - 3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(lines(0, 9)),
        lambda path: path.write_bytes(b""),
        lambda path: os.truncate(path, 40),
        lambda path: path.write_bytes(path.read_bytes() + b"10\n"),
        lambda path: path.unlink(),
    ],
)
def test_a_file_that_is_cut_or_changed_is_refused(tmp_path: Path, damage: Damage) -> None:
    """The bad twin of the one above: the tool ended, and its file is not the one that was read."""
    with GrowingFiles(tmp_path, ".gz", StoppableWork("main"), 1) as growing:
        (tmp_path / "1.new").write_bytes(lines(0, 9) + END)
        (tmp_path / "1.new").rename(tmp_path / "1.dat")
        until(lambda: growing.written_bytes)
        damage(tmp_path / "1.dat")
        with pytest.raises(BackupError, match=r"pg_dump wrote '1.dat' and"):
            growing.finish()


def test_an_error_of_a_thread_ends_the_tool(tmp_path: Path) -> None:
    (tmp_path / "1.dat.gz").write_bytes(b"in the way")
    (tmp_path / "1.dat").write_bytes(END)
    with GrowingFiles(tmp_path, ".gz", StoppableWork("main"), 1) as growing:

        def fails() -> bool:
            try:
                growing.check()
            except FileExistsError:
                return True
            return False

        until(fails)
    work = StoppableWork("main")
    (tmp_path / "more").mkdir()
    with GrowingFiles(tmp_path / "more", ".gz", work, 1) as growing:
        (tmp_path / "more" / "2.dat").write_bytes(lines(0, 3))
        stopper = Thread(target=work.stop)
        stopper.start()
        with pytest.raises(BackupError, match="the backup was stopped"):
            growing.finish()
        stopper.join()
