"""A manifest comes back as it was written, or is refused with its reason."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from katax_cli.errors import BackupDamaged
from katax_cli.services.backup.manifest import (
    DumpFile,
    Manifest,
    Omission,
    RestoreDrill,
    _digest,
    read_manifest,
    write_manifest,
)

NAME = "main-20261121T180305Z-9f3c2a"
WHOLE = Manifest(
    name=NAME,
    engine="postgresql",
    server_version="16.4",
    server_id="postgresql:7301",
    database="app",
    connection="main",
    tool="pg_dump 16.4",
    katax_version="1",
    started_at="2026-11-21T18:03:05+00:00",
    finished_at="2026-11-21T18:03:06+00:00",
    consistency="one moment",
    files=(DumpFile("dump/toc.dat", 3, "0" * 64), DumpFile("dump/1.dat.zst", 5, "1" * 64)),
    rows={"public.users": 3, "tänze.\u2028": 0},
    objects={"large objects": 1},
    schema_hash="2" * 64,
    left_out=(Omission("table x", "no SELECT"),),
    not_held=(Omission("roles", "of the whole server"),),
    drills=(
        RestoreDrill(
            "2026-11-21T19:00:00+00:00",
            "scratch",
            "postgresql:1",
            passed=False,
            restore_seconds=1.5,
            problems=("rows",),
        ),
    ),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / NAME
    folder.mkdir()
    write_manifest(folder, WHOLE)
    return folder


def reasons(folder: Path) -> str:
    with pytest.raises(BackupDamaged) as raised:
        read_manifest(folder)
    return "; ".join(raised.value.reasons)


def written(folder: Path, **changes: Any) -> Path:
    """With other values, whose digest is right."""
    values = {"format": 1, **asdict(WHOLE), **changes}
    (folder / "manifest.json").write_text(json.dumps({**values, "digest": _digest(values)}))
    return folder


def test_a_manifest_is_read_as_it_was_written(folder: Path) -> None:
    assert read_manifest(folder) == WHOLE
    assert (WHOLE.size_bytes, WHOLE.is_drilled) == (8, False)
    assert [file.name for file in folder.iterdir()] == ["manifest.json"]

    drill = replace(WHOLE.drills[0], passed=True, problems=())
    write_manifest(folder, WHOLE.with_drill(drill))

    assert read_manifest(folder).drills == (WHOLE.drills[0], drill)
    assert read_manifest(folder).is_drilled


def test_a_manifest_in_which_any_bit_flipped_is_refused(folder: Path) -> None:
    file = folder / "manifest.json"
    whole = file.read_bytes()
    chance = random.Random(19)

    for _ in range(200):
        place = chance.randrange(len(whole) * 8)
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        if json.loads(whole) == _values(bytes(flipped)):
            continue  # a blank between values: it says the same
        assert reasons(folder).startswith("manifest.json "), (place, flipped)

    for length in range(0, len(whole) - 2, 7):
        file.write_bytes(whole[:length])
        assert reasons(folder) == "manifest.json is no JSON", length


def _values(text: bytes) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def test_what_is_no_backup_is_refused_with_the_reason(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "dump.sql.zst").touch()
    other = tmp_path / "main-20261122T000000Z-000000"
    other.mkdir()
    (other / "manifest.json").write_bytes((folder / "manifest.json").read_bytes())

    assert reasons(tmp_path / "nowhere") == "there is no such folder"
    assert reasons(tmp_path / "empty") == "the folder is empty"
    assert reasons(tmp_path / "without") == "it has no manifest.json"
    assert reasons(other) == f"manifest.json is of another backup, {NAME!r}; this folder is {other.name!r}"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "has the format 2, expected 1; use the katax that made it"),
        ({"engine": "oracle"}, "is misshaped: no engine named 'oracle'"),
        ({"files": []}, "is misshaped: its files are not named once each"),
        ({"files": [["dump.sql.zst"]]}, "is misshaped: "),
        ({"files": [{"path": "../x", "size_bytes": 1, "sha256": "0" * 64}]}, "is misshaped: path '../x'"),
        ({"files": [{"path": "/etc/passwd", "size_bytes": 1, "sha256": "0" * 64}]}, "is misshaped: path"),
        ({"files": [{"path": "x", "size_bytes": 1, "sha256": "0"}]}, "is misshaped: digest or size of 'x'"),
        (
            {"files": [{"path": "x", "size_bytes": 10**4000, "sha256": "0" * 64}]},
            "is misshaped: digest or size of 'x'",
        ),
        ({"rows": {"t": "3"}}, "is misshaped: a count is no whole number"),
        ({"rows": {"t": 10**4290, "u": 10**4290 * 9}}, "is misshaped: a count is no whole number"),
        ({"rows": None}, "is misshaped: "),
        ({"server_id": 7}, "is misshaped: 7 is no text"),
        ({"left_out": [{"what": "x", "why": 1}]}, "is misshaped: 1 is no text"),
        (
            {"surprise": 1},
            "is misshaped: 'surprise' is no key that this katax knows; use the one that made it",
        ),
        ({"engine": "mysql"}, "is misshaped: it has 2 files, and one of mysql has one"),
        ({"started_at": "yesterday"}, "is misshaped: Invalid isoformat string: 'yesterday'"),
        (
            {"started_at": "0001-01-01T00:00:00+23:59"},
            "is misshaped: '0001-01-01T00:00:00+23:59' is no moment",
        ),
        ({"started_at": "2026-11-22T00:00:00"}, "is misshaped: '2026-11-22T00:00:00' is no moment"),
        ({"connection": "\ud800"}, "is misshaped: 'utf-8' codec can't encode"),
    ],
)
def test_a_misshaped_manifest_is_refused(folder: Path, changes: dict[str, Any], reason: str) -> None:
    assert reasons(written(folder, **changes)).startswith(f"manifest.json {reason}")
