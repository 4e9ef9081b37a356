"""Values of models: each comes back as it went in, and a builder reads what a model wrote."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import JSON, LargeBinary, Numeric, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, INT4RANGE, JSONB
from sqlalchemy.types import Integer, Text

from katax_cli import Column, Mapped, Model, SqlDatabase


class Everything(Model):
    __tablename__ = "everything"

    id: Mapped[int] = Column(primary_key=True)
    amount: Mapped[Decimal | None] = Column(Numeric(20, 6))
    ratio: Mapped[float | None]
    at: Mapped[datetime | None]
    day: Mapped[date | None]
    hour: Mapped[time | None]
    code: Mapped[UUID | None] = Column(Uuid)
    content: Mapped[bytes | None] = Column(LargeBinary)
    flag: Mapped[bool | None]
    note: Mapped[str | None] = Column(Text)
    data: Mapped[Any] = Column(JSON(none_as_null=True))
    big: Mapped[int | None]


class OnPostgres(Model):
    __tablename__ = "on_postgres"

    id: Mapped[int] = Column(primary_key=True)
    tags: Mapped[list[str] | None] = Column(ARRAY(Text))
    doc: Mapped[Any] = Column(JSONB)
    span: Mapped[Any] = Column(INT4RANGE)
    took: Mapped[timedelta | None]
    numbers: Mapped[list[int] | None] = Column(ARRAY(Integer))


VALUES: dict[str, Any] = {
    "amount": Decimal("12345678901.000001"),
    "ratio": 0.1,
    "at": datetime(2026, 11, 21, 18, 3, 4, 123456),
    "day": date(1, 1, 1),
    "hour": time(23, 59, 58),
    "code": UUID("12345678-1234-5678-1234-567812345678"),
    "content": b"\0\xff'\\%s",
    "flag": False,
    "note": "CRLF\r\n' \" \\ 😀 %s :name ? $1",
    "data": {"a": [1, 2.5, None, "ü"], "b": {"?": "$1"}},
    "big": 2**62,
}
TYPES = {
    "postgresql": ("timestamp", "bytea", "uuid", "jsonb"),
    "mysql": ("datetime(6)", "blob", "char(36)", "json"),
    "sqlite": ("timestamp", "blob", "text", "text"),
}


def test_each_value_comes_back(db: SqlDatabase) -> None:
    moment, binary, uuid, json = TYPES[db.dialect]
    amount = "text" if db.dialect == "sqlite" else "numeric(20, 6)"
    db.execute(
        f"create table everything (id int primary key, amount {amount}, ratio double precision, at {moment}, "
        f"day date, hour time, code {uuid}, content {binary}, flag boolean, note text, data {json}, big bigint)"
    )

    Everything.create(id=1, **VALUES)
    Everything.create_many([{"id": 2, **VALUES}, {"id": 3, "data": None}])

    for key in (1, 2):
        found = Everything.find_by_id(key)
        assert {name: getattr(found, name) for name in VALUES} == VALUES
    empty = Everything.find_by_id(3)
    assert {getattr(empty, name) for name in VALUES} == {None}
    for name, value in VALUES.items():
        if name not in ("data", "ratio"):
            assert Everything.where(name, value).count() == 2, name
            assert db.table("everything").where(name, str(value) if name == "code" else value).count() == 2, (
                name
            )


@pytest.mark.parametrize("sql_engine", ["postgresql"], indirect=True)
def test_types_of_postgresql(db: SqlDatabase) -> None:
    db.execute(
        "create table on_postgres "
        "(id int primary key, tags text[], doc jsonb, span int4range, took interval, numbers int[])"
    )
    values: dict[str, Any] = {
        "tags": ["a", "ü'"],
        "doc": [{"a": {"b": 1}}],
        "took": timedelta(days=1, seconds=2),
        "numbers": [1, -2],
    }

    OnPostgres.create(id=1, **values)
    db.execute("update on_postgres set span = '[1,5)'")

    found = OnPostgres.find_by_id(1)
    assert {name: getattr(found, name) for name in values} == values
    assert found is not None
    assert found.span == "[1,5)"
    assert OnPostgres.where(OnPostgres.doc.contains([{"a": {"b": 1}}])).count() == 1
    assert OnPostgres.where(OnPostgres.doc[0].has_key("a")).count() == 1
    assert OnPostgres.where(OnPostgres.tags.contains(["a"])).count() == 1
