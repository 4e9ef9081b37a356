"""Models beside SQLAlchemy's own sessions over its own pool: the same class, the same server, in turn.

The peer has a session for each call, as a web program has one for each request. SQLite has no round trip beside which
pool, guard and watchdog are little.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from typing import Any

import sqlalchemy as sa
from drivers import CALLS, program, repeated
from harness import Work, compare, finish
from sqlalchemy.orm import Session

from katax_cli import Column, Mapped, Model

MANY = 5_000
DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql"}
_numbers = count(1_000_000)


class Person(Model):
    __tablename__ = "people"

    id: Mapped[int] = Column(primary_key=True)
    name: Mapped[str | None] = Column(sa.String(40))
    age: Mapped[int | None]


def main(names: list[str]) -> int:
    with program() as (katax, urls), ExitStack() as stack:
        for name in names or [*DRIVERS, "sqlite"]:
            database: Any = katax.database(name)
            Model.bind(database)
            models(name, {"Session": engine(name, urls[name], stack)})
    return finish()


def engine(name: str, url: str, stack: ExitStack) -> sa.Engine:
    target = f"sqlite:///{url}" if name == "sqlite" else f"{name}+{DRIVERS[name]}://{url.split('://', 1)[1]}"
    made = sa.create_engine(target)
    stack.callback(made.dispose)
    return made


def models(name: str, peers: dict[str, sa.Engine]) -> None:
    def compared(
        work: str,
        ours: Callable[[], object],
        theirs: Callable[[Session], object],
        *,
        runs: int = 15,
        times: Callable[[Callable[[], object]], Work] = repeated,
    ) -> None:
        compare(
            f"{name}: {work}",
            katax=times(ours),
            peers={peer: times(in_session(made, theirs)) for peer, made in peers.items()},
            target=1.7 if name == "sqlite" else 1.2,
            runs=runs,
        )

    compared(f"{CALLS} × find_by_id", lambda: Person.find_by_id(7), lambda session: session.get(Person, 7))
    compared(
        f"{CALLS} × where, order, limit",
        lambda: Person.where("age", ">", 17).order_by("name").limit(10).all(),
        lambda session: session.scalars(
            sa.select(Person).where(Person.age > 17).order_by(Person.name).limit(10)
        ).all(),
    )
    compared(
        f"{CALLS} × create", lambda: Person.create(person()), lambda session: session.add(Person(**person()))
    )
    compared(
        f"create_many of {MANY:,} rows",
        lambda: Person.create_many([person() for _ in range(MANY)]),
        lambda session: session.execute(sa.insert(Person), [person() for _ in range(MANY)]),
        runs=5,
        times=once,
    )


def person() -> dict[str, Any]:
    number = next(_numbers)
    return {"id": number, "name": f"person {number}", "age": number % 90}


def in_session(made: sa.Engine, work: Callable[[Session], object]) -> Work:
    def call() -> None:
        with Session(made, expire_on_commit=False) as session:
            work(session)
            if session.new or session.in_transaction():
                session.commit()

    return call


def once(call: Callable[[], object]) -> Work:
    def run() -> None:
        call()

    return run


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
