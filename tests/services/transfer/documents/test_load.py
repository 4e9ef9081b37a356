"""Imports of documents: each once, whatever happens; what is refused has a line and a reason."""

from __future__ import annotations

import csv
import random
from contextlib import suppress
from pathlib import Path

import pytest

from katax_cli.errors import ConfigError, KataxError, LockHeld, OutcomeUnknown, Refused, Unavailable
from katax_cli.services.transfer.documents import checkpoint, load
from katax_cli.services.transfer.documents.collections import Collections
from katax_cli.services.transfer.documents.load import DocumentImport
from katax_cli.services.transfer.import_run import ImportPlan
from tests.servers.fixtures import Throwaway
from tests.services.transfer.documents.connections import documents_in, imported, open_documents, source
from tests.services.transfer.killing import ended
from tests.waiting import until


def test_documents_replace_those_with_their_id_and_the_last_line_counts(mongodb_url: str) -> None:
    with open_documents(mongodb_url) as database:
        database.insert("people", [{"_id": 1, "old": True}, {"_id": 9, "stays": True}])
        first = '{"_id": 1, "n": 1}\n\n{"_id": "a", "😀.x": {"$y": 2}}\n'.encode()
        data = first + b'{"_id": 1, "n": 3}\n{"n": 4}\n{"n": 4}\n'
        done = imported(database, data, ImportPlan("people"))
        found = documents_in(database, "people")
        assert (done.imported, done.rejected, len(found)) == (5, 0, 5)
        assert {"_id": 1, "n": 3} in found
        assert {"_id": "a", "😀.x": {"$y": 2}} in found
        assert {"_id": 9, "stays": True} in found

        assert imported(database, data, ImportPlan("people")).finished_at is not None
        # What has no _id comes once more: the same file again is another set of such documents.
        imported(database, data, ImportPlan("people", again=True))
        assert len(documents_in(database, "people")) == 7
        imported(database, data, ImportPlan("people", replace=True))
        assert len(documents_in(database, "people")) == 4


def test_a_key_changes_the_documents_that_have_it(mongodb_url: str) -> None:
    with open_documents(mongodb_url) as database:
        with pytest.raises(ConfigError, match="mail is no unique key of 'people'; make a unique index on it"):
            imported(database, b"{}\n", ImportPlan("people", key=("mail",)))
        people = database.get_client().get_default_database()["people"]
        people.create_index([("mail", 1)], unique=True)
        database.insert("people", [{"_id": 5, "mail": "a@x", "old": 1}])
        data = b'{"mail": "a@x", "n": 1}\n{"mail": "b@x", "n": 2}\n{"n": 3}\n{"mail": ["c"], "n": 4}\n'
        with pytest.raises(
            KataxError, match="rows, line 3: is no document: has no single mail, its key; some of the"
        ):
            imported(database, data, ImportPlan("people", key=("mail",)))
        done = imported(database, data, ImportPlan("people", key=("mail",), max_errors=2))

        assert (done.imported, done.rejected) == (2, 2)
        found = documents_in(database, "people")
        assert {"_id": 5, "mail": "a@x", "n": 1} in found
        assert [one["n"] for one in found if one["mail"] == "b@x"] == [2]
        assert len(found) == 2


