"""`katax circuit`: trip, reset and disable circuits, list breakers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import limit
from katax_cli.cli.shell.output import Manner

if TYPE_CHECKING:
    from katax_cli.services.runtime.decisions import CircuitAction
    from katax_cli.services.state.store import StateStore

group = Group()

Name = Annotated[str, typer.Argument(metavar="NAME", help="Connection of the profile.")]


@contextmanager
def state(call: Invocation) -> Iterator[StateStore]:
    """The state database of the chosen profile."""
    from katax_cli.services.state.store import StateStore

    with call.logged_profile(probing=True) as profile, StateStore(profile) as store:
        yield store


@group.command("ls")
def ls(call: Invocation) -> None:
    """List the decision about each connection, and the breakers of living processes."""
    from katax_cli.services.state.circuits import circuits
    from katax_cli.snapshot import Circuit

    with state(call) as store:
        rows = circuits(store)
    call.out.rows(Circuit._fields, [rows], Manner(ages=("last_failure_at",)))


@group.command("trip")
def trip(
    call: Invocation,
    name: Name,
    for_: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="DURATION", help="Time until calls are admitted again; none: until reset."
        ),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Reason, shown to refused callers.")
    ] = None,
) -> None:
    """Trip a circuit: refuse calls to a connection in all commands and processes, with the reason."""
    from katax_cli.cli.shell.confirm import Tier, confirm

    seconds = None if for_ is None else limit(for_)
    with state(call) as store:
        # What the servers of a read-only connection are spared is no change of theirs.
        settings = replace(store.profile.connection(name), read_only=False)
        if call.only_planned(connection=name, state="forced_open"):
            return
        confirm(call, store.profile, settings, Tier.DISRUPTIVE, f"trip the circuit of {name!r}")
        _decide(call, store, name, "trip", seconds=seconds, reason=reason)


@group.command("reset")
def reset(call: Invocation, name: Name) -> None:
    """Reset a circuit: admit calls again, and close the breakers of all processes."""
    with state(call) as store:
        if not call.only_planned(connection=store.profile.connection(name).name, state="closed"):
            _decide(call, store, name, "reset")


@group.command("disable")
def disable(
    call: Invocation,
    name: Name,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Reason, shown to refused callers.")
    ] = None,
) -> None:
    """Disable a circuit: admit all calls despite failures, in all processes, until a reset."""
    with state(call) as store:
        if not call.only_planned(connection=store.profile.connection(name).name, state="disabled"):
            _decide(call, store, name, "disable", reason=reason)


def _decide(
    call: Invocation,
    store: StateStore,
    name: str,
    action: CircuitAction,
    *,
    seconds: float | None = None,
    reason: str | None = None,
) -> None:
    from katax_cli.services.state.circuits import decide

    call.out.action(decide(store, name, action, seconds=seconds, reason=reason)._asdict())
