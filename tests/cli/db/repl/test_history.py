"""The history of a connection: without secrets, for its owner alone, bounded."""

import os
import stat
from pathlib import Path

import pytest

from katax_cli.cli.db.repl.history import history_file, holds_secret
from katax_cli.core.settings import Secret
from katax_cli.profiles.load import load_profile
from tests.cli.harness import write_profile


def test_what_names_a_secret_is_not_kept() -> None:
    Secret.of("hush-hush-word").reveal()
    secrets = [
        "create user ada password 'x'",
        "alter role ada with PASSWORD 'x'",
        "create user ada identified by 'x'",
        "auth x",
        "config set requirepass x",
        "acl setuser ada on >x",
        'db.runCommand({"createUser": "ada", "pwd": "x"})',
        "update keys set api_key = 'x'",
        "select 'postgresql://ada:x@db/shop'",
        "select 'hush-hush-word'",
    ]

    assert [text for text in secrets if not holds_secret(text)] == []
    assert not holds_secret("select name from authors where city = 'Paris'")


def test_each_connection_has_a_file_of_its_own(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///a.db", '"../etc"': "sqlite:///b.db"})
    profile = load_profile(None)
    before = os.umask(0)
    try:
        files = [Path(history_file(profile, one)) for one in profile.connections.values()]
    finally:
        os.umask(before)

    assert len({file.parent for file in files} | {Path(profile.home, "history")}) == 1
    assert len(set(files)) == 2
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 2


def test_a_long_history_loses_its_older_half(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///a.db"})
    profile = load_profile(None)
    file = Path(history_file(profile, profile.connection("main")))
    file.write_text("".join(f"\n# then\n+select {number};\n" for number in range(60_000)))
    size = file.stat().st_size

    history_file(profile, profile.connection("main"))

    assert size / 3 < file.stat().st_size < 0.6 * size
    assert file.read_text().startswith("\n# then\n+select ")
    assert file.read_text().endswith("+select 59999;\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///a.db"})
    profile = load_profile(None)
    file = Path(history_file(profile, profile.connection("main")))
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError):
        history_file(profile, profile.connection("main"))
    assert not (tmp_path / "elsewhere").exists()
