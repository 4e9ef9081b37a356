"""Queries built by calls, for tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from katax_cli.aio.own_loop import OwnLoop, Turn
from katax_cli.aio.proxy import AsyncProxy, awaited
from katax_cli.services.databases.builder.builder import Builder
from katax_cli.services.databases.builder.documents import DocumentBuilder

P = ParamSpec("P")
T = TypeVar("T")
B = TypeVar("B", bound=Builder | DocumentBuilder)
Q = TypeVar("Q", bound="_AsyncQuery[Any]")


def _grown(method: Callable[Concatenate[Any, P], object]) -> Callable[Concatenate[Q, P], Q]:
    """A method of a builder that returns a new one; nothing is asked of a server."""
    name = method.__name__

    @wraps(method)
    def grow(query: Q, /, *args: P.args, **kwargs: P.kwargs) -> Q:
        return type(query)(getattr(query._wrapped, name)(*args, **kwargs), query._home, query._turn)

    return grow


class _AsyncQuery(AsyncProxy[B]):
    """A query that grows by calls, each of which returns a new one; its last call is awaited."""

    def __init__(self, builder: B, home: OwnLoop, turn: Turn | None = None) -> None:
        super().__init__(builder, home)
        self._turn = turn

    select = _grown(Builder.select)
    where = _grown(Builder.where)
    where_any = _grown(Builder.where_any)
    where_in = _grown(Builder.where_in)
    join = _grown(Builder.join)
    left_join = _grown(Builder.left_join)
    group_by = _grown(Builder.group_by)
    having = _grown(Builder.having)
    order_by = _grown(Builder.order_by)
    limit = _grown(Builder.limit)
    offset = _grown(Builder.offset)
    all = awaited(Builder.all)
    execute = awaited(Builder.execute)
    first = awaited(Builder.first)
    count = awaited(Builder.count)
    paginate = awaited(Builder.paginate)
    create_many = awaited(Builder.create_many)
    update = awaited(Builder.update)
    delete = awaited(Builder.delete)

    async def _call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs the last call; in a transaction when its turn has come."""
        if self._turn is None:
            return await self._home.call(fn, *args, **kwargs)
        return await self._turn.call(self._home, fn, *args, **kwargs)


class AsyncBuilder(_AsyncQuery[Builder]):
    """A query on one table for tasks: `await db.table("users").where("age", ">", 17).order_by("name").all()`.

    See `Builder` for its methods, names, columns and operators; the last call, which is awaited, raises what `query`
    raises.
    """

    find_by_id = awaited(Builder.find_by_id)
    create = awaited(Builder.create)
    upsert = awaited(Builder.upsert)


class AsyncDocumentBuilder(_AsyncQuery[DocumentBuilder]):
    """A query on one collection for tasks; see `DocumentBuilder` for its methods, the last of which is awaited."""

    filter = _grown(DocumentBuilder.filter)
    find_by_id = awaited(DocumentBuilder.find_by_id)
    create = awaited(DocumentBuilder.create)
