"""`Backup(db)` in a program."""

from pathlib import Path

import pytest

from katax_cli import Backup, BackupDamaged, Katax
from katax_cli.errors import ConfigError
from tests.services.backup.server_of_backups import profile_for, run_sql


def test_a_program_backs_up_verifies_drills_and_restores(tmp_path: Path) -> None:
    profile_for(tmp_path, f"sqlite:///{tmp_path}/app.db", scratch=f"sqlite:///{tmp_path}/scratch.db")
    run_sql("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1), (2)")
    katax = Katax("test")
    try:
        backups = Backup(katax.db("main"), tmp_path / "kept")

        made = backups.create()
        path = Path(made.path)
        assert path.parent == tmp_path / "kept"
        assert backups.verify(path.name) == made.manifest
        assert [(entry.state, entry.path) for entry in backups.list()] == [("complete", path)]

        drill = backups.drill(path.name, on=katax.db("scratch"), same_server=True, smoke=["select 1 from t"])
        assert (drill.passed, drill.problems) == (True, ())
        assert backups.verify(path.name).is_drilled

        restored = backups.restore(path.name, into="other.db")
        assert restored.rows == 2

        (path / made.manifest.files[0].path).write_bytes(b"")
        with pytest.raises(BackupDamaged, match=r"has 0 of"):
            backups.verify(path.name)
        with pytest.raises(ConfigError, match="no backup 'nothing'"):
            backups.verify("nothing")
    finally:
        katax.shutdown()
