"""Backups at an S3 server: there and back, and no name for what is not whole."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event, Semaphore
from typing import Any, cast
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error  # type: ignore[import-untyped]

from katax_cli import Backup, Katax
from katax_cli.core.resilience.retry import ONCE, RetryPolicy
from katax_cli.errors import (
    BackupDamaged,
    BackupError,
    ConfigError,
    KataxError,
    OutcomeUnknown,
    StoreRefused,
    Unavailable,
)
from katax_cli.services.backup.manifest import MANIFEST, RestoreDrill
from katax_cli.services.backup.store import objects as objects_module
from katax_cli.services.backup.store.base import BackupStore
from katax_cli.services.backup.store.objects import ObjectStore, StoredObject
from katax_cli.services.backup.store.place import open_store
from katax_cli.services.backup.store.remote import RemoteStore
from katax_cli.services.backup.store.run_marker import MARKER, RunMarker, is_dead
from katax_cli.services.backup.work import StoppableWork
from tests.cli.harness import Done, katax, write_profile
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, MakeProxy
from tests.servers.fleet import Fleet
from tests.servers.object_store import BUCKET, ObjectServer
from tests.servers.ssh import ssh_server
from tests.services.backup.server_of_backups import profile_for, run_sql
from tests.waiting import SECONDS

DUMP = "dump.sqlite.zst"
DRILL = RestoreDrill("2026-11-22T00:00:00+00:00", "s", "s", passed=True, restore_seconds=1.0)
HOLDING = """
import signal, sys
from katax_cli.services.backup.store.place import open_store
from katax_cli.services.backup.store.remote import RemoteStore
from katax_cli.services.backup.store.run_marker import MARKER, RunMarker, is_dead
from katax_cli.services.backup.work import StoppableWork
store = open_store(sys.argv[1], work=StoppableWork("main"))
with store.new_folder("main") as folder:
    (folder / "dump").write_bytes(b"half")
    name = folder.name.removeprefix(".partial-")
    store._objects.upload(f"{name}/dump", 4, lambda: [b"half"])
    print("held", flush=True)
    signal.pause()
"""


@pytest.fixture
def prefix(bucket: ObjectServer, tmp_path: Path) -> str:
    """A prefix with a blank and more than ASCII, to which the profile's backups of a SQLite file go."""
    prefix = f"nightly ü/{uuid4().hex}"
    urls = {name: f"sqlite:///{tmp_path}/{name}.db" for name in ("main", "scratch")}
    write_profile(tmp_path, urls, extra=f'[backup]\ndirectory = "{bucket.url(prefix)}"\n')
    run_sql("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1), (2)")
    return prefix


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, in which nothing may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.glob("katax-spool-*")) == []


def done(*words: str) -> Done:
    made = katax(*words)
    assert made.code == 0, made.err
    return made


def failed(code: int, *words: str) -> str:
    """The message of a command that must end so."""
    made = katax(*words, "-f", "json")
    assert made.code == code, (made.out, made.err)
    return str(json.loads(made.err)["error"]["message"])


def back_up() -> str:
    """The name of a new backup."""
    return str(done("db", "backup", "-f", "json").json["path"].rpartition("/")[2])


def states(store: BackupStore) -> dict[str, str]:
    return {entry.name: entry.state for entry in store.entries()}


@pytest.fixture
def store(bucket: ObjectServer, prefix: str) -> BackupStore:
    """The profile's store."""
    return open_store(bucket.url(prefix), work=StoppableWork("main"))


