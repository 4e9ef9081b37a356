"""Operators' control of circuits: refuse calls to a server, admit them again, list reports."""

from __future__ import annotations

import getpass
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.errors import KataxError, Unavailable
from katax_cli.profiles.sources.home import ensure_home
from katax_cli.services.runtime.decisions import (
    CircuitAction,
    HostCopy,
    OperatorDecision,
    newest,
)
from katax_cli.services.state.store import Breaker, StateStore
from katax_cli.snapshot import BreakerState, Circuit, Process


def decide(
    store: StateStore,
    connection: str,
    action: CircuitAction,
    *,
    seconds: float | None = None,
    reason: str | None = None,
    clock: Clock = SYSTEM,
) -> Circuit:
    """Records a decision for all processes of the profile, on this host at once.

    Long-lived processes follow within two seconds. Raises UnknownConnection; and Unavailable when the state
    database cannot be written: then the decision holds for the commands and processes of this host only.
    """
    profile = store.profile
    profile.connection(connection)
    now = clock.now()
    ends_at = None if seconds is None else now + seconds
    decision = OperatorDecision(secrets.token_hex(8), connection, action, now, ends_at, reason, _operator())
    ensure_home(profile.home)
    copy = HostCopy(profile.home, profile.name)
    with copy.locked():
        try:
            store.decide(decision)
        except KataxError as error:
            copy.write(newest(copy.decisions().values(), [decision]).values())
            why = f"{error}; the decision holds on this host only"
            raise Unavailable(profile.state.connection.name, why) from error
        copy.write(known(store).values())
    return _decided(connection, decision, now)


def known(store: StateStore) -> dict[str, OperatorDecision]:
    """The decisions of the state database and this host's copy, the later of both. Raises KataxError."""
    copy = HostCopy(store.profile.home, store.profile.name)
    return newest(copy.decisions().values(), store.decisions().values())


def circuits(store: StateStore, *, clock: Clock = SYSTEM) -> list[Circuit]:
    """Every connection of the profile: what is decided, then what each living process reports. Raises KataxError."""
    return rows_of(
        store.profile.connections, known(store), store.processes(), store.breakers(), now=clock.now()
    )


def rows_of(
    names: Iterable[str],
    decisions: Mapping[str, OperatorDecision],
    processes: Sequence[Process],
    breakers: Sequence[Breaker],
    *,
    now: float,
) -> list[Circuit]:
    """The same, of what was read."""
    living = {process.id: process for process in processes}
    reported = [breaker for breaker in breakers if breaker.process in living]
    return [row for name in names for row in _rows(name, decisions.get(name), reported, living, now)]


def _rows(
    name: str,
    decision: OperatorDecision | None,
    reported: list[Breaker],
    living: dict[str, Process],
    now: float,
) -> Iterator[Circuit]:
    yield _decided(name, decision, now)
    for breaker in reported:
        if breaker.connection.partition("/")[0] == name:
            yield _reported(breaker, living[breaker.process])


def _decided(name: str, decision: OperatorDecision | None, now: float) -> Circuit:
    state: BreakerState = "closed"
    if decision is not None and decision.keeps_off(now):
        state = "forced_open"
    elif decision is not None and decision.action == "disable":
        state = "disabled"
    if decision is None or state == "closed":
        return Circuit(name, state, 0, None, None, None, None)
    return Circuit(name, state, 0, None, _moment(decision.ends_at), _reason(decision), None)


def _reason(decision: OperatorDecision) -> str:
    """The reason of a decision, or at least its author."""
    return decision.reason or f"{decision.action} by {decision.decided_by}"


def _reported(breaker: Breaker, process: Process) -> Circuit:
    return Circuit(
        breaker.connection,
        breaker.state,
        breaker.failures,
        _moment(breaker.last_failure_at),
        _moment(breaker.next_probe_at),
        breaker.reason,
        process.label,
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(round(seconds, 3)).astimezone()


def _operator() -> str:
    """The person who decides, as shown to users whose calls are refused."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
