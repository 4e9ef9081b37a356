"""The folder: names, versions, what cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from katax_cli.errors import ConfigError, MigrationError
from katax_cli.services.migrate.files import files
from tests.services.migrate.conftest import Write

NOON = 1_767_268_800.0
"""2026-01-01T12:00:00Z."""


def test_other_files_are_left_alone_and_versions_are_numbers(folder: Path, write: Write) -> None:
    for name in ("10_b.sql", "9_a.sql", "README.md", "x_1.sql", "11_c.py", "011.txt"):
        write(name)

    assert [file.name for file in files.scan(str(folder))] == ["9_a.sql", "10_b.sql", "11_c.py"]


def test_two_files_of_one_version_are_refused(folder: Path, write: Write) -> None:
    write("1_a.sql")
    write("001_b.sql")

    with pytest.raises(MigrationError) as error:
        files.scan(str(folder))

    assert "belongs to two migrations: " in str(error.value)
    assert "give one of them another version" in str(error.value)


def test_a_name_that_is_not_utf8_is_refused_in_one_line(folder: Path, write: Write) -> None:
    write(os.fsdecode(b"001_caf\xe9.sql"), "SELECT 1")

    with pytest.raises(MigrationError) as error:
        files.scan(str(folder))

    assert str(error.value) == r"migration 001_caf\xe9.sql has a name that is not UTF-8; rename the file"


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "001_a.sql").symlink_to(folder / "nowhere")

    with pytest.raises(MigrationError) as error:
        files.scan(str(folder))

    assert str(error.value).startswith(
        "migration 001_a.sql cannot be read: No such file or directory; check "
    )


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        files.scan(str(tmp_path / "none"))

    assert "no migrations folder at" in str(error.value)
    assert "katax migrate create NAME" in str(error.value)


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([], "20260101120000"),
        (["001"], "002"),
        (["009", "010"], "011"),
        (["999"], "1000"),
        (["20250101000000"], "20260101120000"),
        (["20260101120000"], "20260101120001"),
    ],
)
def test_the_next_version_continues_the_style(versions: list[str], expected: str) -> None:
    assert files.next_version(versions, NOON) == expected


def test_create_makes_the_folder_and_a_slug(tmp_path: Path) -> None:
    path = files.create(str(tmp_path / "new"), "Ünïcode & Más -- x", now=NOON)

    assert Path(path).name == "20260101120000_n_code_m_s_x.sql"


def test_a_version_or_a_name_finds_its_file_and_another_does_not(folder: Path, write: Write) -> None:
    write("001_users.sql")
    found = files.scan(str(folder))

    assert [files.find(found, word).version for word in ("1", "001", "001_users.sql", "x/001_users.sql")] == [
        "001"
    ] * 4
    with pytest.raises(ConfigError) as error:
        files.find(found, "001_user.sql")
    assert "did you mean '001_users.sql'?" in str(error.value)


def test_text_without_its_byte_order_mark_and_bytes_that_are_no_text(write: Write) -> None:
    assert files.read(str(write("001_a.sql", raw=b"\xef\xbb\xbf-- UP\n"))).text == "-- UP\n"
    with pytest.raises(MigrationError) as error:
        _ = files.read(str(write("002_b.sql", raw=b"-- UP\n\xff"))).text
    assert str(error.value) == "migration 002_b.sql is not UTF-8 at byte 6; save it as UTF-8"