def test_bad_lines_are_told_with_line_and_reason(mongodb_url: str, tmp_path: Path) -> None:
    large = b'{"_id": 12, "text": "' + b"x" * (16 * 2**20) + b'"}'
    lines = [
        b'{"_id": 1}',
        b'{"_id": 2',
        b"[]",
        b'{"_id": 4, "a": 1, "a": 2}',
        b'{"_id": {"$oid": "123"}}',
        b'{"_id": 6, "n": {"$numberInt": "99999999999"}}',
        b'{"_id": 7, "n": {"$numberLong": "1_0"}}',
        b'{"_id": 8, "n": NaN}',
        b'{"_id": 9, "b": {"$binary": {"base64": "A*==", "subType": "00"}}}',
        b'{"_id": 10, "t": "\xff"}',
        b'{"_id": 11} {"_id": 11}',
        large,
        b"[" * 100_000,
        b'{"_id": 14}',
    ]
    rejects = str(tmp_path / "rejects.csv")
    with open_documents(mongodb_url) as database:
        done = imported(database, b"\n".join(lines), ImportPlan("t", max_errors=20, rejects=rejects))
        assert [one["_id"] for one in documents_in(database, "t")] == [1, 14]
    assert (done.imported, done.rejected) == (2, 12)
    csv.field_size_limit(2**26)
    with open(rejects, newline="", encoding="utf-8") as file:
        told = {int(line): reason for line, reason, _ in list(csv.reader(file))[1:]}
    assert sorted(told) == list(range(2, 14))
    assert told[4] == "is no document: has the field 'a' twice"
    assert told[6] == "is no document: $numberInt is '99999999999', which does not fit"
    assert told[7] == "is no document: $numberLong is '1_0', expected digits in a string"
    assert "bytes, 16777216 is the most" in told[12]
    assert all("\n" not in reason for reason in told.values())


