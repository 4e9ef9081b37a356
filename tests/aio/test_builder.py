"""Queries built by calls, sessions, prepared statements, replicas and models, for tasks."""

from __future__ import annotations

import asyncio

import pytest

from katax_cli import Column, Mapped, Model, any_of
from katax_cli.aio import AsyncSqlDatabase, AsyncTransaction
from katax_cli.errors import ConfigError, Refused
from tests.aio.conftest import MakeKatax
from tests.servers.fixtures import MakeFresh, Target


class Person(Model):
    __tablename__ = "person"
    id: Mapped[int] = Column(primary_key=True)
    name: Mapped[str]


async def test_built_queries(sql_engine: Target, make_katax: MakeKatax) -> None:
    """On a database, and on a transaction whose statements take turns."""
    async with make_katax(main=sql_engine.url) as katax:
        db: AsyncSqlDatabase = katax.database("main")
        await db.execute("create table person (id integer primary key, name varchar(20), age integer)")
        people = db.table("person")
        assert await people.create({"id": 1, "name": "ann", "age": 30}) == {"id": 1, "name": "ann", "age": 30}
        assert await people.create_many([{"id": n, "name": f"p{n}", "age": n} for n in range(2, 60)]) == 58
        adults = people.select("name").where("age", ">", 17).order_by("age", "desc")
        assert [row["name"] for row in await adults.limit(2).offset(1).all()] == ["p58", "p57"]
        assert await adults.first() == {"name": "p59"}
        assert (await people.where_any(("age", 7), ("name", "ann")).count(), await adults.count()) == (2, 43)
        assert await people.where(any_of(("id", 1), ("id", 2))).where_in("id", [2, 3]).count() == 1
        page = await people.order_by("id").paginate(2, 50)
        assert (page.total, page.pages, len(page.rows)) == (59, 2, 9)
        with pytest.raises(Refused):
            await people.delete()

        async with db.transaction() as transaction:
            table = transaction.table("person")
            counts = [table.where("age", "<", most).count() for most in range(3, 30)]
            assert await asyncio.gather(*counts) == list(range(1, 28))
            assert await table.where("id", 2).update({"name": "bob"}) == 1
            assert await table.where("id", 3).delete() == 1
            assert await table.upsert({"id": 2, "name": "bo", "age": 1}, key="id") == 1
        assert await people.find_by_id(2) == {"id": 2, "name": "bo", "age": 1}
        joined = db.table("person", "a").join("person", "a.id = b.age", alias="b").select("b.name as name")
        assert await joined.where("a.id", 7).execute() == [{"name": "p7"}]
        grouped = (
            db.table("person").select("age", "count(id) as n").group_by("age").having("count(id)", ">", 1)
        )
        assert [(row["age"], row["n"]) for row in await grouped.order_by("age").all()] == [(30, 2)]

        prepared = db.prepare("select name from person where id = $1")
        names = await asyncio.gather(*[prepared.execute([n]) for n in range(10, 40)])
        assert [name for [row] in names for name in row.values()] == [f"p{n}" for n in range(10, 40)]
        assert await db.scalar("select count(*) from person") == 58
        assert await db.one("select name from person where id = $1", [4]) == {"name": "p4"}
        with pytest.raises(ValueError, match="add LIMIT 1"):
            await db.one("select name from person")


async def test_a_session_keeps_its_connection(sql_engine: Target, make_katax: MakeKatax) -> None:
    async with make_katax(main={"url": sql_engine.url, "pool": {"max": 2}}) as katax:
        db: AsyncSqlDatabase = katax.database("main")
        async with db.session() as session:
            await session.execute("create temporary table own (n integer)")
            await asyncio.gather(*[session.execute("insert into own values ($1)", [n]) for n in range(20)])
            async with session.transaction() as transaction:
                await transaction.execute("delete from own where n > 9")
            assert await session.scalar("select count(*) from own") == 10
            async with session.stream("select n from own order by n") as rows:
                assert [n async for batch in rows for (n,) in batch] == list(range(10))
            await session.execute("begin")
            assert session.in_transaction
        assert db.pool_stats().active == 0
        with pytest.raises(Exception, match="own"):
            await db.query("select * from own")


async def test_reads_from_a_replica(fresh: MakeFresh, make_katax: MakeKatax) -> None:
    primary, replica = fresh("postgresql").url, fresh("postgresql").url
    async with make_katax(main={"url": primary, "replicas": [replica]}, alone=primary) as katax:
        db = katax.database("main")
        chosen = await db.replica()
        assert await db.replica() is chosen
        [row] = await chosen.query("select current_database() as name")
        assert replica.endswith(f"/{row['name']}") or f"/{row['name']}?" in replica
        with pytest.raises(ConfigError):
            await katax.database("alone").replica()
    assert chosen.closed


async def test_models_run_in_run_sync(sql_engine: Target, make_katax: MakeKatax) -> None:
    """A hundred tasks on a pool of two: their waits let each other go on."""
    async with make_katax(main={"url": sql_engine.url, "pool": {"max": 2}}) as katax:
        db: AsyncSqlDatabase = katax.database("main")
        await db.execute("create table person (id integer primary key, name varchar(20))")

        async def make(n: int) -> str:
            def work() -> str:
                Person.on(db.wraps).create(id=n, name=f"p{n}")
                found = Person.on(db.wraps).find_by_id(n)
                assert found is not None
                return found.name

            return await db.run_sync(lambda _: work())

        assert await asyncio.gather(*[make(n) for n in range(100)]) == [f"p{n}" for n in range(100)]

        async def rename(transaction: AsyncTransaction) -> None:
            await transaction.run_sync(lambda on: Person.on(on).create(id=1000, name="late"))
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await db.transaction(rename)
        assert await db.table("person").count() == 100


async def test_built_queries_on_documents(make_katax: MakeKatax, mongodb_url: str) -> None:
    async with make_katax(main=mongodb_url) as katax:
        people = katax.database("main", type="mongodb").table("people")
        assert (await people.create({"_id": 1, "age": 30}))["_id"] == 1
        assert await people.create_many([{"_id": n, "age": n} for n in range(2, 40)]) == 38
        assert await people.where("age", ">", 35).order_by("age").select("_id").limit(2).all() == [
            {"_id": 36}, {"_id": 37},
        ]  # fmt: skip
        assert await people.filter({"age": 30}).count() == 2
        assert await people.where("_id", 1).update({"age": 31}) == 1
        assert await people.find_by_id(1) == {"_id": 1, "age": 31}
        assert await people.where("age", 31).delete() == 2
