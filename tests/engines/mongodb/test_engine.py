"""The MongoDB engine against the server that is there, a mongod or nx-27017, and wires that break."""

import datetime
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pymongo
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Regex, Timestamp

from katax_cli.core.resilience.failure import FailureKind
from katax_cli.core.settings import ConnectionSettings, PoolSettings, Secret, TlsSettings
from katax_cli.engines import registry
from katax_cli.engines.base import Index, Introspects, ReportsServer, TableColumn
from katax_cli.engines.documents import DocumentEngine, DocumentQuery
from katax_cli.engines.mongodb import MongoEngine, catalog, connect, create
from katax_cli.errors import PoolTimeout, Refused
from tests.engines.connections import settings_for
from tests.servers import Server
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.fixtures import MakeProxy, Throwaway
from tests.waiting import at_last, until

Open = Callable[[ConnectionSettings], tuple[MongoEngine, Any]]
settings_of = partial(settings_for, name="docs")


@pytest.fixture
def open_client(connect: Callable[[MongoEngine], Any]) -> Open:
    def open_one(settings: ConnectionSettings) -> tuple[MongoEngine, Any]:
        engine = create(settings)
        return engine, connect(engine)

    return open_one


def failure_of(engine: MongoEngine, call: Callable[[], object]) -> tuple[FailureKind, str]:
    with pytest.raises(Exception) as error:
        call()
    failure = engine.classify(error.value)
    return failure.kind, failure.message


def fill(engine: MongoEngine, client: Any, collection: str, documents: list[dict[str, Any]]) -> None:
    answer = engine.command(client, {"insert": collection, "documents": documents}, 60.0)
    assert answer["n"] == len(documents)


def test_the_registry_gives_an_engine_with_these_abilities(mongodb_url: str) -> None:
    engine = registry.load(settings_of(mongodb_url))
    assert engine.name == "mongodb"
    assert isinstance(engine, DocumentEngine)
    assert isinstance(engine, Introspects)
    assert isinstance(engine, ReportsServer)


def test_commands_run_in_the_profiles_database(open_client: Open, mongodb_url: str) -> None:
    engine, client = open_client(settings_of(mongodb_url))
    fill(engine, client, "users", [{"_id": 1, "name": "ann"}])
    assert client[urlsplit(mongodb_url).path[1:]].users.find_one() == {"_id": 1, "name": "ann"}
    assert engine.command(client, {"count": "users"}, 60.0)["n"] == 1
    assert engine.command(client, {"count": "users"}, 60.0, database="elsewhere")["n"] == 0


def test_documents_come_in_batches(open_client: Open, mongodb_url: str) -> None:
    engine, client = open_client(settings_of(mongodb_url))
    fill(engine, client, "numbers", [{"_id": n, "n": n, "even": n % 2 == 0} for n in range(25)])
    engine.batch_size = 10
    found = list(engine.find(client, "numbers", DocumentQuery(sort=[("n", 1)]), timeout=60.0))
    assert [len(batch) for batch in found] == [10, 10, 5]
    assert [each["_id"] for batch in found for each in batch] == list(range(25))
    even = engine.find(
        client, "numbers", DocumentQuery({"even": True}, {"_id": 1}, sort=[("n", -1)], skip=1, limit=2)
    )
    assert list(even) == [[{"_id": 22}, {"_id": 20}]]
    assert list(engine.find(client, "nothing", timeout=60.0)) == []


def test_aggregates_come_in_batches(open_client: Open, mongodb_url: str) -> None:
    engine, client = open_client(settings_of(mongodb_url))
    fill(engine, client, "numbers", [{"_id": n} for n in range(7)])
    pipeline: list[dict[str, Any]] = [{"$match": {"_id": {"$gte": 2}}}, {"$sort": {"_id": 1}}]
    engine.batch_size = 3
    found = list(engine.aggregate(client, "numbers", pipeline, timeout=60.0))
    assert [[each["_id"] for each in batch] for batch in found] == [[2, 3, 4], [5, 6]]


