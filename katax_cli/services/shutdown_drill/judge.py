"""From what was seen to one verdict for each check. Pure: the same facts give the same verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from katax_cli.engines.sessions import Orphan, ServerSession
from katax_cli.services.shutdown_drill.values import (
    UNKNOWN,
    WIRE_FAULTS,
    DrillPlan,
    Leftovers,
    Observations,
    OpenTransaction,
    Piece,
    Status,
    Verdict,
)

FORCED_SECONDS = 2.0
"""How long a program may take to leave at a second signal."""
_SHOWN = 5


def judge(plan: DrillPlan, facts: Observations) -> tuple[Verdict, ...]:
    """All checks, in the order in which they are shown."""
    return (
        *(_fault(name, trouble, facts) for name, trouble in facts.faults.items()),
        _in_flight(plan, facts),
        _new_work(plan, facts),
        _pools(plan, facts),
        _left("no_sessions_left", facts, _sessions),
        _left("no_transactions_left", facts, _transactions),
        _left("no_locks_left", facts, _locks),
        _left("no_temporary_keys_left", facts, _keys),
        _processes(facts),
        _exit_code(plan, facts),
        _deadline(plan, facts),
        _second_signal(facts),
        *_budget(plan, facts),
    )


def _fault(name: str, trouble: str | None, facts: Observations) -> Verdict:
    if trouble is None:
        return _verdict(f"fault_{name.replace('-', '_')}", "ok", "applied", facts.signalled)
    return _verdict(f"fault_{name.replace('-', '_')}", "failed", f"not applied: {trouble}", None)


def _in_flight(plan: DrillPlan, facts: Observations) -> Verdict:
    check = "in_flight_finished"
    if trouble := _cannot_finish(plan):
        return _verdict(check, "skipped", trouble, None)
    flying = [piece for piece in facts.pieces if _in_flight_at(piece, facts.signalled)]
    dropped = [piece for piece in flying if piece.outcome == "failed"]
    unknown = [work for work in facts.works if work.fate == UNKNOWN]
    aborted = [work for work in facts.works if work.fate not in ("committed", UNKNOWN)]
    if dropped or aborted:
        details = [
            f"work begun at {_ms(piece.started)} ms: {piece.detail or 'it never came back'}"
            for piece in dropped
        ]
        details += [f"{_transaction(work)} is {work.fate}" for work in aborted]
        return _verdict(check, "failed", _listed(details), facts.exited)
    if unknown:
        details = [_unknown(work) for work in unknown]
        return _verdict(check, "unknown", _listed(details), facts.exited)
    total = len(flying) + len(facts.works)
    if not total:
        why = "no work was in flight at the signal; drive some with --load and --url or --work"
        return _verdict(check, "skipped", why, None)
    last = max((piece.ended or 0.0 for piece in flying), default=facts.exited)
    return _verdict(check, "ok", f"all {total} in flight at the signal finished", last)


def _unknown(work: OpenTransaction) -> str:
    return f"{_transaction(work)}: {work.why}" if work.id else f"{work.server}: {work.why}"


def _transaction(work: OpenTransaction) -> str:
    return f"transaction {work.id.partition('@')[0]} on {work.server}"


def _cannot_finish(plan: DrillPlan) -> str | None:
    faults = [name for name in (*WIRE_FAULTS, "second-signal") if name in plan.faults]
    return f"work cannot finish under {', '.join(faults)}" if faults else None


def _in_flight_at(piece: Piece, moment: float) -> bool:
    return piece.started < moment and (piece.ended is None or piece.ended >= moment)


def _new_work(plan: DrillPlan, facts: Observations) -> Verdict:
    check, latest = "no_new_work", facts.signalled + plan.drain
    if not facts.pieces:
        return _verdict(check, "skipped", "no work was driven; give --load and --url or --work", None)
    if not any(piece.outcome == "done" for piece in facts.pieces):
        return _verdict(check, "failed", f"no work succeeded: {facts.pieces[0].detail}", None)
    taken = [piece for piece in facts.pieces if piece.started > latest and piece.outcome == "done"]
    if taken:
        seconds = taken[-1].started - facts.signalled
        detail = f"still took work {seconds:.1f} s after the signal, {plan.drain:g} s are allowed"
        return _verdict(check, "failed", detail, taken[-1].started)
    last = max(piece.started for piece in facts.pieces if piece.outcome == "done")
    return _verdict(check, "ok", "no work was taken while it drained", last)


def _pools(plan: DrillPlan, facts: Observations) -> Verdict:
    check = "pools_closed"
    if cut := [name for name in WIRE_FAULTS if name in plan.faults]:
        return _verdict(check, "skipped", f"sessions cannot close properly under {', '.join(cut)}", None)
    if not facts.seen or not any(facts.seen.values()):
        return _verdict(check, "skipped", "no session of the program was seen on any server", None)
    dropped = {name: left.dropped for name, left in facts.left.items() if left.dropped and facts.seen[name]}
    if dropped:
        details = [f"{count} on {name}" for name, count in dropped.items()]
        return _verdict(
            check, "failed", f"sessions that did not close properly: {_listed(details)}", facts.exited
        )
    told = [name for name, left in facts.left.items() if left.dropped is not None and facts.seen[name]]
    before = [name for name, at in facts.gone.items() if facts.exited is None or at < facts.exited]
    sure = sorted({*told, *before})
    if not sure:
        return _verdict(check, "skipped", "no server says how a session ended; see no_sessions_left", None)
    return _verdict(check, "ok", f"closed properly: {', '.join(sure)}", facts.exited)


def _left(check: str, facts: Observations, of: Callable[[Leftovers], Iterable[str]]) -> Verdict:
    remains = [f"{each} on {name}" for name, left in facts.left.items() for each in of(left)]
    if remains:
        return _verdict(check, "failed", _listed(remains), facts.exited)
    if not facts.left:
        return _verdict(check, "skipped", "the profile names no server", None)
    silent = [f"{name} was not asked: {left.unknown}" for name, left in facts.left.items() if left.unknown]
    silent += [
        f"{name} does not show it to this user" for name, left in facts.left.items() if check in left.untold
    ]
    if silent:
        return _verdict(check, "unknown", _listed(silent), None)
    return _verdict(check, "ok", f"none on {', '.join(facts.left)}", facts.exited)


def _sessions(left: Leftovers) -> Iterator[str]:
    yield from (_session(session) for session in left.sessions)


def _session(session: ServerSession) -> str:
    doing = f" running {session.doing or 'a statement'}" if session.busy else ""
    return f"session {session.id.partition('@')[0]}{doing}"


def _transactions(left: Leftovers) -> Iterator[str]:
    yield from (f"open in {_session(session)}" for session in left.sessions if session.in_transaction)
    yield from (f"prepared transaction {orphan.name!r}" for orphan in _orphans(left, "transaction"))


def _locks(left: Leftovers) -> Iterator[str]:
    for session in left.sessions:
        yield from (f"{lock} held by {_session(session)}" for lock in session.locks)


def _keys(left: Leftovers) -> Iterator[str]:
    yield from (f"key {orphan.name!r}" for orphan in _orphans(left, "key"))


def _orphans(left: Leftovers, kind: str) -> list[Orphan]:
    return sorted(orphan for orphan in left.orphans if orphan.kind == kind)


def _processes(facts: Observations) -> Verdict:
    if facts.children:
        detail = f"still running: {_listed([str(pid) for pid in facts.children])}"
        return _verdict("no_processes_left", "failed", detail, facts.exited)
    return _verdict("no_processes_left", "ok", "the whole process tree ended", facts.exited)


def _exit_code(plan: DrillPlan, facts: Observations) -> Verdict:
    expected = _expected(plan)
    if facts.killed is not None:
        return _verdict("exit_code", "failed", "none: it had to be killed", facts.killed)
    wanted = " or ".join(map(str, expected))
    if facts.second is not None:
        detail = f"{facts.status}; any is accepted after a second signal"
        return _verdict("exit_code", "ok", detail, facts.exited)
    status: Status = "ok" if facts.status in expected else "failed"
    return _verdict("exit_code", status, f"{facts.status}, expected {wanted}", facts.exited)


def _expected(plan: DrillPlan) -> tuple[int, ...]:
    """A program that has not come to setting its handlers can only be ended by the signal."""
    during_startup = "during-startup" in plan.faults
    return (*plan.expected, 128 + plan.signal) if during_startup else plan.expected


def _deadline(plan: DrillPlan, facts: Observations) -> Verdict:
    check = "within_deadline"
    asked = "second-signal" in plan.faults
    if facts.exited is not None and facts.exited <= facts.signalled:
        return _verdict(check, "failed", "it ended by itself, before the signal", facts.exited)
    if facts.exited is None or facts.killed is not None or (facts.second is not None and not asked):
        return _verdict(check, "failed", f"still ran {plan.grace:g} s after the signal", facts.exited)
    took = facts.exited - facts.signalled
    detail = f"{took:.1f} s from the signal, {plan.grace:g} s are allowed"
    return _verdict(check, "ok" if took <= plan.grace else "failed", detail, facts.exited)


def _second_signal(facts: Observations) -> Verdict:
    check = "second_signal_forces"
    if facts.second is None:
        why = "it ended before a second signal was due; see --fault second-signal"
        return _verdict(check, "skipped", why, None)
    if facts.killed is not None or facts.exited is None:
        detail = f"still ran {FORCED_SECONDS:g} s after the second signal"
        return _verdict(check, "failed", detail, facts.second)
    return _verdict(check, "ok", f"left {facts.exited - facts.second:.1f} s after it", facts.exited)


def _budget(plan: DrillPlan, facts: Observations) -> Iterator[Verdict]:
    if plan.period is None:
        return
    took = (facts.exited if facts.exited is not None else facts.signalled + plan.grace) - facts.signalled
    detail = (
        f"{took:.1f} s measured (up to {plan.grace:g} s allowed), "
        f"terminationGracePeriodSeconds {plan.period:g}"
    )
    fits = max(took, plan.grace) <= plan.period and facts.killed is None
    yield _verdict("kubernetes_budget", "ok" if fits else "failed", detail, facts.exited)


def _verdict(check: str, status: Status, detail: str, at: float | None) -> Verdict:
    return Verdict(check, status, detail, None if at is None else _ms(at))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _listed(details: list[str]) -> str:
    more = f", and {len(details) - _SHOWN} more" if len(details) > _SHOWN else ""
    return ", ".join(details[:_SHOWN]) + more
