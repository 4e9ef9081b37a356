"""Documents on one connection: streams in bounded memory, writes that nobody answered, and what ends on the server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from katax_cli.errors import OutcomeUnknown, QueryError, Refused, Unavailable
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import MakeFresh, MakeProxy
from tests.services.runtimes import QUICK, OpenRuntime
from tests.waiting import until

MEGABYTE = 1024 * 1024


def mongodb(runtime: Runtime, name: str = "main") -> MongoDatabase:
    return cast(MongoDatabase, runtime.database(name))


def test_many_and_large_documents_come_in_bounded_batches(
    open_runtime: OpenRuntime, mongodb_url: str
) -> None:
    database = mongodb(open_runtime(QUICK, main=mongodb_url))
    database.insert("small", [{"n": n} for n in range(2_500)])
    with database.find("small", sort=[("n", 1)]) as batches:
        found = [[document["n"] for document in batch] for batch in batches]
    assert [n for batch in found for n in batch] == list(range(2_500))
    assert max(map(len, found)) <= 1_000

    database.insert("large", [{"_id": n, "text": "x" * MEGABYTE} for n in range(30)])
    with database.find("large") as batches:
        sizes = [len(batch) for batch in batches]
    assert (sum(sizes), max(sizes) <= 9) == (30, True)


def test_leaving_early_ends_the_cursor_on_the_server(
    open_runtime: OpenRuntime, fresh: MakeFresh, proxy: MakeProxy
) -> None:
    target = fresh("mongodb")
    wire = proxy(target)
    sent = bytearray()
    wire.on_client_bytes(sent.extend)
    database = mongodb(open_runtime(QUICK, main=wire.url))
    database.insert("numbers", [{"n": n} for n in range(2_500)])
    with database.find("numbers") as batches:
        next(batches)
    assert b"killCursors" in sent
    with database.aggregate("numbers", [{"$match": {"n": {"$gte": 2_499}}}]) as batches:
        assert [document["n"] for batch in batches for document in batch] == [2_499]


WRITES: dict[str, Callable[[MongoDatabase], object]] = {
    "insert": lambda database: database.insert("written", [{"n": 7}]),
    "update": lambda database: database.update("written", {"n": 1}, {"$inc": {"done": 1}}),
    "delete": lambda database: database.delete("written", {"n": 1}, one=True),
    "command": lambda database: database.command({"insert": "written", "documents": [{"n": 7}]}),
}


def test_a_write_that_is_not_answered_is_unknown_and_made_once(
    open_runtime: OpenRuntime, fresh: MakeFresh, proxy: MakeProxy
) -> None:
    for name, write in WRITES.items():
        target = fresh("mongodb")
        wire = proxy(target)
        runtime = open_runtime(QUICK, main=wire.url, direct=target.url)
        mongodb(runtime, "direct").insert("written", [{"n": 1}])
        sent: list[bytes] = []
        wire.on_client_bytes(lambda chunk, sent=sent: sent.append(chunk) if b"written" in chunk else None)  # type: ignore[misc]
        wire.cut_after(b"written", forward=True)
        with pytest.raises(OutcomeUnknown):
            write(mongodb(runtime))
        assert len(sent) == 1, name
        runtime.close()


def test_a_read_that_is_not_answered_is_asked_again(
    open_runtime: OpenRuntime, fresh: MakeFresh, proxy: MakeProxy
) -> None:
    wire = proxy(fresh("mongodb"))
    database = mongodb(open_runtime(QUICK, main=wire.url))
    database.insert("numbers", [{"_id": 1}])
    reads: list[Callable[[], object]] = [
        lambda: database.count("numbers", {}),
        lambda: database.command({"count": "numbers"})["n"],
        lambda: database.table("numbers").first(),
    ]
    for read in reads:
        wire.cut_after(b"numbers", forward=True)
        assert read() in (1, {"_id": 1})


def test_a_stream_that_breaks_off_says_so(
    open_runtime: OpenRuntime, fresh: MakeFresh, proxy: MakeProxy
) -> None:
    """Not asked again: some documents were handed out."""
    wire = proxy(fresh("mongodb"))
    database = mongodb(open_runtime(QUICK, main=wire.url))
    database.insert("numbers", [{"_id": n} for n in range(2_500)])

    def read() -> None:
        with database.find("numbers") as batches:
            next(batches)
            wire.cut_after(b"getMore", forward=True)
            list(batches)

    with pytest.raises(Unavailable):
        read()


def test_a_write_command_that_was_refused_in_part_raises(open_runtime: OpenRuntime, mongodb_url: str) -> None:
    database = mongodb(open_runtime(QUICK, main=mongodb_url))
    spec = {"insert": "c", "documents": [{"_id": 1}, {"_id": 1}]}
    with pytest.raises(QueryError) as refused:
        database.command(spec)
    assert refused.value.code == "11000"


def test_what_runs_is_ended_on_the_server_by_its_session(
    open_runtime: OpenRuntime, fresh: MakeFresh, proxy: MakeProxy
) -> None:
    wire = proxy(fresh("mongodb"))
    database = mongodb(open_runtime(QUICK, main=wire.url))
    database.ping()
    held, may_go = threading.Event(), threading.Event()
    sent: dict[str, bytes] = {}

    def look(chunk: bytes) -> None:
        for word in ("slow", "killSessions"):
            if word.encode() in chunk:
                sent[word] = chunk
        if b"slow" in chunk:
            held.set()
            may_go.wait(60)

    wire.on_client_bytes(look)
    running = threading.Thread(target=lambda: _swallow(lambda: database.count("slow", {})))
    running.start()
    assert held.wait(60)
    database.cancel_running()
    may_go.set()
    running.join()
    until(lambda: "killSessions" in sent)
    at = sent["slow"].index(b"lsid")
    session = sent["slow"][at : at + 40]
    assert session[session.index(b"id\0") :][9:25] in sent["killSessions"]


def _swallow(call: Callable[[], object]) -> None:
    try:
        call()
    except (Unavailable, QueryError):
        return


def test_the_deadline_goes_to_the_server(
    open_runtime: OpenRuntime, fresh: MakeFresh, proxy: MakeProxy
) -> None:
    wire = proxy(fresh("mongodb"))
    database = mongodb(open_runtime(QUICK, main=wire.url))
    database.ping()
    sent: list[bytes] = []
    wire.on_client_bytes(lambda chunk: sent.append(chunk) if b"limited" in chunk else None)
    calls: list[Callable[[], Any]] = [
        lambda: database.table("limited").all(timeout=60),
        lambda: database.count("limited", {}, timeout=60),
        lambda: database.insert("limited", [{}], timeout=60),
        lambda: database.update("limited", {}, {"$set": {"a": 1}}, timeout=60),
        lambda: database.delete("limited", {}, timeout=60),
        lambda: database.command({"count": "limited"}, timeout=60),
    ]
    for call in calls:
        call()
    assert [b"maxTimeMS" in chunk for chunk in sent] == [True] * len(calls)


def test_what_no_pipeline_takes_is_counted_by_the_command(
    open_runtime: OpenRuntime, fresh: MakeFresh, proxy: MakeProxy
) -> None:
    wire = proxy(fresh("mongodb"))
    database = mongodb(open_runtime(QUICK, main=wire.url))
    database.ping()
    sent: list[bytes] = []
    wire.on_client_bytes(lambda chunk: sent.append(chunk) if b"counted" in chunk else None)
    database.count("counted", {"a": 1})
    _swallow(lambda: database.count("counted", {"$or": [{"a": {"$nearSphere": [0, 0]}}]}))
    assert [b"aggregate" in chunk for chunk in sent] == [True, False]


def test_a_read_only_connection_writes_nothing(open_runtime: OpenRuntime, mongodb_url: str) -> None:
    database = mongodb(open_runtime(QUICK, main={"url": mongodb_url, "read_only": True}))
    rows = database.table("c")
    calls: list[Callable[[], object]] = [
        lambda: database.insert("c", [{}]),
        lambda: database.update("c", {}, {"$set": {"a": 1}}),
        lambda: database.delete("c", {}),
        lambda: rows.create({"a": 1}),
        lambda: rows.update({"a": 1}, everywhere=True),
        lambda: rows.filter({"$where": "1"}).all(),
        lambda: rows.filter({"$expr": {"$function": {}}}).count(),
        lambda: database.aggregate("c", [{"$facet": {"a": [{"$OUT": "x"}]}}]).__enter__(),
    ]
    for call in calls:
        with pytest.raises(Refused):
            call()
    assert rows.all() == []


# --- what nx-27017 cannot do ---

SLOW = {"$where": "sleep(50) || true"}


@pytest.mark.needs_mongod
def test_an_update_that_the_deadline_ends_in_its_middle_is_unknown(
    open_runtime: OpenRuntime, mongodb_url: str
) -> None:
    database = mongodb(open_runtime(QUICK, main=mongodb_url))
    database.insert("numbers", [{"n": n} for n in range(200)])
    with pytest.raises(OutcomeUnknown):
        database.update("numbers", SLOW, {"$set": {"done": True}}, timeout=1.0)
    assert 0 < database.count("numbers", {"done": True}) < 200


@pytest.mark.needs_mongod
def test_a_question_that_is_cancelled_runs_no_longer_on_the_server(
    open_runtime: OpenRuntime, mongodb_url: str
) -> None:
    database = mongodb(open_runtime(QUICK, main=mongodb_url))
    database.insert("numbers", [{"n": n} for n in range(20_000)])
    running = threading.Thread(target=lambda: _swallow(database.table("numbers").filter(SLOW).all))
    running.start()
    watching = mongodb(open_runtime(QUICK, main=mongodb_url))

    def runs() -> bool:
        answer = watching.command({"currentOp": 1, "ns": {"$regex": "numbers$"}}, database="admin")
        return bool(answer["inprog"])

    until(runs)
    database.cancel_running()
    until(lambda: not runs())
    running.join()


@pytest.mark.needs_mongod
def test_a_document_that_a_rule_refuses(open_runtime: OpenRuntime, mongodb_url: str) -> None:
    database = mongodb(open_runtime(QUICK, main=mongodb_url))
    database.command({"create": "people", "validator": {"age": {"$type": "int"}}})
    for write in (
        lambda: database.insert("people", [{"age": 1}, {"age": "x"}]),
        lambda: database.update("people", {}, {"$set": {"age": "x"}}),
    ):
        with pytest.raises(QueryError) as refused:
            write()
        assert (refused.value.code, "\n" in str(refused.value)) == ("121", False)
    assert database.count("people", {}) == 1


@pytest.mark.needs_mongod
def test_a_pipeline_stores_its_documents(open_runtime: OpenRuntime, mongodb_url: str) -> None:
    database = mongodb(open_runtime(QUICK, main=mongodb_url))
    database.insert("people", [{"_id": 1}, {"_id": 2}])
    for stage in ({"$out": "copy"}, {"$merge": {"into": "merged"}}):
        with database.aggregate("people", [{"$match": {"_id": 2}}, stage]) as batches:
            assert [document for batch in batches for document in batch] == []
    assert database.table("copy").all() == database.table("merged").all() == [{"_id": 2}]
