"""`katax lock`: run a program under a lock, list and release locks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import duration, limit
from katax_cli.cli.shell.output import Manner
from katax_cli.cli.shell.scope import Target, scope
from katax_cli.core.engine_names import LOCK_ENGINES

if TYPE_CHECKING:
    from katax_cli.services.databases.database import Database
    from katax_cli.services.locks.lock import HeldLock

group = Group()

LOCKING = Target(types=LOCK_ENGINES, preferred="cache", lacks="locks")
HEADER = ("name", "token", "host", "pid", "acquired_at", "ttl_seconds", "session")

Name = Annotated[str, typer.Argument(help="Name of the lock.")]


@group.command("run")
def run(
    call: Invocation,
    name: Name,
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="Runs in its own process group.")],
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="DURATION", help="Lifetime; renewed every third of it.")
    ] = "30s",
    wait: Annotated[str, typer.Option("--wait", metavar="DURATION", help="Longest wait for the lock.")] = "0",
    max_hold: Annotated[
        str, typer.Option("--max", metavar="DURATION", help="Longest time to hold the lock.")
    ] = "24h",
) -> int:
    """Run CMD while holding a lock; its token is in KATAX_LOCK_TOKEN. Exit 5: held, 6: lost, else CMD's status."""
    from katax_cli.services.locks.run_under_lock import run_under

    options = {"ttl": limit(ttl), "wait": duration(wait), "max_hold": limit(max_hold)}
    if call.only_planned(lock=name, command=command):
        return ExitCode.DONE
    with scope(call, LOCKING, endless=True) as chosen:
        database = chosen.runtime.open(chosen.one.past_pooler())
        return run_under(database, name, command, tell=call.diagnostics.note, **options)


@group.command("ls")
def ls(
    call: Invocation,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all.")] = None,
) -> ExitCode:
    """List held locks and their holders, as far as the server knows."""
    from katax_cli.services.locks.run_under_lock import held_locks

    def work(database: Database) -> list[tuple[object, ...]]:
        return [_row(held) for held in held_locks(database, names or ())]

    with scope(call, LOCKING) as chosen:
        return chosen.answer_each(HEADER, work, manner=Manner(ages=("acquired_at",)))


def _row(held: HeldLock) -> tuple[object, ...]:
    """One row; what another program's lock does not say is empty."""
    ttl = None if held.ttl is None else round(held.ttl, 3)
    return (held.name, held.token, held.host, held.pid, held.acquired_at, ttl, held.session)


@group.command("release")
def release(call: Invocation, name: Name) -> ExitCode:
    """Release a lock by force, whoever holds it; exit 1 when it is free."""
    from katax_cli.core.roles import Tier
    from katax_cli.services.locks.run_under_lock import release_by_force

    if call.only_planned(lock=name, released=False):
        return ExitCode.DONE
    with scope(call, LOCKING) as chosen:
        chosen.confirm(Tier.DISRUPTIVE, f"take the lock {name!r} from its holder")
        released = release_by_force(chosen.runtime.open(chosen.one.past_pooler()), name)
    call.out.action({"lock": name, "released": released})
    return ExitCode.DONE if released else ExitCode.NO
