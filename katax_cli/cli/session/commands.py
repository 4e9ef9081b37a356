"""`katax session`: sessions of users by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.json_argument import json_object
from katax_cli.cli.shell.options import duration, lifetime
from katax_cli.cli.shell.output import Manner
from katax_cli.cli.shell.redis import REDIS
from katax_cli.cli.shell.scope import scope

if TYPE_CHECKING:
    from katax_cli.services.redis.sessions import SessionStore

group = Group()

HEADER = ("id", "created_at", "expires_at", "data")

Id = Annotated[str, typer.Argument(help="Id of the session.")]
Data = Annotated[str, typer.Argument(help="A JSON object; - for stdin, @file for a file.")]
Ttl = Annotated[
    str | None, typer.Option(metavar="DURATION|NAME", help="Lifetime from now; a day unless given.")
]


@contextmanager
def sessions(call: Invocation) -> Iterator[SessionStore]:
    """The store on the chosen connection."""
    from katax_cli.services.redis.sessions import SessionStore

    with scope(call, REDIS) as chosen:
        yield SessionStore(chosen.redis)


@group.command("create")
def create(
    call: Invocation,
    data: Data,
    id: Annotated[str | None, typer.Option("--id", help="Its id; random unless given.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Its user; from DATA unless given.")] = None,
    ttl: Ttl = None,
) -> None:
    """Store a session and print its id."""
    stored = json_object(call, data)
    if call.only_planned(created=False):
        return
    with sessions(call) as store:
        call.out.scalar(store.create(stored, id=id, user=user, ttl=lifetime(ttl)))


@group.command("set")
def set_(call: Invocation, id: Id, data: Data, ttl: Ttl = None) -> None:
    """Store a session as a whole, new or not."""
    stored = json_object(call, data)
    if call.only_planned(id=id, stored=False):
        return
    with sessions(call) as store:
        store.set(id, stored, lifetime(ttl))
    call.out.action({"id": id, "stored": True})


@group.command("get")
def get(call: Invocation, id: Id) -> ExitCode:
    """Print the data of a session; exit 1 when there is none."""
    with sessions(call) as store:
        data = store.get(id)
    if data is None:
        return ExitCode.NO
    call.out.scalar(data)
    return ExitCode.DONE


@group.command("update")
def update(call: Invocation, id: Id, data: Data) -> ExitCode:
    """Merge fields into a session and print the whole; exit 1 when there is none. Keeps its lifetime."""
    changes = json_object(call, data)
    if call.only_planned(id=id, updated=False):
        return ExitCode.DONE
    with sessions(call) as store:
        whole = store.update(id, changes)
    if whole is None:
        return ExitCode.NO
    call.out.scalar(whole)
    return ExitCode.DONE


@group.command("touch")
def touch(call: Invocation, id: Id, ttl: Ttl = None) -> ExitCode:
    """Extend the life of a session; exit 1 when there is none."""
    if call.only_planned(id=id, touched=False):
        return ExitCode.DONE
    with sessions(call) as store:
        exists = store.touch(id, lifetime(ttl))
    return _answer(call, id, "touched", exists)


@group.command("destroy")
def destroy(call: Invocation, id: Id) -> ExitCode:
    """Delete a session; exit 1 when there is none."""
    if call.only_planned(id=id, destroyed=False):
        return ExitCode.DONE
    with sessions(call) as store:
        existed = store.destroy(id)
    return _answer(call, id, "destroyed", existed)


def _answer(call: Invocation, id: str, what: str, existed: bool) -> ExitCode:
    call.out.action({"id": id, what: existed})
    return ExitCode.DONE if existed else ExitCode.NO


@group.command("list")
def list_(call: Invocation, user: Annotated[str, typer.Argument(help="The user.")]) -> None:
    """List the live sessions of a user, oldest first."""
    with sessions(call) as store:
        found = store.list_for_user(user)
    rows = [(each.id, each.created_at, each.expires_at, each.data) for each in found]
    call.out.rows(HEADER, [rows], Manner(ages=("created_at",)))


@group.command("revoke")
def revoke(
    call: Invocation,
    user: Annotated[str, typer.Argument(help="The user.")],
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="DURATION", help="Only those created before that.")
    ] = None,
) -> None:
    """Delete the sessions of a user on all devices."""
    from katax_cli.core.roles import Tier
    from katax_cli.services.redis.sessions import SessionStore

    age = None if older_than is None else duration(older_than)
    if call.only_planned(user=user, revoked=0):
        return
    with scope(call, REDIS) as chosen:
        chosen.confirm(Tier.DISRUPTIVE, f"end the sessions of {user!r}")
        revoked = SessionStore(chosen.redis).revoke(user, older_than=age)
    call.out.action({"user": user, "revoked": revoked})