def test_the_consumers_own_time_does_not_hold_a_limit(open_client: Open, mongodb_url: str) -> None:
    engine, client = open_client(settings_of(mongodb_url))
    fill(engine, client, "numbers", [{"_id": n} for n in range(4)])
    engine.batch_size = 2
    batches = engine.find(client, "numbers", timeout=60.0)
    next(batches)
    assert pymongo._csot.get_timeout() is None
    batches.close()
    assert engine.pool_stats(client).active == 0


def test_connecting_opens_a_connection_however_fast_the_monitor_is(
    open_client: Open, mongodb_url: str
) -> None:
    for _ in range(10):
        engine, client = open_client(settings_of(mongodb_url))
        assert engine.pool_stats(client).total == 1


def test_a_client_is_alone_in_retrying(open_client: Open, mongodb_url: str) -> None:
    _, client = open_client(settings_of(mongodb_url, options={"retryWrites": "true", "RetryReads": "true"}))
    assert client.options.retry_writes is False
    assert client.options.retry_reads is False


def test_options_of_the_url_reach_the_driver(open_client: Open, mongodb_url: str) -> None:
    options = {
        "readPreference": "secondaryPreferred",
        "w": "1",
        "journal": "true",
        "directConnection": "true",
    }
    _, client = open_client(settings_of(mongodb_url, options=options))
    assert client.read_preference.mongos_mode == "secondaryPreferred"
    assert client.write_concern.document == {"w": 1, "j": True}


def test_one_host_is_talked_to_directly() -> None:
    def direct(**settings: Any) -> Any:
        given = ConnectionSettings("docs", "mongodb", **settings)
        client = connect.client(given, 0.1)
        client.close()
        return client.topology_description.topology_type_name

    assert direct(host="127.0.0.1", port=1) == "Single"
    assert direct(host="127.0.0.1", port=1, options={"replicaSet": "rs"}) == "ReplicaSetNoPrimary"
    assert direct(nodes=(("127.0.0.1", 1), ("127.0.0.1", 2))) == "Unknown"


def test_secrets_show_in_no_repr() -> None:
    settings = settings_of("mongodb://app:s3cr3t-of-docs@127.0.0.1:1/app")
    client = connect.client(settings, 0.1)
    shown = repr(client) + repr(client.options) + repr(settings) + str(client.topology_description)
    client.close()
    assert "s3cr3t-of-docs" not in shown


def test_nobody_there_is_unreachable(closed_port: int) -> None:
    engine = create(settings_of(f"mongodb://127.0.0.1:{closed_port}/x", connect_timeout=0.2))
    refused = f"127.0.0.1:{closed_port}: [Errno 111] Connection refused"
    # The driver connects in a thread of its own, which may not have run by then.
    until(lambda: failure_of(engine, lambda: engine.connect(60.0)) == (FailureKind.UNREACHABLE, refused))


def test_a_server_that_is_gone_is_waited_for_as_long_as_connecting_takes(
    proxy: MakeProxy, open_client: Open, mongodb_url: str
) -> None:
    """The command itself may take for ever; pytest's own timeout is the bad twin."""
    proxied = proxy(mongodb_url)
    engine, client = at_last(lambda: open_client(settings_of(proxied.url, connect_timeout=0.2)))
    proxied.refuse()
    proxied.cut()
    for _ in range(2):
        kind, _ = failure_of(engine, lambda: engine.command(client, {"insert": "c", "documents": [{}]}, None))
    assert kind is FailureKind.UNREACHABLE


@pytest.mark.parametrize("where", ["deaf_port", "unreachable_port"])
def test_connecting_ends_within_its_time(where: str, request: pytest.FixtureRequest) -> None:
    """The settings would wait for minutes; pytest's own timeout is the bad twin."""
    url = f"mongodb://127.0.0.1:{request.getfixturevalue(where)}/x"
    engine = create(settings_of(url, connect_timeout=300.0))
    assert failure_of(engine, lambda: engine.connect(0.3))[0] is FailureKind.UNREACHABLE


