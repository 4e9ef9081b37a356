"""One drill: start, work, signal, wait, ask the servers, judge."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack

from katax_cli.core.clock import SYSTEM
from katax_cli.errors import ConfigError
from katax_cli.services.databases.database import Database
from katax_cli.services.shutdown_drill.judge import FORCED_SECONDS, judge
from katax_cli.services.shutdown_drill.load import DrivenCall, Load, requests, runs
from katax_cli.services.shutdown_drill.proxy import Proxy
from katax_cli.services.shutdown_drill.routes import Route, led, rewritten, routes
from katax_cli.services.shutdown_drill.servers import AGAIN_SECONDS, Server, SessionFilter, settled
from katax_cli.services.shutdown_drill.target import DrillTarget, Sink
from katax_cli.services.shutdown_drill.values import (
    WIRE_FAULTS,
    DrillEvent,
    DrillPlan,
    DrillReport,
    Fault,
    Leftovers,
    Observations,
    Piece,
)

_KILLED_SECONDS = 5.0
_SECOND_AFTER = 0.5
_BITE_SECONDS = 0.3
"""Until the program has come to feel a fault, as to wait for an answer."""
_TICK = 0.05
_DDL = frozenset({"CREATE", "ALTER", "DROP", "TRUNCATE", "REINDEX", "RENAME"})


def drill(
    plan: DrillPlan,
    databases: Sequence[Database],
    *,
    sink: Sink,
    environ: Mapping[str, str] | None = None,
) -> DrillReport:
    """Drills one program against the servers of `databases`, which come from a Runtime that is `probing`.

    Leaves no process of the program behind. Raises ConfigError when there is no such program, or nothing that
    work could be driven at.
    """
    call = _call(plan)
    with ExitStack() as stack:
        ways = _ways(plan, databases, stack)
        given = dict(os.environ if environ is None else environ)
        servers = [Server(database, temporary=plan.temporary) for database in databases]
        words = [rewritten(word, ways) for word in plan.command]
        target = stack.enter_context(DrillTarget(words, environ=led(given, ways), sink=sink))
        load = Load(call, max(1, plan.load) if call else 0, now=lambda: target.now, seconds=plan.grace)
        stack.callback(load.stop, 0.0)
        return _Drill(plan, target, servers, load, ways).run()


def _call(plan: DrillPlan) -> DrivenCall | None:
    if plan.url is not None and plan.work:
        raise ConfigError("give one of --url and --work, not both")
    if plan.load and plan.url is None and not plan.work:
        raise ConfigError("--load needs work; give --url or --work")
    if plan.url is not None:
        return requests(plan.url)
    return runs(plan.work) if plan.work else None


def _ways(plan: DrillPlan, databases: Iterable[Database], stack: ExitStack) -> list[Route]:
    if not any(name in WIRE_FAULTS for name in plan.faults):
        return []
    ways = routes(database.settings for database in databases)
    for way in ways:
        stack.callback(way.proxy.close)
    return ways


class _Drill:
    """The course of one drill; what happened is noted as it happens."""

    def __init__(
        self,
        plan: DrillPlan,
        target: DrillTarget,
        servers: Sequence[Server],
        load: Load,
        ways: Sequence[Route],
    ) -> None:
        self._plan = plan
        self._target = target
        self._servers = servers
        self._load = load
        self._ways = ways
        self._events: list[DrillEvent] = []
        self._gone: dict[str, float] = {}
        self._faults: dict[Fault, str | None] = {}
        self._second: float | None = None
        self._killed: float | None = None
        self._whose = SessionFilter(target.mark, plan.client, self._ports)

    def run(self) -> DrillReport:
        self._note("started", 0.0)
        self._load.start()
        self._reach_the_moment()
        signalled = self._strike()
        self._wait_for_the_end(signalled)
        # Each piece has its own end; one that still runs is neither finished nor dropped.
        facts = self._facts(signalled, self._load.stop(max(FORCED_SECONDS, self._plan.grace)))
        return DrillReport(judge(self._plan, facts), tuple(sorted(self._events)))

    def _ports(self) -> frozenset[int]:
        return self._target.ports.union(*(way.proxy.ports for way in self._ways))

    def _reach_the_moment(self) -> None:
        """Returns when the signal is due, or the program ended before."""
        faults = self._plan.faults
        if "during-migration" in faults:
            reached = self._until(self._migrates, self._plan.grace)
            self._faults["during-migration"] = (
                None if reached else "no lock and no DDL of the program was seen"
            )
        elif "during-startup" in faults:
            # Its first process is there and its first session, if that comes soon, has just begun.
            self._until(self._connected, self._plan.after)
            self._faults["during-startup"] = None
        else:
            self._until(self._ready, self._plan.ready_within)
            self._target.ended(self._plan.after)

    def _until(self, reached: Callable[[], bool], seconds: float) -> bool:
        until = SYSTEM.monotonic() + seconds
        while SYSTEM.monotonic() < until and not self._target.ended(0):
            if reached():
                return True
            self._target.ended(_TICK)
        return False

    def _ready(self) -> bool:
        """It answers at its URL, where it has one; else it is connected to a server, and work was done."""
        ready = self._plan.url is not None or self._connected()
        ready = ready and (self._load.done or not self._load.workers)
        if ready:
            self._note("ready")
        return ready

    def _connected(self) -> bool:
        self._target.sample()
        return any(server.sessions(self._whose) for server in self._servers)

    def _migrates(self) -> bool:
        self._target.sample()
        sessions = [session for server in self._servers for session in server.sessions(self._whose)]
        return any(session.locks or session.doing in _DDL for session in sessions)

    def _strike(self) -> float:
        """Lists the sessions once more, applies the faults, and signals; returns when."""
        self._target.sample()
        for server in self._servers:
            server.mark_works(self._whose)
        for name in self._plan.faults:
            if name in WIRE_FAULTS:
                self._faults[name] = self._break(name)
        if {"hung-query", "full-pool"} & set(self._plan.faults):
            self._target.ended(_BITE_SECONDS)
        if self._target.ended(0):
            return self._note("ended before the signal")
        signalled = self._note(f"signal {self._plan.signal.name}")
        self._target.signal(self._plan.signal)
        return signalled

    def _break(self, name: Fault) -> str | None:
        used = [way for way in self._ways if way.proxy.used]
        for way in used:
            _BREAK[name](way.proxy)
        if used:
            self._note(f"fault {name} on {', '.join(way.name for way in used)}")
            return None
        return (
            "the program did not connect through a proxy; its environment or words must name the server "
            "as the profile does, as host:port"
        )

    def _wait_for_the_end(self, signalled: float) -> None:
        if "second-signal" in self._plan.faults:
            self._target.ended(_SECOND_AFTER)
            self._signal_again()
            self._faults["second-signal"] = (
                None if self._second is not None else "the program had ended before it was due"
            )
        elif not self._watch(signalled + self._plan.grace):
            self._signal_again()
        if not self._target.ended(0):
            self._note("killed")
            self._killed = self._target.now
            self._target.signal(signal.SIGKILL)
            self._target.ended(_KILLED_SECONDS)
        if self._target.exited is not None:
            self._note(f"exited with {self._target.status}", self._target.exited)

    def _watch(self, until: float) -> bool:
        """Watches the servers until the program ended; False when it did not."""
        while not self._target.ended(AGAIN_SECONDS):
            for server in self._servers:
                if server.seen and not server.sessions(self._whose) and server.unknown is None:
                    self._see_gone(server)
            if self._target.now > until:
                return False
        return True

    def _see_gone(self, server: Server) -> None:
        if server.name not in self._gone:
            self._gone[server.name] = self._note(f"no session left on {server.name}")

    def _signal_again(self) -> None:
        # The kernel would make one of both, and a program that had no time yet would seem to ignore the second.
        self._target.taken(self._plan.signal, FORCED_SECONDS)
        if not self._target.ended(0):
            self._second = self._note(f"second signal {self._plan.signal.name}")
            self._target.signal(self._plan.signal)
            self._target.ended(FORCED_SECONDS)

    def _facts(self, signalled: float, pieces: Sequence[Piece]) -> Observations:
        left = settled(self._servers, self._whose, seconds=self._plan.settle)
        self._note_left(left)
        works = [work for server in self._servers for work in server.fates()]
        self._note_work(pieces)
        return Observations(
            signalled=signalled,
            exited=self._target.exited,
            status=self._target.status,
            second=self._second,
            killed=self._killed,
            children=self._target.children(),
            pieces=tuple(pieces),
            works=tuple(works),
            left=left,
            seen={server.name: len(server.seen) for server in self._servers},
            gone=self._gone,
            faults=self._faults,
        )

    def _note_left(self, left: Mapping[str, Leftovers]) -> None:
        for server in self._servers:
            found = left[server.name]
            if found.unknown is not None:
                self._note(f"{server.name} could not be asked")
            elif found.sessions:
                self._note(f"{len(found.sessions)} sessions left on {server.name}")
            elif server.seen:
                self._see_gone(server)

    def _note_work(self, pieces: Sequence[Piece]) -> None:
        done = [piece for piece in pieces if piece.outcome == "done" and piece.ended is not None]
        if done:
            self._note("last work taken", max(piece.started for piece in done))
            self._note("last work finished", max(piece.ended or 0.0 for piece in done))

    def _note(self, event: str, at: float | None = None) -> float:
        moment = self._target.now if at is None else at
        self._events.append(DrillEvent(round(moment * 1000), event))
        return moment


_BREAK: Mapping[Fault, Callable[[Proxy], None]] = {
    "hung-query": Proxy.hang,
    "full-pool": Proxy.refuse_new,
    "dead-db": Proxy.die,
}
