"""Circuits as rows: one for each connection, the processes that report a breaker below it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from katax_cli.snapshot import Circuit
from katax_cli.tui.glyphs import FADED, ago, number, said, state, until
from katax_cli.tui.table import TableRow

_URGENCY: dict[str, int] = {"open": 0, "forced_open": 0, "half_open": 1, "disabled": 2, "closed": 3}


def circuit_rows(circuits: Sequence[Circuit], now: float) -> Iterator[TableRow]:
    """Connections whose circuit is not closed come first."""
    groups: dict[str, list[Circuit]] = {}
    for circuit in circuits:
        # Replicas have circuits of their own, named after their connection.
        groups.setdefault(circuit.connection.partition("/")[0], []).append(circuit)
    for name, members in sorted(groups.items(), key=lambda group: _urgency(_worst(group[1]))):
        yield _connection(name, members, now)
        yield from (_process(name, member, now) for member in members if member.process is not None)


def _worst(circuits: Sequence[Circuit]) -> Circuit:
    """The operator's decision, else the worst circuit that a process reports."""
    decided = (circuit for circuit in circuits if _is_decided(circuit))
    return next(decided, min(circuits, key=lambda circuit: _urgency(circuit)))


def _urgency(circuit: Circuit) -> int:
    """A state that another version of katax reports may be anything."""
    return _URGENCY.get(circuit.state, 0)


def _is_decided(circuit: Circuit) -> bool:
    return circuit.process is None and circuit.state != "closed"


def _connection(name: str, circuits: Sequence[Circuit], now: float) -> TableRow:
    worst = _worst(circuits)
    reported = [circuit for circuit in circuits if circuit.process is not None]
    alike = sum(circuit.state == worst.state for circuit in reported)
    where = "all" if _is_decided(worst) else f"{alike} of {len(reported)}" if reported else ""
    return TableRow(name, name, _cells(said(name, "bold"), worst, where, now))


def _process(name: str, circuit: Circuit, now: float) -> TableRow:
    _, _, replica = circuit.connection.partition("/")
    label = said(" ".join(filter(None, ("└", replica, circuit.process))))
    return TableRow(f"{circuit.connection} {circuit.process}", name, _cells(label, circuit, "", now))


def _cells(label: Text, circuit: Circuit, where: str, now: float) -> tuple[Text, ...]:
    return (
        label,
        state(circuit.state),
        number(circuit.failures),
        Text(until(circuit.next_probe_at, now)),
        Text(ago(circuit.last_failure_at, now), justify="right"),
        said(where, FADED),
        said(circuit.reason or ""),
    )
