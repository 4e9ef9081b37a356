"""The plan of a drill and its findings, as frozen values. Times are float seconds unless named `_ms`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from signal import Signals
from typing import Literal, NamedTuple, get_args

from katax_cli.engines.sessions import Orphan, ServerSession

Status = Literal["ok", "failed", "unknown", "skipped"]
UNKNOWN = "unknown"
"""The fate of a transaction that cannot be known."""
Fault = Literal["hung-query", "full-pool", "second-signal", "dead-db", "during-startup", "during-migration"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
WIRE_FAULTS: tuple[Fault, ...] = ("hung-query", "full-pool", "dead-db")
"""Those that need a proxy between the program and its servers."""
GRACE_SECONDS = 30.0
"""How long a program may take from the signal to its end, as a pod without a limit of its own."""
READY_SECONDS = 10.0
"""How long is waited for the first sign that a program works."""
SETTLE_SECONDS = 3.0
"""How long servers may take to notice that their client ended."""


class Verdict(NamedTuple):
    """One check: whether it held, what was seen, and when, in milliseconds since the program's start."""

    check: str
    status: Status
    detail: str
    at_ms: int | None = None


class DrillEvent(NamedTuple):
    """Something that happened, in milliseconds since the program's start."""

    at_ms: int
    event: str


@dataclass(frozen=True, slots=True)
class DrillPlan:
    """The plan of a drill. `expected` are the exit statuses of a clean end.

    `after` is how long it runs before the signal, counted from when it is ready; `drain` how long it may go on
    taking work after the signal, for load balancers that have not heard yet; `client` a pattern of the
    application or client names that its sessions have; `period` is Kubernetes'
    terminationGracePeriodSeconds, in which all of it has to fit.
    """

    command: tuple[str, ...]
    signal: Signals = Signals.SIGTERM
    grace: float = GRACE_SECONDS
    after: float = 2.0
    drain: float = 1.0
    load: int = 0
    url: str | None = None
    work: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    expected: tuple[int, ...] = (0,)
    client: str | None = None
    temporary: tuple[str, ...] = ()
    period: float | None = None
    ready_within: float = READY_SECONDS
    settle: float = SETTLE_SECONDS


WorkOutcome = Literal["done", "refused", "failed"]


class Piece(NamedTuple):
    """One piece of work that was driven; `ended` is None when it never came back."""

    started: float
    ended: float | None = None
    outcome: WorkOutcome = "failed"
    detail: str = ""


class OpenTransaction(NamedTuple):
    """A transaction that was open on a server at the signal, and what became of it."""

    server: str
    id: str
    fate: str
    why: str = ""


class Leftovers(NamedTuple):
    """The rest of the program on a server, the checks it cannot answer, or why it could not be asked."""

    sessions: tuple[ServerSession, ...] = ()
    orphans: frozenset[Orphan] = frozenset()
    dropped: int | None = None
    unknown: str | None = None
    untold: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Observations:
    """The observations of one drill; moments are seconds since the program's start.

    `seen` are the sessions that the program had on each server; `gone` is when a server was first seen
    without any; `faults` say of each why it could not be applied, None when it was.
    """

    signalled: float
    exited: float | None
    status: int | None
    second: float | None = None
    killed: float | None = None
    children: tuple[int, ...] = ()
    pieces: tuple[Piece, ...] = ()
    works: tuple[OpenTransaction, ...] = ()
    left: Mapping[str, Leftovers] = field(default_factory=dict)
    seen: Mapping[str, int] = field(default_factory=dict)
    gone: Mapping[str, float] = field(default_factory=dict)
    faults: Mapping[Fault, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DrillReport:
    """The checks of one drill, and what happened in which order."""

    verdicts: tuple[Verdict, ...]
    timeline: tuple[DrillEvent, ...]

    @property
    def passed(self) -> bool:
        """True when every check held; a skipped one had nothing to check, an unknown one could not be made."""
        return all(verdict.status in ("ok", "skipped") for verdict in self.verdicts)