def test_a_backup_goes_there_and_comes_back(bucket: ObjectServer, prefix: str, tmp_path: Path) -> None:
    bucket.put(f"{prefix}/of-another-tool/manifest.json", b"{}")
    first = back_up()
    assert bucket.keys(prefix) == [
        f"{first}/{DUMP}",
        f"{first}/manifest.json",
        "of-another-tool/manifest.json",
    ]
    assert not (tmp_path / "backups").exists()
    [verified] = done("db", "backups", "verify", "-f", "json").json
    assert (verified["backup"], verified["whole"], verified["read"]) == (first, True, "all")

    run_sql("DELETE FROM t WHERE n > 0")
    done("db", "restore", f"{bucket.url(prefix)}/{first}", "--into", "main.db", "--swap", "-y")
    assert done("db", "query", "SELECT n FROM t", "-f", "json").json == [{"n": 1}, {"n": 2}]
    kept = [path.name for path in tmp_path.glob("main.db_katax_old_*")]
    assert len(kept) == 1

    done("db", "backups", "drill", "--latest", "--on", "scratch", "--same-server")
    second = back_up()
    done("db", "backups", "drill", second, "--embedded")
    done("db", "backups", "prune", "--keep-last", "1", "-y")

    [listed] = done("db", "backups", "list", "-f", "json").json
    assert (listed["backup"], listed["state"], listed["rows"]) == (second, "complete", 2)
    assert list(tmp_path.glob("main.db_katax_old_*")) == [], "the database whose place was taken is dropped"
    assert bucket.keys(prefix) == [
        f"{second}/{DUMP}", f"{second}/manifest.json", "of-another-tool/manifest.json"
    ]  # fmt: skip


def test_a_program_does_the_same_with_a_folder_of_files(
    bucket: ObjectServer, fresh: MakeFresh, postgresql: Server, tmp_path: Path
) -> None:
    source = fresh(postgresql)
    profile_for(tmp_path, source)
    run_sql("CREATE TABLE t (n int)", "INSERT INTO t SELECT generate_series(1, 1000)")
    program = Katax("test")
    try:
        tools = str(postgresql.tools) if postgresql.tools else None
        backups = Backup(program.db("main"), bucket.url(uuid4().hex), tools=tools)
        made = backups.create()
        name = str(made.path).rpartition("/")[2]
        assert [(entry.name, entry.state) for entry in backups.list()] == [(name, "complete")]
        assert backups.verify(name) == made.manifest
        assert backups.drill(name, on=program.db("main"), same_server=True).passed
        assert backups.verify(name).is_drilled
    finally:
        program.shutdown()


def test_what_is_damaged_is_refused_with_its_reason(
    bucket: ObjectServer, prefix: str, store: BackupStore
) -> None:
    name, other = back_up(), back_up()
    key, manifest = f"{prefix}/{name}/{DUMP}", f"{prefix}/{name}/manifest.json"
    dump, text = bucket.get(key), bucket.get(manifest)
    flipped = bytes((dump[0], dump[1] ^ 1, *dump[2:]))
    harms: list[tuple[Callable[[], None], str, str]] = [
        (lambda: bucket.put(key, flipped), "complete", "was changed: its digest does not fit"),
        (lambda: bucket.put(key, dump[:-1]), "damaged", f"{DUMP} has {len(dump) - 1} of {len(dump)} bytes"),
        (lambda: bucket.delete(key), "damaged", f"{DUMP} is missing"),
        (lambda: bucket.put(manifest, text[:-9]), "damaged", "manifest.json is no JSON"),
        (
            lambda: bucket.put(manifest, bucket.get(f"{prefix}/{other}/manifest.json")),
            "damaged",
            f"manifest.json is of another backup, '{other}'",
        ),
        (lambda: bucket.delete(manifest), "damaged", "it has no manifest.json"),
    ]
    for harm, state, reason in harms:
        harm()
        assert states(store) == {name: state, other: "complete"}, reason
        store.find(other).verified()
        with pytest.raises(BackupDamaged) as refused:
            store.find(name).verified()
        assert reason in str(refused.value)
        with pytest.raises(BackupDamaged) as refused, store.find(name).fetched():
            pass
        assert reason in str(refused.value)
        bucket.put(key, dump)
        bucket.put(manifest, text)
    bucket.put(f"{prefix}/{name}/more", b"")
    verified = katax("db", "backups", "verify", name, "-f", "json")
    assert (verified.code, verified.json[0]["reasons"]) == (1, ["more is not in the manifest"])


