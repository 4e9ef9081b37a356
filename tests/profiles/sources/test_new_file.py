"""Files that a command makes are whole, or not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from katax_cli.errors import KataxError
from katax_cli.profiles.sources.new_file import write_new

_WRITING = "import sys; from katax_cli.profiles.sources.new_file import write_new; write_new(sys.argv[1], '-- UP\\n')"


def test_a_file_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "001_a.sql"

    write_new(str(path), "é\n")

    assert path.read_text(encoding="utf-8") == "é\n"
    with pytest.raises(KataxError, match=r"^cannot write .*001_a\.sql: File exists$"):
        write_new(str(path), "x")
    assert path.read_text(encoding="utf-8") == "é\n"


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    """Half a migration could be applied."""
    path = tmp_path / "001_a.sql"
    command = ["sh", "-c", 'ulimit -f 0; exec "$0" -B -c "$1" "$2"', sys.executable, _WRITING, str(path)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert f"KataxError: cannot write {path}: File too large; there is no such file now" in done.stderr
    assert not path.exists()
