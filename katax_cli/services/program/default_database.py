"""The default database of a program, without a name: `Katax.get_instance().database()`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast, overload

if TYPE_CHECKING:
    from katax_cli.services.databases.builder.builder import Builder
    from katax_cli.services.databases.sql import SqlDatabase
    from katax_cli.services.databases.transaction import Transaction, TransactionBlock

T = TypeVar("T")


def query(name: str, alias: str | None = None) -> Builder:
    """A query on a table; see `SqlDatabase.table`."""
    return _database().table(name, alias)


@overload
def transaction(work: Callable[[Transaction], T], *, timeout: float | None = None) -> T: ...
@overload
def transaction(work: None = None, *, timeout: float | None = None) -> TransactionBlock: ...
def transaction(
    work: Callable[[Transaction], T] | None = None, *, timeout: float | None = None
) -> T | TransactionBlock:
    """A transaction, of a callable or as a `with` block; see `SqlDatabase.transaction`.

    `transaction(lambda trx: trx.table("users").create({"name": "Ada"}))` returns what the callable returns.
    """
    if work is None:
        return _database().transaction(timeout=timeout)
    return _database().transaction(work, timeout=timeout)


def _database() -> SqlDatabase:
    from katax_cli.services.program.container import Katax

    return cast("SqlDatabase", Katax.get_instance().database())