def test_what_the_dead_left_is_removed_and_the_work_of_the_living_is_not(
    bucket: ObjectServer, prefix: str, store: BackupStore, spool: Path
) -> None:
    name = back_up()
    environment = {"TMPDIR": str(spool), "PATH": "", **bucket.environment}
    words = [sys.executable, "-c", HOLDING, bucket.url(prefix)]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"held\n"
        assert sorted(states(store).values()) == ["being made", "complete"]
        living = bucket.keys(prefix)
        back_up()
        assert set(living) < set(bucket.keys(prefix))

        # Parts that were sent of an object that was not finished.
        [half] = [key for key in living if key.endswith("/dump")]
        bucket.client.create_multipart_upload(Bucket=BUCKET, Key=f"{prefix}/{half}")
        child.kill()
        child.wait()
        assert sorted(states(store).values()) == ["complete", "complete", "leftover"]
        assert name in store.names()
        assert len(store.names()) == 2

    back_up()

    assert sorted(states(store).values()) == ["complete"] * 3
    assert {key.partition("/")[2] for key in bucket.keys(prefix)} == {DUMP, "manifest.json"}
    listed = bucket.client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    assert listed.get("Uploads", []) == []


def test_what_cannot_be_used_is_named_and_no_secret_is(
    bucket: ObjectServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = back_up()
    known = [bucket.environment[key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    said = [
        failed(2, "db", "backup", "--out", "s3://no-such-bucket-here/x"),
        failed(2, "db", "backups", "list", "--out", "s3://AKIAXYZ:p4ssw0rd@bucket/x"),
        failed(2, "db", "backup", "--out", "ftp://host/x"),
        failed(2, "db", "backup", "--out", "s3://"),
    ]
    for message, part in zip(
        said,
        (
            "there is no 's3://no-such-bucket-here/x'",
            "holds a key or a password",
            "ftp:// is no place",
            "no URL",
        ),
        strict=True,
    ):
        assert part in message
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "n0t-the-key")
    said += [failed(2, "db", "backup"), failed(2, "db", "restore", name, "--into", "x.db", "-y")]
    assert all("refused the access" in message for message in said[-2:])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    said += [failed(3, "db", "backup")]
    monkeypatch.setitem(sys.modules, "fsspec", None)
    said += [failed(2, "db", "backup")]
    assert said[-1] == "s3:// needs packages that are not installed; pip install 'katax[remote]'"
    assert not [one for one in said for secret in (*known, "p4ssw0rd", "n0t-the-key") if secret in one]
    assert not [
        secret
        for secret in known
        for key in bucket.keys(prefix)
        if secret in str(bucket.get(f"{prefix}/{key}"))
    ]


def test_a_spool_without_room_and_objects_in_many_parts(
    bucket: ObjectServer, prefix: str, spool: Path
) -> None:
    objects = ObjectStore(bucket.url(prefix), work=StoppableWork("main"), retry=RetryPolicy())
    pieces = [bytes([number]) * 2**20 for number in range(33)]
    objects.upload("large", 33 * 2**20, lambda: pieces)
    assert objects.listing() == {"large": StoredObject("large", 33 * 2**20)}
    assert b"".join(objects.pieces(objects.listing()["large"])) == b"".join(pieces)

    def stopped() -> Iterator[bytes]:
        yield from pieces
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        objects.upload("half", 33 * 2**20, stopped)
    objects.remove("large")
    assert bucket.keys(prefix) == []
    assert bucket.client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", []) == []
    shutil.rmtree(spool)
    spool.write_bytes(b"")
    assert "cannot write to" in failed(1, "db", "backup")
    assert bucket.keys(prefix) == []
    spool.unlink()
    spool.mkdir()


def test_a_store_that_is_full_is_no_wrong_configuration(bucket: ObjectServer, prefix: str) -> None:
    """One that a proxy cannot reach is to be tried again; a region that is wrong is to be corrected."""
    store = ObjectStore(bucket.url(prefix), work=StoppableWork("main"), retry=RetryPolicy())
    answers: list[tuple[int, str, type[KataxError]]] = [
        (507, "XMinioStorageFull", BackupError),
        (403, "QuotaExceeded", BackupError),
        (504, "GatewayTimeout", Unavailable),
        (429, "TooManyRequests", Unavailable),
        (400, "AuthorizationHeaderMalformed", ConfigError),
    ]
    for status, code, expected in answers:
        response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        error = translate_boto_error(ClientError(response, "PutObject"))
        assert type(store._meaning(error, missing_is_config=True)) is expected, code


def test_a_store_that_takes_a_request_and_says_nothing_is_not_available(
    bucket: ObjectServer, prefix: str, deaf_port: int, proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library waits without a limit for leave to send. The bad twin: a store that lives, slower than the limit."""
    monkeypatch.setattr(objects_module, "_ASK_AFTER", 0.0)
    monkeypatch.setattr(objects_module, "_LOOK_EVERY", 0.01)
    living, asked = proxy(bucket.environment["AWS_ENDPOINT_URL"]), Semaphore(0)
    living.on_client_bytes(lambda sent: asked.release() if sent.startswith(b"HEAD ") else None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{living.host}:{living.port}")

    def slow() -> Iterator[bytes]:
        for _ in range(2):  # the second question comes after the first was answered
            assert asked.acquire(timeout=SECONDS)
        yield b"xx"

    ObjectStore(bucket.url(prefix), work=StoppableWork("main"), retry=ONCE).upload("small", 2, slow)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf_port}")
    monkeypatch.setitem(objects_module._S3["config_kwargs"], "read_timeout", 0.5)
    silent = ObjectStore(bucket.url(prefix), work=StoppableWork("main"), retry=ONCE)
    with pytest.raises(Unavailable, match="Read timeout"):
        silent.put("small", b"xx")
    assert bucket.keys(prefix) == ["small"]


def test_a_listing_that_is_behind_costs_no_backup_its_name(
    bucket: ObjectServer, prefix: str, store: BackupStore
) -> None:
    """The bad twin: an object that is gone by its name, too, as after a prune beside the drill."""
    name, files = back_up(), cast("RemoteStore", store)._objects._files

    def hide(parsed: dict[str, Any], **_: object) -> None:
        parsed["Contents"] = [one for one in parsed.get("Contents", ()) if not one["Key"].endswith(DUMP)]

    backup = store.find(name)
    files.connect()
    files._s3.meta.events.register("after-call.s3.ListObjectsV2", hide)
    assert backup.stamp(DRILL).is_drilled
    bucket.delete(f"{prefix}/{name}/{DUMP}")
    with pytest.raises(BackupError, match=f"lost objects while it was written: {DUMP} is missing"):
        backup.stamp(DRILL)


def test_what_fails_after_the_manifest_was_sent_is_unknown(
    bucket: ObjectServer, prefix: str, store: BackupStore
) -> None:
    """It may be there, and is: neither "not available" nor "refused" would be true of it."""
    backup, files = store.find(back_up()), cast("RemoteStore", store)._objects._files
    files.connect()
    sent = Event()
    files._s3.meta.events.register("after-call.s3.PutObject", lambda **_: sent.set())
    for operation, error in (
        ("GetObject", PermissionError("expired")), ("ListObjectsV2", FileNotFoundError("behind")),
    ):  # fmt: skip
        sent.clear()

        def fail(error: Exception = error, **_: object) -> None:
            if sent.is_set():
                raise error

        files._s3.meta.events.register(f"before-call.s3.{operation}", fail)
        with pytest.raises(OutcomeUnknown, match="got its manifest, or did not"):
            backup.stamp(DRILL)
        files._s3.meta.events.unregister(f"before-call.s3.{operation}", fail)
    assert len(backup.manifest().drills) == 2


def test_a_manifest_that_the_store_refuses_is_refused(
    bucket: ObjectServer, prefix: str, store: BackupStore
) -> None:
    """Unknown only where an attempt before it was not answered: that one may have been taken."""
    name, remote = back_up(), cast("RemoteStore", store)
    files = remote._objects._files
    files.connect()
    answers: list[Exception] = []

    def answer(params: dict[str, Any], **_: object) -> None:
        if params["url_path"].endswith(MANIFEST) and answers:
            raise answers.pop(0)

    files._s3.meta.events.register("before-call.s3.PutObject", answer)
    for said, error in (
        ([PermissionError("denied")], StoreRefused),
        ([FileNotFoundError("no bucket")], ConfigError),
        ([ConnectionError("cut"), PermissionError("expired")], OutcomeUnknown),
        ([OSError("full"), OSError("full")], OutcomeUnknown),
    ):
        answers[:] = said
        with pytest.raises(error):
            store.find(name).stamp(DRILL)
        assert answers == []
    answers.append(ConnectionError("cut"))
    assert store.find(name).stamp(DRILL).is_drilled

    manifest = replace(store.find(name).manifest(), files=())
    answers.append(PermissionError("denied"))
    with pytest.raises(StoreRefused), store.new_folder("main") as partial:
        store.publish(partial, replace(manifest, name=partial.name.removeprefix(".partial-")))
    assert states(store) == {name: "complete"}, "what is known to have no manifest is removed at once"


def test_a_mark_is_of_the_dead_when_it_is_a_day_old_by_the_clock_of_the_store(
    bucket: ObjectServer, prefix: str
) -> None:
    """A process of another machine cannot be asked, and its clock may be wrong."""
    objects = ObjectStore(bucket.url(prefix), work=StoppableWork("main"), retry=RetryPolicy())
    for mark in (b'{"boot": "another", "namespace": "x", "pid": 1, "started": "2"}', b"[]", b"no JSON"):
        objects.put(f"main/{MARKER}", mark)
        put_at = objects.modified(f"main/{MARKER}")
        assert not is_dead(objects, "main", put_at + timedelta(hours=23))
        assert is_dead(objects, "main", put_at + timedelta(hours=25))
    RunMarker(objects, "main").put()
    assert not is_dead(objects, "main", put_at), "this very process works on it"
    assert not is_dead(objects, "another", put_at), "what has no mark is not ours"


def test_an_sftp_server_is_used_only_when_its_key_is_known(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, home = tmp_path / "keys", tmp_path / "home"
    keys.mkdir()
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    folder = fleet.room.folder("sshd")
    with ssh_server(folder, keys) as server:
        user, port = (
            re.search(rf"{key} (\S+)", (keys / "config").read_text())[1]  # type: ignore[index]
            for key in ("User", "Port")
        )
        url = f"sftp://{user}@127.0.0.1:{port}{folder}/a b"
        write_profile(
            tmp_path, {"main": f"sqlite:///{tmp_path}/main.db"}, extra=f'[backup]\ndirectory = "{url}"\n'
        )
        run_sql("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1), (2)")
        assert "is not in ~/.ssh/known_hosts" in failed(2, "db", "backup")
        shutil.copy(keys / "known", home / ".ssh" / "known_hosts")
        assert "No authentication methods available" in failed(2, "db", "backup")
        shutil.copy(keys / "user", home / ".ssh" / "id_ed25519")
        first = back_up()
        done("db", "backups", "drill", first, "--embedded")
        second = back_up()
        done("db", "backups", "drill", second, "--embedded")
        done("db", "backups", "prune", "--keep-last", "1", "-y")
        assert [path.name for path in (folder / "a b").iterdir()] == [second]
        assert done("db", "backups", "verify", "-f", "json").json[0]["whole"] is True
        server.server.kill()
        assert "Unable to connect" in failed(3, "db", "backup")


def test_the_commands_of_the_docs_run(bucket: ObjectServer, prefix: str) -> None:
    text = (Path(__file__).parents[4] / "docs" / "backup.md").read_text(encoding="utf-8")
    section = text.partition("## Elsewhere")[2].partition("```console\n")[2].partition("```")[0]
    lines, name = section.splitlines(), ""
    assert len(lines) == 6
    for line in lines:
        line = re.sub(r"main-\d{8}T\d{6}Z-[0-9a-f]{6}", name, line)
        words = shlex.split(line.replace(f"s3://{BUCKET}/nightly", bucket.url(uuid_of(prefix))))
        done(*words[1:])
        if name == "":
            [name] = {key.partition("/")[0] for key in bucket.keys(uuid_of(prefix))}


def uuid_of(prefix: str) -> str:
    return prefix.rpartition("/")[2]