def test_another_file_is_kept_out_of_a_half_filled_collection(
    mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_READ", 40)
    good = b"".join(b'{"_id": %d}\n' % number for number in range(10))
    with open_documents(mongodb_url) as database:
        with pytest.raises(
            KataxError, match=r"line 11: is no document: .*; the lines up to \d+ are in, and some"
        ):
            imported(database, good + b"x\n", ImportPlan("t"))
        with pytest.raises(Refused, match="another file went into 't' up to its line"):
            imported(database, good, ImportPlan("t"))
        done = imported(database, good + b"x\n", ImportPlan("t", max_errors=1))
        assert (done.imported, done.rejected, done.earlier > 2) == (10, 1, True)
        assert [one["_id"] for one in documents_in(database, "t")] == list(range(10))


def test_of_two_runs_of_one_import_the_second_is_refused(
    mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --again too; the first beats on, as long as it lives."""
    monkeypatch.setattr(load, "_READ", 40)
    monkeypatch.setattr(checkpoint, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(checkpoint, "_PATIENCE", 60.0)
    data = b"".join(b'{"n": %d}\n' % number for number in range(40))
    refused: list[str] = []
    with open_documents(mongodb_url) as database, open_documents(mongodb_url) as other:

        def meanwhile(count: int) -> None:
            for again in (False, True) if not refused else ():
                with pytest.raises(LockHeld) as error:
                    imported(other, data, ImportPlan("t", again=again))
                refused.append(str(error.value))

        DocumentImport(database, source(data), ImportPlan("t"), progress=meanwhile).run()
        assert sorted(one["n"] for one in documents_in(database, "t")) == list(range(40))
        assert len(refused) == 2
        assert "import into t" in refused[0]


def test_a_run_that_stands_still_is_taken_over_and_ends_with_its_next_batch(
    mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_READ", 40)
    monkeypatch.setattr(checkpoint, "BEAT_SECONDS", 3600.0)
    monkeypatch.setattr(checkpoint, "_PATIENCE", 0.0)
    data = b"".join(b'{"n": %d}\n' % number for number in range(40))
    taken: list[int] = []
    with open_documents(mongodb_url) as database, open_documents(mongodb_url) as other:

        def meanwhile(count: int) -> None:
            if not taken:
                taken.append(0)
                taken[0] = imported(other, data, ImportPlan("t")).imported

        with pytest.raises(LockHeld):
            DocumentImport(database, source(data), ImportPlan("t"), progress=meanwhile).run()
        assert taken == [40]
        assert sorted(one["n"] for one in documents_in(database, "t")) == list(range(40))


def test_a_run_that_ends_before_it_has_read_its_checkpoint_leaves_it(
    mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_READ", 40)
    data = b"".join(b'{"n": %d}\n' % number for number in range(40))
    with open_documents(mongodb_url) as database:

        def stop(count: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            DocumentImport(database, source(data), ImportPlan("t"), progress=stop).run()
        again = source(data)
        checkpoints = checkpoint.DocumentCheckpoints(Collections(database), digest=again.digest, target="t")
        with pytest.raises(KeyboardInterrupt), checkpoints.leased():
            raise KeyboardInterrupt
        imported(database, data, ImportPlan("t"))
        assert sorted(one["n"] for one in documents_in(database, "t")) == list(range(40))
        # One that was never begun is not left behind.
        fresh = checkpoint.DocumentCheckpoints(Collections(database), digest="other", target="t")
        with fresh.leased():
            assert len(documents_in(database, "katax_imports")) == 2
        assert len(documents_in(database, "katax_imports")) == 1


def test_another_file_waits_for_an_import_that_lives(
    mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_READ", 40)
    monkeypatch.setattr(checkpoint, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(checkpoint, "_PATIENCE", 60.0)
    data = b"".join(b'{"n": %d}\n' % number for number in range(40))
    told: list[str] = []
    with open_documents(mongodb_url) as database, open_documents(mongodb_url) as other:

        def meanwhile(count: int) -> None:
            if not told:
                with pytest.raises(LockHeld) as error:
                    imported(other, b'{"other": 1}\n', ImportPlan("t", again=True))
                told.append(str(error.value))

        DocumentImport(database, source(data), ImportPlan("t"), progress=meanwhile).run()
        assert "an import of another file, by the process" in told[0]
        imported(other, b'{"other": 1}\n', ImportPlan("t"))
        assert len(documents_in(database, "t")) == 41


PROGRAM = """
import sys
from katax_cli.services.transfer.documents import load
from katax_cli.services.transfer.formats.files import FileKind
from katax_cli.services.transfer.formats.sources import RowFile
from katax_cli.services.transfer.import_run import ImportPlan
from tests.services.transfer.documents.connections import open_documents
load._READ = 300
with open_documents(sys.argv[1]) as database, open(sys.argv[2], "rb") as file:
    source = RowFile("rows", file, FileKind("jsonl", None))
    tell = lambda count: print(count, flush=True)
    load.DocumentImport(database, source, ImportPlan("t"), tell).run()
"""


def test_a_killed_import_goes_on_where_it_stood(mongodb_url: str, tmp_path: Path) -> None:
    """Also of documents without an `_id`, which come once since theirs is made of their line."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"n": {number}}}\n' for number in range(300)))
    chance = random.Random(7)
    for _ in range(2):
        ended(PROGRAM, mongodb_url, str(file), kill_after=chance.randrange(4) + 1)
    # A busy server may still write for the killed one, which looks alive by that.
    until(lambda: ended(PROGRAM, mongodb_url, str(file)) == 0)
    with open_documents(mongodb_url) as database:
        assert sorted(one["n"] for one in documents_in(database, "t")) == list(range(300))


def test_a_frozen_server_ends_an_import_which_then_goes_on(
    throwaway: Throwaway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver asks it whether it lives, on a connection of its own; only the import uses the other ones."""
    monkeypatch.setattr(load, "_READ", 300)
    monkeypatch.setattr(checkpoint, "BEAT_SECONDS", 3600.0)
    server = throwaway("mongodb")
    data = b"".join(b'{"n": %d}\n' % number for number in range(300))
    frozen: list[int] = []

    def freeze(count: int) -> None:
        if not frozen:
            frozen.append(count)
            server.stop_signal()

    with (
        open_documents(server.url, connect_timeout=5.0) as database,
        pytest.raises((Unavailable, OutcomeUnknown), match="no answer, nor to the driver's question"),
    ):
        DocumentImport(database, source(data), ImportPlan("t"), freeze).run()
    server.resume()
    with open_documents(server.url) as database:

        def goes_on() -> bool:
            """What the server had received when it froze may count as a sign of the first run."""
            with suppress(LockHeld):
                imported(database, data, ImportPlan("t"))
                return True
            return False

        until(goes_on)
        assert sorted(one["n"] for one in documents_in(database, "t")) == list(range(300))
