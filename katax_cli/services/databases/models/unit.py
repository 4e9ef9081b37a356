"""The unit of work of one call: a session of SQLAlchemy over katax, and what its objects and errors become."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.exc import InvalidRequestError, StatementError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from katax_cli.core.forks import follow
from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.core.text.duration import Duration
from katax_cli.errors import KataxError
from katax_cli.services.databases.builder.selection import RunsStatements
from katax_cli.services.databases.models.bridge import BridgeConnection, Origin, origin
from katax_cli.services.databases.models.dialects import PARAMETERS, URLS

HOME = "_katax_on"
"""The attribute of an object that says where it was read or written."""


class _Engines:
    """SQLAlchemy's engines, one for each of katax's: they know the server's version and keep compiled statements."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: WeakKeyDictionary[Any, sa.Engine] = WeakKeyDictionary()
        follow(self)

    def after_fork(self) -> None:
        self._lock = Lock()

    def of(self, on: RunsStatements) -> sa.Engine:
        """The engine for statements on `on`; the first call asks the server for its version."""
        made = self._made.get(on.engine)
        if made is not None:
            return made
        engine = sa.create_engine(
            URLS[on.dialect],
            creator=BridgeConnection,
            poolclass=NullPool,
            paramstyle=PARAMETERS[on.dialect],
            pool_reset_on_return=None,
            **({"use_native_hstore": False} if on.dialect == "postgresql" else {}),
        )
        # Outside the lock: it takes as long as the server takes. An engine that lost the race is dropped.
        _connected(engine, Origin(on)).close()
        with self._lock:
            return self._made.setdefault(on.engine, engine)


def _connected(engine: sa.Engine, where: Origin) -> sa.Connection:
    token = origin.set(where)
    try:
        return engine.connect()
    finally:
        origin.reset(token)


_engines = _Engines()


def returns_rows(on: RunsStatements) -> bool:
    """True where an INSERT returns its row; MySQL proper has to be asked for it."""
    return bool(_engines.of(on).dialect.insert_returning)


def connection(on: RunsStatements, timeout: Duration | None) -> sa.Connection:
    """A connection of SQLAlchemy, whose statements are guarded calls; to be closed."""
    return _connected(_engines.of(on), Origin(on, NEVER if timeout is None else Deadline(timeout)))


@contextmanager
def unit(on: RunsStatements, *, timeout: Duration | None, whole: bool = False) -> Iterator[Session]:
    """A session for the statements of one call, each of them guarded; its objects are detached at the end.

    `whole`: the statements are applied all or none. Otherwise each commits by itself, unless `on` is a transaction.
    """
    with (
        on.together(timeout=timeout) if whole else nullcontext(on) as runs,
        connection(runs, timeout) as bridge,
        Session(bridge, autoflush=False, expire_on_commit=False) as session,
    ):
        with _translating():
            yield session
            session.flush()
        for row in session:
            row.__dict__[HOME] = on


@contextmanager
def _translating() -> Iterator[None]:
    """Gives SQLAlchemy's errors of statements their meaning; katax's own pass through."""
    try:
        yield
    except StatementError as error:
        if isinstance(error.orig, KataxError):
            raise error.orig from error
        raise ValueError(" ".join(str(error.orig).split())) from error
    except InvalidRequestError as error:
        raise ValueError(str(error)) from error