def test_an_answer_that_does_not_come_is_lost(proxy: MakeProxy, open_client: Open, mongodb_url: str) -> None:
    proxied = proxy(mongodb_url)
    engine, client = open_client(settings_of(proxied.url))
    proxied.on_client_bytes(lambda chunk: proxied.stall() if b"insert" in chunk else None)
    insert = {"insert": "users", "documents": [{"_id": 1}]}
    # One whose time was over before it was sent is not lost: then another.
    until(lambda: failure_of(engine, lambda: engine.command(client, insert, 0.3))[0] is FailureKind.LOST)
    proxied.resume()


def test_a_cut_before_the_answer_is_lost_and_not_repeated(
    proxy: MakeProxy, open_client: Open, mongodb_url: str
) -> None:
    proxied = proxy(mongodb_url)
    engine, client = open_client(settings_of(proxied.url))
    fill(engine, client, "counters", [{"_id": 1, "n": 0}])
    proxied.cut_after(b"$inc", forward=True)
    update = {"update": "counters", "updates": [{"q": {"_id": 1}, "u": {"$inc": {"n": 1}}}]}
    assert failure_of(engine, lambda: engine.command(client, update, 60.0))[0] is FailureKind.LOST
    found = list(engine.find(client, "counters", timeout=60.0))
    assert found == [[{"_id": 1, "n": 1}]]


def test_a_server_that_left_while_idle_is_unreachable(
    proxy: MakeProxy, open_client: Open, mongodb_url: str
) -> None:
    proxied = proxy(mongodb_url)
    engine, client = at_last(lambda: open_client(settings_of(proxied.url, connect_timeout=0.3)))
    proxied.refuse()
    proxied.cut()
    # The driver has not noticed yet, so it opens a connection of the pool and fails.
    client._topology._servers[next(iter(client._topology._servers))].pool.reset_without_pause()
    insert = {"insert": "users", "documents": [{"_id": 1}]}
    assert failure_of(engine, lambda: engine.command(client, insert, 60.0))[0] is FailureKind.UNREACHABLE


def test_what_the_server_refuses_is_rejected(open_client: Open, mongodb_url: str) -> None:
    engine, client = open_client(settings_of(mongodb_url))
    fill(engine, client, "users", [{"_id": 1}])
    twice = client[urlsplit(mongodb_url).path[1:]].users.insert_one
    kind, message = failure_of(engine, lambda: twice({"_id": 1}))
    assert kind is FailureKind.REJECTED
    assert "full error" not in message


def test_a_full_pool_says_so(open_client: Open, mongodb_url: str) -> None:
    engine, client = open_client(settings_of(mongodb_url, pool=PoolSettings(max=1)))
    fill(engine, client, "users", [{"_id": 1}])
    server = next(iter(client._topology._servers.values()))
    with server.pool.checkout(), pytest.raises(PoolTimeout) as error:
        engine.ping(client, 0.3)
    assert (error.value.active, error.value.max) == (1, 1)
    waited = f"{error.value.waited:.1f}"
    assert (
        str(error.value) == f"couldn't get a connection to 'docs' after {waited} s: 1 of 1 in use, 0 waiting"
    )
    engine.ping(client, 60.0)


def test_pool_stats_count_what_is_open(open_client: Open, mongodb_url: str) -> None:
    engine, client = open_client(settings_of(mongodb_url, pool=PoolSettings(max=2)))
    assert _numbers(engine, client) == (2, 1, 0, 1, 0)
    server = next(iter(client._topology._servers.values()))
    with server.pool.checkout(), server.pool.checkout():
        assert _numbers(engine, client) == (2, 2, 2, 0, 0)
        waiter = threading.Thread(target=engine.ping, args=(client, 600.0))
        waiter.start()
        while _numbers(engine, client)[-1] != 1:
            time.sleep(0.001)
    waiter.join()
    assert _numbers(engine, client) == (2, 2, 0, 2, 0)


def _numbers(engine: MongoEngine, client: Any) -> tuple[int, ...]:
    stats = engine.pool_stats(client)
    return stats.max, stats.total, stats.active, stats.idle, stats.waiting


def test_closing_twice_is_fine_and_needs_no_server(proxy: MakeProxy, mongodb_url: str) -> None:
    proxied = proxy(mongodb_url)
    engine = create(settings_of(proxied.url))
    client = engine.connect(60.0)
    proxied.stall()
    engine.close(client)
    engine.close(client)
    proxied.resume()


