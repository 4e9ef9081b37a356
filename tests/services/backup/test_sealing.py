"""Backups that are encrypted for public keys: the tool `age` reads them, and the wrong key does not."""

from __future__ import annotations

import errno
import io
import json
import sys
from pathlib import Path

import pyrage
import pytest
import zstandard

from katax_cli import Backup, Katax
from katax_cli.core.settings import Secret
from katax_cli.errors import BackupDamaged, ConfigError
from katax_cli.services.backup.manifest import read_manifest
from katax_cli.services.backup.sealing import Identities
from katax_cli.services.backup.work import StoppableWork
from tests.cli.harness import Done, katax, write_profile
from tests.servers import Server
from tests.servers.fixtures import MakeFresh
from tests.services.backup.server_of_backups import profile_for, run_sql

MINE, OTHER = (pyrage.x25519.Identity.generate() for _ in range(2))
SEALED = "dump.sqlite.zst.age"


def profile(folder: Path, *identity: str) -> None:
    said = f'recipients = ["{MINE.to_public()}", "{OTHER.to_public()}"]\n'
    said += f'identity = "{identity[0]}"\n' if identity else ""
    urls = {name: f"sqlite:///{folder}/{name}.db" for name in ("main", "scratch")}
    write_profile(folder, urls, extra=f"[backup]\n{said}")


def failed(code: int, *words: str) -> str:
    done: Done = katax(*words, "-f", "json")
    assert done.code == code, (done.out, done.err)
    return str(json.loads(done.err)["error"]["message"])


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an encrypted backup of two rows; where it was made nobody can decrypt it."""
    profile(tmp_path)
    run_sql("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1), (2)")
    made = katax("db", "backup", "-f", "json")
    assert made.code == 0, made.err
    (tmp_path / "mine.key").write_text(f"# created: today\n# public key: {MINE.to_public()}\n{MINE}\n")
    monkeypatch.setenv("OF_SOMEBODY", str(pyrage.x25519.Identity.generate()))
    return Path(made.json["path"])


def test_it_is_verified_restored_and_drilled_with_the_identity(sealed: Path, tmp_path: Path) -> None:
    manifest = read_manifest(sealed)
    assert sorted(path.name for path in sealed.iterdir()) == [SEALED, "manifest.json"]
    assert manifest.encryption is not None
    assert manifest.encryption.recipients == (str(MINE.to_public()), str(OTHER.to_public()))
    plain = pyrage.decrypt((sealed / SEALED).read_bytes(), [OTHER])
    assert zstandard.ZstdDecompressor().stream_reader(io.BytesIO(plain)).read().startswith(b"SQLite format 3")

    [row] = katax("db", "backups", "verify", "-f", "json").json
    assert (row["whole"], row["read"]) == (True, "stored bytes")
    for words in (
        ["restore", sealed.name, "--into", "copy.db", "-y"],
        ["backups", "drill", sealed.name, "--embedded"],
    ):
        message = failed(2, "db", *words)
        assert message.startswith(f"{sealed.name!r} is encrypted; set [backup] identity")

    profile(tmp_path, "file:mine.key")
    [row] = katax("db", "backups", "verify", "-f", "json").json
    assert (row["whole"], row["read"]) == (True, "all")
    done = katax("db", "restore", sealed.name, "--into", "copy.db", "-y", "-f", "json")
    assert (done.code, done.json["rows"]) == (0, 2)
    done = katax("db", "backups", "drill", sealed.name, "--on", "scratch", "--same-server", "-f", "json")
    assert (done.code, done.json["passed"]) == (0, True)
    assert read_manifest(sealed).is_drilled
    assert read_manifest(sealed).encryption == manifest.encryption
    assert str(MINE) not in done.out + done.err + (sealed / "manifest.json").read_text()


def test_a_key_that_does_not_fit_and_bytes_that_changed_are_refused(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile(tmp_path, "env:OF_SOMEBODY")
    for words in (["backups", "verify"], ["restore", sealed.name, "--into", "copy.db", "-y"]):
        message = failed(2, "db", *words)
        assert (
            message
            == f"{sealed.name!r} cannot be decrypted: the identity of [backup] is none of its recipients"
        )
    monkeypatch.setenv("OF_SOMEBODY", "a secret that is no key")
    message = failed(2, "db", "backups", "verify")
    assert message == "[backup] identity holds no private key of age; make one with age-keygen"

    profile(tmp_path, "file:mine.key")
    data = (sealed / SEALED).read_bytes()
    for changed in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1], b""):
        (sealed / SEALED).write_bytes(changed)
        done = katax("db", "backups", "verify", "-f", "json")
        assert (done.code, done.json[0]["whole"]) == (1, False)
        assert "is no whole backup" in failed(1, "db", "restore", sealed.name, "--into", "copy.db", "-y")
    assert not (tmp_path / "copy.db").exists()

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyrage", None)
        message = failed(2, "db", "backup")
    assert message == "encryption needs a package that is not installed; pip install 'katax[encryption]'"
    write_profile(
        tmp_path, {"main": f"sqlite:///{tmp_path}/main.db"}, extra='[backup]\nrecipients = ["age1nonsense"]\n'
    )
    assert "[backup] recipients has 'age1nonsense', which is no public key of age" in failed(
        2, "db", "backup"
    )


def test_a_folder_of_files_is_encrypted_file_by_file(
    fresh: MakeFresh, postgresql: Server, tmp_path: Path
) -> None:
    source = fresh(postgresql)
    profile_for(tmp_path, source)
    run_sql("CREATE TABLE t (n int)", "INSERT INTO t SELECT generate_series(1, 1000)")
    program = Katax("test")
    try:
        tools = str(postgresql.tools) if postgresql.tools else None
        key = str(MINE.to_public())
        makes = Backup(program.db("main"), tmp_path / "b", tools=tools, recipients=[key])
        reads = Backup(program.db("main"), tmp_path / "b", tools=tools, identity=str(MINE))
        made = makes.create()
        paths = [path for path in Path(made.path).rglob("*") if path.is_file()]
        assert {path.suffix for path in paths} == {".age", ".json"}
        assert makes.verify(Path(made.path).name) == reads.verify(Path(made.path).name) == made.manifest
        assert reads.drill(Path(made.path).name, on=program.db("main"), same_server=True).passed
        with pytest.raises(ConfigError, match="is encrypted"):
            makes.restore(Path(made.path).name, into="x")
        paths[0].write_bytes(b"")
        with pytest.raises(BackupDamaged):
            reads.verify(Path(made.path).name)
    finally:
        program.shutdown()


def test_a_full_disk_is_not_blamed_on_the_backup(sealed: Path) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    identities = Identities(Secret.of(str(MINE)))
    with (sealed / SEALED).open("rb") as source, pytest.raises(OSError, match="No space left on device"):
        identities.unseal(source, Full(), StoppableWork("main"), name=SEALED)
