"""Copies of collections: documents kept and counted, stops gone on from once that was allowed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from katax_cli.errors import ConfigError, KataxError, Refused
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.transfer.copy import CopiedTable, CopyPlan
from katax_cli.services.transfer.documents.copy import CollectionReport, DocumentCopy
from tests.servers.fixtures import MakeFresh
from tests.services.transfer.documents.connections import documents_in, open_documents
from tests.services.transfer.killing import ended
from tests.waiting import until


def copied(
    source_url: str, target: MongoDatabase, plan: CopyPlan
) -> tuple[list[CopiedTable], list[CollectionReport]]:
    reports: list[CollectionReport] = []

    def report(collections: Sequence[CollectionReport], left_out: Sequence[str]) -> bool:
        reports.extend(collections)
        return True

    with open_documents(source_url, read_only=True) as source:
        return DocumentCopy(source, target, plan).run(report), reports


def test_collections_are_copied_and_counted(fresh: MakeFresh) -> None:
    here, there = fresh("mongodb").url, fresh("mongodb").url
    people = [{"_id": number, "deep": {"a.b": [number, "x"]}, "😀": None} for number in range(300)]
    with open_documents(here) as source, open_documents(there) as target:
        source.insert("people", people)
        source.insert("katax_imports", [{"_id": 1}])
        source.get_client().get_default_database()["people"].create_index("deep")
        done, reports = copied(here, target, CopyPlan(checksums=True))

        assert documents_in(target, "people") == documents_in(source, "people") != []
        assert [(one.table, one.source_rows, one.target_rows, one.same) for one in done] == [
            ("people", 300, 300, True)
        ]
        assert (reports[0].is_there, reports[0].indexes) == (False, ("(deep: 1)",))
        assert done[0].source_checksum == done[0].target_checksum is not None

        source.insert("people", [{"_id": 5_000}])
        again, _ = copied(here, target, CopyPlan())
        assert [(one.source_rows, one.target_rows, one.same) for one in again] == [(301, 300, False)]
        target.insert("other", [{"_id": 1}])
        source.insert("other", [{"_id": 2}])
        with pytest.raises(Refused, match="'other' of 'main' holds documents already; empty it"):
            copied(here, target, CopyPlan(("other",)))
        with pytest.raises(KataxError, match="no collection named 'nothing'"):
            copied(here, target, CopyPlan(("nothing",)))


@pytest.mark.needs_mongod
def test_ids_of_all_types_are_gone_on_behind(fresh: MakeFresh) -> None:
    """Views and time series are left out; options and awkward orders come along."""
    here, there = fresh("mongodb").url, fresh("mongodb").url
    ids = [None, 1, 2.5, float("nan"), "a", "", {"a": 1}, b"x", True, False]
    with open_documents(here) as source, open_documents(there) as target:
        database = source.get_client().get_default_database()
        database.create_collection("t", collation={"locale": "de"}, validator={"x": {"$exists": True}})
        database.create_collection("seen", viewOn="t")
        source.insert("t", [{"_id": id, "x": 1} for id in ids])
        with pytest.raises(ConfigError, match="'seen' is a view; only collections are copied"):
            copied(here, target, CopyPlan(("seen",)))
        done, _ = copied(here, target, CopyPlan(checksums=True))
        assert [one.same for one in done] == [True]
        ledger = target.get_client().get_default_database()["katax_copies"]
        for document in documents_in(source, "t"):
            target.get_client().get_default_database()["t"].delete_many({"_id": {"$ne": document["_id"]}})
            ledger.update_many({}, {"$set": {"state": "running", "last": [document["_id"]]}})
            wanted = source.count("t", {}) - documents_in(source, "t").index(document)
            copied(here, target, CopyPlan(not_consistent=True))
            assert target.count("t", {}) >= wanted


PROGRAM = """
import signal, sys
from katax_cli.services.transfer.copy import CopyPlan
from katax_cli.services.transfer.documents import copy
from tests.services.transfer.documents.connections import open_documents
with open_documents(sys.argv[1], read_only=True) as source, open_documents(sys.argv[2]) as target:
    source.engine.batch_size = 20
    left = [int(sys.argv[3])]
    def tell(count):
        print(count, flush=True)
        left[0] -= 1
        if left[0] == 0:
            signal.pause()  # until it is killed
    copy.DocumentCopy(source, target, CopyPlan(not_consistent="on" in sys.argv), tell).run(lambda *_: True)
"""


def test_a_killed_copy_goes_on_once_that_is_allowed(fresh: MakeFresh) -> None:
    here, there = fresh("mongodb").url, fresh("mongodb").url
    with open_documents(here) as source:
        source.insert("t", [{"n": number} for number in range(200)])

    def copy_ended(*words: str, kill_after: int | None = None) -> int:
        return ended(PROGRAM, here, there, str(kill_after or 0), *words, kill_after=kill_after)

    chance = random.Random(5)
    copy_ended(kill_after=chance.randrange(2) + 1)
    with open_documents(there) as target, pytest.raises(Refused, match="go on with --not-consistent"):
        copied(here, target, CopyPlan())
    copy_ended("on", kill_after=chance.randrange(2) + 1)
    # A busy server may still write for the killed one, which refuses the next one's batch.
    until(lambda: copy_ended("on") == 0)
    with open_documents(there) as target:
        assert sorted(one["n"] for one in documents_in(target, "t")) == list(range(200))