def test_the_server_reports_itself(open_client: Open, mongodb_url: str) -> None:
    engine, client = open_client(settings_of(mongodb_url))
    facts = engine.server(client, 60.0)
    assert facts["version"] == engine.command(client, {"buildInfo": 1}, 60.0, database="admin")["version"]
    assert facts["role"] in ("standalone", "primary", "mongos")
    assert isinstance(facts["connections"], int)
    assert facts["connections"] >= 1


def test_collections_are_tables(open_client: Open, mongodb_url: str) -> None:
    engine, client = open_client(settings_of(mongodb_url))
    fill(engine, client, "users", [{"_id": n} for n in range(3)])
    fill(engine, client, "orders", [{"_id": 1}])
    found = engine.tables(client, 60.0)
    assert [(table.name, table.kind, table.rows_estimate) for table in found] == [
        ("orders", "collection", 1),
        ("users", "collection", 3),
    ]
    assert {table.schema for table in found} == {urlsplit(mongodb_url).path[1:]}


def test_a_collection_is_described_by_a_sample(open_client: Open, mongodb_url: str) -> None:
    engine, client = open_client(settings_of(mongodb_url))
    documents = [
        {"_id": 1, "email": "a@x", "age": 3, "tags": ["x"]},
        {"_id": 2, "email": "b@x", "age": 2.5, "tags": None},
        {"_id": 3, "email": "c@x"},
    ]
    fill(engine, client, "users", documents)
    client[urlsplit(mongodb_url).path[1:]].users.create_index("email", unique=True)
    described = engine.describe(client, "users", 60.0)
    assert described is not None
    fields = {column.name: column for column in described.columns}
    assert fields["_id"] == TableColumn("_id", "int", nullable=False, default=None, key="primary")
    assert fields["email"] == TableColumn("email", "string", nullable=False, default=None, key="unique")
    assert set(fields["age"].type.split("|")) == {"int", "double"}
    assert set(fields["tags"].type.split("|")) == {"array", "null"}
    assert fields["age"].nullable
    assert fields["tags"].nullable
    assert {(index.columns, index.unique) for index in described.indexes} == {
        (("_id",), True),
        (("email",), True),
    }


def test_a_collection_is_found_in_another_database(open_client: Open, mongodb_url: str) -> None:
    engine, client = open_client(settings_of(mongodb_url))
    fill(engine, client, "users", [{"_id": 1}])
    elsewhere = create(settings_of(f"{mongodb_url}_2"))
    described = elsewhere.describe(client, f"{urlsplit(mongodb_url).path[1:]}.users", 60.0)
    assert described is not None
    assert described.table.name == "users"
    assert elsewhere.describe(client, "users", 60.0) is None


@pytest.mark.needs_mongod
def test_a_collection_is_found_by_its_own_name_first(open_client: Open, mongodb_url: str) -> None:
    engine, client = open_client(settings_of(mongodb_url))
    database = urlsplit(mongodb_url).path[1:]
    fill(engine, client, "app.users", [{"_id": 1}])
    for name in ("app.users", f"{database}.app.users"):
        described = engine.describe(client, name, 60.0)
        assert described is not None
        assert described.table.name == "app.users"
    assert engine.describe(client, "nothing", 60.0) is None
    assert engine.describe(client, f"{database}.nothing", 60.0) is None


def test_types_have_mongodbs_names() -> None:
    values = {
        "objectId": ObjectId(),
        "long": Int64(1),
        "int": 1,
        "bool": True,
        "double": 1.5,
        "decimal": Decimal128("1.5"),
        "binData": Binary(b"x", 4),
        "date": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "timestamp": Timestamp(1, 1),
        "regex": Regex("x"),
        "object": {},
        "null": None,
    }
    assert {name: catalog.type_name(value) for name, value in values.items()} == {n: n for n in values}


def test_columns_say_what_an_index_says() -> None:
    indexes = [Index("a_1_b_1", ("a", "b"), unique=True), Index("c_1", ("c",), unique=False)]
    found = catalog.columns([{"a": 1, "b": 1, "c": 1}], indexes)
    assert [column.key for column in found] == ["index", None, "index"]


