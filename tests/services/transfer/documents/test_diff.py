"""Differences between two databases of documents."""

from __future__ import annotations

from typing import Any

import pytest

from katax_cli.errors import KataxError
from katax_cli.services.transfer.diff import DiffPlan
from katax_cli.services.transfer.documents import diff
from katax_cli.services.transfer.documents.diff import document_differences
from tests.servers.fixtures import MakeFresh
from tests.services.transfer.documents.connections import open_documents


def test_collections_indexes_counts_and_documents(fresh: MakeFresh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "_RANGE", 3)
    with open_documents(fresh("mongodb").url) as here, open_documents(fresh("mongodb").url) as there:

        def found(plan: DiffPlan) -> list[tuple[Any, ...]]:
            return [tuple(one) for one in document_differences(here, there, plan)]

        documents = [{"_id": number, "n": number, "x": "same"} for number in range(10)]
        here.insert("t", documents)
        there.insert("t", documents)
        here.insert("only", [{"_id": 1}])
        assert found(DiffPlan(rows=True)) == [("table", "only", None, "there", None)]
        assert found(DiffPlan(("t",), rows=True)) == []

        here.delete("t", {"_id": {"$in": [2, 9]}})
        there.update("t", {"_id": 4}, {"$set": {"n": 4.5, "more": "yes"}})
        there.insert("t", [{"_id": number} for number in range(20, 28)])
        there.get_client().get_default_database()["t"].create_index("n", unique=True)
        gone = [{"_id": {"$numberInt": str(n)}, "n": {"$numberInt": str(n)}, "x": "same"} for n in (2, 9)]
        assert found(DiffPlan(("t",), rows=True)) == [
            ("index", "t", "(n: 1)", None, '{"unique": true}'),
            ("rows", "t", None, 8, 18),
            ("row", "t", "2", None, gone[0]),
            ("row", "t", "4", {"n": {"$numberInt": "4"}}, {"n": {"$numberDouble": "4.5"}, "more": "yes"}),
            ("row", "t", "9", None, gone[1]),
            *(("row", "t", str(n), None, {"_id": {"$numberInt": str(n)}}) for n in range(20, 28)),
        ]
        assert found(DiffPlan(("t",)))[1:] == [("rows", "t", None, 8, 18)]
        with pytest.raises(KataxError, match="no collection named 'nothing'"):
            found(DiffPlan(("nothing",)))


def test_migrations_are_compared(fresh: MakeFresh) -> None:
    with open_documents(fresh("mongodb").url) as here, open_documents(fresh("mongodb").url) as there:
        row = {"version": "1", "state": "applied", "checksum": "abcdef0123456789"}
        here.insert("katax_migrations", [{"_id": 1, **row}, {"_id": 2, **row, "version": "2"}])
        there.insert("katax_migrations", [{"_id": 1, **row}])
        assert [tuple(one) for one in document_differences(here, there, DiffPlan())] == [
            ("migration", "katax_migrations", "2", "applied abcdef012345", None)
        ]
