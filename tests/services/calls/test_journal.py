"""The journal of writes: whole lines from many writers, bounded, and never a reason to fail."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pytest

from katax_cli.core.settings import Secret
from katax_cli.errors import ConfigError
from katax_cli.services.calls import journal as journal_module
from katax_cli.services.calls.journal import Journal, JournalEntry

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def entry(
    statement: str = "update t set n = ?", *, at: datetime = NOON, connection: str = "main"
) -> JournalEntry:
    return JournalEntry(
        started_at=at.isoformat(),
        user="ada",
        host="shop-1",
        profile="prod",
        role="prod",
        connection=connection,
        command="db update",
        statement=statement,
        rows=3,
        duration_ms=1.5,
        outcome="done",
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


WRITER = """
import sys
from dataclasses import replace
from katax_cli.services.calls.journal import Journal
from tests.services.calls.test_journal import entry
journal = Journal(sys.argv[1], most_bytes=int(sys.argv[3]))
for number in range(300):
    assert journal.add(entry(f"{sys.argv[2]}:{number} " + "x" * (number * 13 % 2000))) is None
"""


@pytest.mark.parametrize("most_bytes", [1 << 30, 400_000])
def test_lines_of_many_processes_are_whole(file: Path, most_bytes: int) -> None:
    """Also while the journal is replaced under them: of what is still there each line is whole, and stands once."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, file, str(number), str(most_bytes)])
        for number in range(4)
    ]
    assert [writer.wait() for writer in writers] == [0] * 4

    entries, unreadable = Journal(str(file)).entries()
    names = [one.statement.split()[0] for one in entries]
    assert unreadable == 0
    assert len(set(names)) == len(names)
    # While one of them is about to replace it the others write on, for as long as that one stands still.
    files = {one.name for one in file.parent.iterdir()}
    if most_bytes == 1 << 30:
        assert (len(names), files) == (1200, {file.name})
    else:
        assert files == {file.name, f"{file.name}.1"}


def test_it_is_for_its_owner_alone_and_holds_no_secret(file: Path) -> None:
    Secret(lambda: "hunter2-in-a-comment").reveal()

    assert Journal(str(file)).add(entry('say "hunter2-in-a-comment"\n')) is None

    assert file.stat().st_mode & 0o777 == 0o600
    assert "hunter2" not in file.read_text()
    assert json.loads(file.read_text())["statement"] == 'say "***"\n'


def test_lines_that_are_no_entries_are_counted(file: Path) -> None:
    journal = Journal(str(file))
    for hour in range(4):
        journal.add(entry(str(hour), at=NOON.replace(hour=hour), connection="main" if hour % 2 else "other"))
    junk = [b"{", b"[]", b"\xff\x00", b"null", b'{"started_at": 1}', b"[" * 100_000, b"x" * 5_000_000]
    wrong = json.loads(file.read_text().splitlines()[0]) | {"statement": ["no", "text"]}
    with file.open("ab") as stream:
        stream.write(b"\n".join([*junk, json.dumps(wrong).encode()]))
    assert journal.add(entry("later", at=NOON)) is None, "behind a line that was cut off"

    entries, unreadable = journal.entries()
    some, _ = journal.entries(limit=2, connections=["main"])
    late, _ = journal.entries(since=NOON.replace(hour=2))

    assert [one.statement for one in entries] == ["later", "3", "2", "1", "0"]
    assert unreadable == len(junk) + 1
    assert [one.statement for one in some] == ["later", "3"]
    assert [one.statement for one in late] == ["later", "3", "2"]


def test_a_full_journal_makes_room(file: Path) -> None:
    journal = Journal(str(file), most_bytes=2000)
    for number in range(100):
        assert journal.add(entry(str(number))) is None

    entries, unreadable = journal.entries()

    assert file.stat().st_size + Path(f"{file}.1").stat().st_size < 5000
    assert (entries[0].statement, unreadable) == ("99", 0)
    numbers = [int(one.statement) for one in entries]
    assert numbers == list(range(99, 99 - len(numbers), -1)), "the latest, without a gap"


def test_a_journal_that_is_replaced_while_it_is_read_is_read_whole(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(*numbers: int) -> None:
        for number in numbers:
            assert Journal(str(file), most_bytes=2000).add(entry(str(number))) is None

    read, numbers = journal_module._read, iter(range(100))
    while not Path(f"{file}.1").exists() or file.stat().st_size < 2000:
        add(next(numbers))
    latest = next(numbers) - 1

    def meanwhile(stream: BinaryIO) -> Iterator[bytes]:
        monkeypatch.setattr(journal_module, "_read", read)
        add(latest + 1)
        return read(stream)

    monkeypatch.setattr(journal_module, "_read", meanwhile)
    entries, _ = Journal(str(file)).entries()
    seen = [int(one.statement) for one in entries]
    assert seen == list(range(latest, latest - len(seen), -1))


def _folder(file: Path) -> None:
    file.mkdir()


def _device(file: Path) -> None:
    file.symlink_to("/dev/full")


def _pipe(file: Path) -> None:
    os.mkfifo(file)


def _no_folder(file: Path) -> None:
    file.parent.rmdir()


@pytest.mark.parametrize("broken", [_folder, _device, _pipe, _no_folder])
def test_what_cannot_be_written_is_told_once(file: Path, broken: Callable[[Path], None]) -> None:
    broken(file)
    journal = Journal(str(file))

    told = [journal.add(entry()) for _ in range(3)]

    assert told[0] is not None
    assert told[0].startswith(f"the journal {file} cannot be written: ")
    assert told[1:] == [None, None]


def test_a_disk_that_fills_up_costs_one_line(file: Path) -> None:
    """The next writer begins a line of its own."""
    journal = Journal(str(file))
    journal.add(entry("first"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 50, limits[1]))
        assert "cannot be written" in (journal.add(entry("cut off")) or "")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    journal.add(entry("last"))

    entries, unreadable = journal.entries()

    assert ([one.statement for one in entries], unreadable) == (["last", "first"], 1)


def test_a_journal_that_cannot_be_read_is_an_error(file: Path) -> None:
    file.mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        Journal(str(file)).entries()