def test_a_read_only_connection_reads_and_writes_nothing(open_client: Open, mongodb_url: str) -> None:
    writer, admin = open_client(settings_of(mongodb_url))
    fill(writer, admin, "users", [{"_id": 1}])
    engine, client = open_client(settings_of(mongodb_url, read_only=True))
    assert list(engine.find(client, "users", timeout=60.0)) == [[{"_id": 1}]]
    assert list(engine.aggregate(client, "users", [{"$count": "n"}], timeout=60.0)) == [[{"n": 1}]]
    assert engine.describe(client, "users", 60.0) is not None
    assert engine.server(client, 60.0)["version"]
    with pytest.raises(Refused):
        engine.command(client, {"insert": "users", "documents": [{"_id": 2}]}, 60.0)
    with pytest.raises(Refused):
        engine.aggregate(client, "users", [{"$out": "copy"}], timeout=60.0)
    assert [table.name for table in writer.tables(admin, 60.0)] == ["users"]
    assert writer.command(admin, {"count": "users"}, 60.0)["n"] == 1


# --- what nx-27017 cannot do ---


@pytest.mark.needs_mongod
def test_the_deadline_reaches_the_server(open_client: Open, mongodb_url: str) -> None:
    engine, client = open_client(settings_of(mongodb_url))
    fill(engine, client, "users", [{"_id": 1}])
    slow = {"find": "users", "filter": {"$where": "sleep(5000) || true"}}
    assert failure_of(engine, lambda: engine.command(client, slow, 0.5))[0] in (
        FailureKind.TIMED_OUT,
        FailureKind.LOST,
    )
    running = engine.command(client, {"currentOp": 1, "ns": {"$regex": "users"}}, 60.0, database="admin")
    assert running["inprog"] == []


@pytest.mark.needs_mongod
def test_a_wrong_password_is_tried_once(throwaway: Throwaway, proxy: MakeProxy, open_client: Open) -> None:
    server = throwaway("mongodb", settings={"auth": ""})
    engine, client = open_client(settings_of(server.url))
    user = {"createUser": "app", "pwd": "right-s3cr3t", "roles": ["readWrite"]}
    engine.command(client, user, 60.0)
    login = f"mongodb://app:right-s3cr3t@{server.host}:{server.port}/katax"
    open_client(settings_of(login))
    proxied = proxy(login)
    chunks: list[bytes] = []
    proxied.on_client_bytes(chunks.append)
    wrong = create(settings_of(proxied.url, password=Secret.of("wr0ng-s3cr3t")))
    kind, message = failure_of(wrong, lambda: wrong.connect(60.0))
    assert kind is FailureKind.AUTHENTICATION
    assert "wr0ng-s3cr3t" not in message
    assert b"".join(chunks).count(b"saslStart") + b"".join(chunks).count(b"speculativeAuthenticate") <= 2


@pytest.mark.needs_mongod
def test_tls_verifies_what_the_mode_says(
    throwaway: Throwaway, certificates: Certificates, tmp_path: Any, open_client: Open
) -> None:
    key_and_certificate = tmp_path / "server-both.pem"
    key_and_certificate.write_bytes(
        certificates.server_cert.read_bytes() + certificates.server_key.read_bytes()
    )
    server: Server = throwaway(
        "mongodb",
        settings={
            "tlsMode": "requireTLS",
            "tlsCertificateKeyFile": str(key_and_certificate),
            "tlsCAFile": str(certificates.ca),
        },
    )
    files = {"cert": str(certificates.client_cert), "key": str(certificates.client_key)}
    trusted = TlsSettings("verify-full", ca=str(certificates.ca), **files)
    open_client(settings_of(server.url, host="localhost", tls=trusted))
    stranger = make_certificates(tmp_path / "stranger")
    engine = create(settings_of(server.url, tls=replace(trusted, ca=str(stranger.ca))))
    assert failure_of(engine, lambda: engine.connect(60.0))[0] is FailureKind.CONFIGURATION
