"""MongoDB's backups, by mongodump; what needs no mongod is its URL, and what is said where there is no tool."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pymongo
import pymongo.database
import pytest

from katax_cli.core.settings import ConnectionSettings, Secret, TlsSettings
from katax_cli.engines.mongodb.backup.dump import url
from katax_cli.services.backup.restore.load import RestoreOrder
from katax_cli.services.backup.restore.server_database import MarkedDatabase
from katax_cli.services.tables.scratch import open_settings
from tests.cli.harness import katax
from tests.servers.fixtures import MakeFresh
from tests.services.backup.server_of_backups import back_up, left, profile_for, refused


def test_the_tool_that_is_missing_is_named(mongodb_url: str, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    profile_for(tmp_path, mongodb_url, tools=tmp_path / "none")

    code, message = refused()

    assert (code, left(tmp_path)) == (2, []), message
    assert "there is no mongodump in" in message
    assert "install mongodb-database-tools" in message


def test_the_url_holds_what_the_connection_does() -> None:
    settings = ConnectionSettings(
        name="m", type="mongodb", host="h", port=1, user="a@b", password=Secret.of("p/:")
    )

    assert url(settings) == "mongodb://a%40b:p%2F%3A@h:1/?authSource=admin"
    tls = TlsSettings("verify-full", ca="/ca.pem", cert="/c.pem")
    plain = ConnectionSettings(name="m", type="mongodb", nodes=(("a", 1), ("b", 2)), tls=tls)
    assert url(plain) == "mongodb://a:1,b:2/?tls=true&tlsCAFile=%2Fca.pem&tlsCertificateKeyFile=%2Fc.pem"
    other = replace(settings, options={"authMechanism": "MONGODB-X509"})
    assert url(other) == "mongodb://a%40b:p%2F%3A@h:1/?authMechanism=MONGODB-X509"


def test_a_user_lives_in_the_database_of_the_connection_wherever_it_restores_to() -> None:
    settings = ConnectionSettings(
        name="m", type="mongodb", host="h", port=1, user="u", password=Secret.of("p"), database="app"
    )
    with open_settings(settings) as database:
        order = SimpleNamespace(database=database, open_database=open_settings, purpose="restore", tell=print)
        target = MarkedDatabase(cast("RestoreOrder", order), "copy")

    assert target.settings.database == "copy"
    assert url(target.settings) == url(settings) == "mongodb://u:p@h:1/?authSource=app"


@pytest.mark.needs_mongod
def test_a_backup_says_what_is_in_it(fresh: MakeFresh, tmp_path: Path) -> None:
    target = fresh("mongodb")
    profile_for(tmp_path, target)
    client: pymongo.MongoClient[dict[str, object]]
    with pymongo.MongoClient(target.url) as client:
        database: pymongo.database.Database[dict[str, object]] = client[target.url.rpartition("/")[2]]
        database["users"].insert_many([{"n": number} for number in range(1000)])
        database.create_collection("empty")

        manifest = back_up()

    assert dict(manifest.rows) == {"users": 1000, "empty": 0}
    assert left(tmp_path) == [manifest.name]


@pytest.mark.needs_mongod
def test_a_restore_brings_every_document_back(fresh: MakeFresh, tmp_path: Path) -> None:
    target = fresh("mongodb")
    profile_for(tmp_path, target)
    name = target.url.rpartition("/")[2]
    client: pymongo.MongoClient[dict[str, object]]
    with pymongo.MongoClient(target.url) as client:
        source: pymongo.database.Database[dict[str, object]] = client[name]
        source["users"].insert_many([{"_id": number, "n": number * 2} for number in range(1000)])
        source["users"].create_index("n")
        manifest = back_up()
        try:
            done = katax("db", "restore", manifest.name, "--into", f"{name}_copy", "-y")
            assert done.code == 0, done.err
            copy: pymongo.database.Database[dict[str, object]] = client[f"{name}_copy"]
            assert copy.list_collection_names() == ["users"]
            assert list(copy["users"].find()) == list(source["users"].find())
            assert copy["users"].index_information() == source["users"].index_information()
        finally:
            client.drop_database(f"{name}_copy")
