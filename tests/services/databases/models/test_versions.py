"""Models with a version column: what another changed is not overwritten, on any server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import String

from katax_cli import Column, Mapped, Model, RecordChanged, SqlDatabase, UnknownRecord
from katax_cli.services.databases.models.dialects import _found
from tests.services.databases.models.people import Organization


class Document(Model):
    __tablename__ = "documents"

    id: Mapped[int] = Column(primary_key=True)
    title: Mapped[str] = Column(String(60))
    version: Mapped[int] = Column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # SQLAlchemy's own way


@pytest.fixture
def documents(db: SqlDatabase) -> SqlDatabase:
    db.execute(
        "create table documents (id int primary key, title varchar(60) not null, version int not null)"
    )
    return db


def content(db: SqlDatabase) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in db.query("select id, title, version from documents order by id")]


def read(id: int) -> Document:
    found = Document.find_by_id(id)
    assert found is not None
    return found


def test_a_stale_object_overwrites_and_deletes_nothing(documents: SqlDatabase) -> None:
    """The one that was read last is written, also with what it holds already; the object of before is refused."""
    stale = Document.create(id=1, title="a")
    fresh = read(1)
    fresh.update(title="b").update(title="b")
    assert fresh.version == 3

    calls: list[Callable[[], object]] = [lambda: stale.update(title="c"), stale.delete]
    for call in calls:
        with pytest.raises(RecordChanged, match=r"'Document\(1\)' was changed or deleted since it was read"):
            call()
    with documents.transaction() as trx, pytest.raises(RecordChanged):
        stale.update(title="c", on=trx)
    assert (stale.title, stale.version) == ("a", 1)
    assert content(documents) == [(1, "b", 3)]

    assert stale.load().update(title="c").version == 4
    with pytest.raises(RecordChanged):
        fresh.update(title="b")
    fresh.load().delete()
    with pytest.raises(RecordChanged):
        stale.update(title="d")
    assert content(documents) == []


def test_of_several_that_write_at_once_one_is_done(documents: SqlDatabase) -> None:
    """Each read the same version; whoever comes second finds it gone."""
    Document.create(id=1, title="a")
    objects = [read(1) for _ in range(4)]
    begin = threading.Barrier(len(objects))

    def write(number: int) -> bool:
        begin.wait(60)
        try:
            objects[number].update(title=str(number))
        except RecordChanged:
            return False
        return True

    with ThreadPoolExecutor(len(objects)) as threads:
        done = list(threads.map(write, range(len(objects)), timeout=60))
    assert sum(done) == 1
    assert content(documents) == [(1, str(done.index(True)), 2)]


def test_a_model_without_versions_is_not_called_stale(documents: SqlDatabase) -> None:
    """MySQL counts no row that is as it shall be; the row is there all the same, and one that is gone is not."""
    one = Organization.create(name="a")
    for _ in range(2):
        assert one.update(name="a").name == "a"
    assert Organization.where("name", "a").update(name="a") == 1
    documents.execute("delete from organizations")
    with pytest.raises(UnknownRecord):
        one.update(name="a")
    assert Organization.query().update(everywhere=True, name="a") == 0


def test_found_rows_are_read_in_any_language_and_length() -> None:
    """A byte of length is in front, which may look like a digit; without words, the rows changed are taken."""
    assert _found(b"(Rows matched: 1  Changed: 0  Warnings: 0", changed=0) == 1
    assert _found(b"1Rows matched: 12345  Changed: 6789  Warnings: 0", changed=6789) == 12345
    assert _found("Datensätze gefunden: 7  Geändert: 2  Warnungen: 0".encode(), changed=2) == 7
    assert _found(b"", changed=3) == 3
