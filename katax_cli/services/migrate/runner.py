"""Runs one migration: in a transaction together with its record, or step by step with an intent before each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from json import dumps
from math import ceil
from typing import NamedTuple, TypeVar

from katax_cli.core.clock import SYSTEM, Clock, utc_text
from katax_cli.core.resilience.retry import Repeats, RetryPolicy
from katax_cli.core.sql import AnySql, Statement
from katax_cli.engines.base import Params
from katax_cli.engines.migrations import KeepsSettings, LimitsPackets, Migrates, SendsTogether
from katax_cli.errors import MigrationError, QueryError, RolledBack, StatementFailed, Unavailable
from katax_cli.services.calls.guard import Safety
from katax_cli.services.locks.migration_lock import LedgerLock
from katax_cli.services.migrate.connection import MigrationConnection
from katax_cli.services.migrate.files.python import Once
from katax_cli.services.migrate.files.python_errors import failing_as
from katax_cli.services.migrate.jobs import MigrationJob
from katax_cli.services.migrate.ledger.ledger import Recording, SqlLedger
from katax_cli.services.migrate.ledger.packing import WHOLE, packed
from katax_cli.services.migrate.stepwise import Stepwise, failed_line, run_statement
from katax_cli.services.migrate.values import Outcome

T = TypeVar("T")
OnDone = Callable[[Outcome], object]
Reply = Callable[[], tuple[int, BaseException] | None]
_HEAD = 64
"""Bytes that a packet has before a statement."""

LOCK_RETRY = RetryPolicy(attempts=10, initial=0.5, max=15.0, total=600.0)
"""How a file with a lock timeout waits for its turn: it gets out of the way, and tries again with jitter."""


_AT_ONCE = 200
"""Statements that are sent without waiting for the answers of those before."""


class _Uncommitted(NamedTuple):
    """A job whose statements ran; its record and COMMIT are to be sent."""

    job: MigrationJob
    outcome: Outcome
    runner: str


class Runner:
    """Runs jobs one after the other under the lock; `on_note(text)` hears what goes on."""

    def __init__(
        self,
        session: MigrationConnection,
        ledger: SqlLedger,
        lock: LedgerLock,
        engine: Migrates,
        *,
        on_note: Callable[[str], None] = lambda _: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.session = session
        self.ledger = ledger
        self.engine = engine
        self._lock = lock
        self._note = on_note
        self._clock = clock
        self._started = 0.0
        self._may_be_lost = True
        self._together_by = engine if isinstance(engine, SendsTogether) else None

    @property
    def _sends_together(self) -> SendsTogether:
        assert self._together_by is not None
        return self._together_by

    def run_all(self, jobs: Sequence[MigrationJob], on_done: OnDone) -> list[Outcome]:
        """Runs jobs in order; `on_done` hears of each after its commit. Raises what `run` raises.

        Where it can, the COMMIT of one job shares a round trip with the statements of the next, which the server
        begins only after it.
        """
        outcomes: list[Outcome] = []

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            on_done(outcome)

        uncommitted: _Uncommitted | None = None
        for job in jobs:
            if self._is_quick(job):
                uncommitted = self._begun(job, uncommitted, done)
                continue
            self._ended(uncommitted, done)
            uncommitted = None
            done(self.run(job))
        self._ended(uncommitted, done)
        return outcomes

    def _is_quick(self, job: MigrationJob) -> bool:
        """True for a few statements that can neither wait for their turn nor change the session or its locks."""
        return (
            self._together_by is not None
            and not self._may_be_lost
            and job.is_plain
            and len(job.statements) < _AT_ONCE
            and self.in_transaction(job)
            and job.directives.lock_timeout is None
            and not (job.may_release_locks or job.may_set_session)
        )

    def _begun(self, job: MigrationJob, before: _Uncommitted | None, done: OnDone) -> _Uncommitted:
        """Runs the statements of a job, after the COMMIT of the one before it."""
        engine, connection = self._sends_together, self.session.connection
        self._started = self._clock.monotonic()
        runner, batch = self._lock.note(job.name), self._beginning(job)
        with self._undoing():
            if before is None:
                self._begin(lambda: engine.together(connection, batch, runner), job)
            else:
                last = self._ending(before)
                with closing(engine.in_turn(connection, last, batch, runner)) as replies:
                    self._end(lambda: next(replies), before)
                    done(before.outcome)
                    self._begin(lambda: next(replies), job)
        return _Uncommitted(job, self._outcome(job), runner)

    def _ended(self, uncommitted: _Uncommitted | None, done: OnDone) -> None:
        """Commits what is open."""
        if uncommitted is not None:
            last = self._ending(uncommitted)
            with self._undoing():
                self._end(
                    lambda: self._sends_together.together(self.session.connection, last, ""), uncommitted
                )
            done(uncommitted.outcome)

    def _begin(self, reply: Reply, job: MigrationJob) -> None:
        self._patiently(job, lambda: self._hear(reply, Safety.PART, job))

    def _end(self, reply: Reply, uncommitted: _Uncommitted) -> None:
        self._patiently(uncommitted.job, lambda: self._hear_end(reply, uncommitted))

    def run(self, job: MigrationJob) -> Outcome:
        """Returns after the commit. Raises StatementFailed, Unavailable, OutcomeUnknown, LockLost."""
        self._started = self._clock.monotonic()
        self._refuse_oversized(job)
        runner = self._announced(job)
        if job.locks_tables_at is not None:
            self._note(
                f"{job.name}: LOCK TABLES at line {job.locks_tables_at} is not run; "
                "changes and their record share a transaction instead"
            )
        return self._from_its_beginning(job, runner)

    def _from_its_beginning(self, job: MigrationJob, runner: str, *, of_a_part: bool = False) -> Outcome:
        with self.taking_back(job), self._lock_timeout(job):
            if self.in_transaction(job):
                return self._patiently(job, lambda: self._as_a_whole(job, runner))
            steps = self._stepwise(job, of_a_part=of_a_part)
            self.ledger.begin(self.session, job.file, job.direction, runner)
            return steps.run(0)

    @contextmanager
    def taking_back(self, job: MigrationJob) -> Iterator[None]:
        """Takes back what a job that succeeded left in the session: it does not reach the next."""
        if not (job.may_set_session and isinstance(self.engine, KeepsSettings)):
            yield
            return
        before = self.session.ask(self.engine.settings)
        yield
        self.session.ask(self.engine.take_back, before, job.temporary_tables(self.session.dialect))
        # The note for those who wait is a setting, too.
        self._may_be_lost = True

    def revert_rest(self, job: MigrationJob) -> Outcome:
        """Runs the DOWN of a migration that stopped in its middle; it stays unfinished when that fails."""
        self._started = self._clock.monotonic()
        self._refuse_oversized(job)
        return self._from_its_beginning(job, self._lock.announce(job.name), of_a_part=True)

    def resume(self, job: MigrationJob, *, assume: str | None = None, drop_invalid: bool = False) -> Outcome:
        """Goes on with a job that was stopped, after what is known to be done.

        `assume` ("done" or "undone") answers for the unit under way where that cannot be known.
        Raises OutcomeUnknown when it cannot be known, and shows both states.
        """
        self._started = self._clock.monotonic()
        self._refuse_oversized(job)
        runner = self._lock.announce(job.name)
        steps = self._stepwise(job)
        if drop_invalid:
            steps.drop_invalid_index()
        with self.taking_back(job):
            start = steps.where_to_go_on(assume)
            self.ledger.reopen(self.session, job.file, runner)
            with self._lock_timeout(job):
                return steps.run(start)

    def _refuse_oversized(self, job: MigrationJob) -> None:
        """Raises MigrationError for a statement that the server would not take, before any is run."""
        longest = max((len(one.text) for one in job.statements), default=0)
        if longest < WHOLE or not isinstance(self.engine, LimitsPackets):
            return
        limit = self.session.ask(self.engine.packet_limit)
        for statement in job.statements:
            size = len(statement.text.encode("utf-8", "surrogatepass"))
            # What changes no rows is written down before it runs, too.
            if statement.kind not in ("read", "write", "copy"):
                size = max(size, len(packed(dumps(statement.text))) + WHOLE)
            if size + _HEAD > limit:
                raise MigrationError(
                    f"migration {job.name} has a statement of {size} bytes at line {statement.line}, and the server "
                    f"takes {limit} (max_allowed_packet); split it or raise the limit; nothing was run"
                )

    def _announced(self, job: MigrationJob) -> str:
        """Writes the note for waiters. Raises LockLost.

        What is sent together carries its note, and a lock of the session that runs it can be lost without
        that session only by a statement that releases it.
        """
        carries = self._together_by is not None and job.is_plain and self.in_transaction(job)
        may_be_lost, self._may_be_lost = self._may_be_lost, job.may_release_locks
        return self._lock.note(job.name) if carries and not may_be_lost else self._lock.announce(job.name)

    def in_transaction(self, job: MigrationJob) -> bool:
        return self.engine.facts.transactional_ddl and job.directives.transaction

    def _stepwise(self, job: MigrationJob, *, of_a_part: bool = False) -> Stepwise:
        return Stepwise(
            job,
            of_a_part=of_a_part,
            session=self.session,
            ledger=self.ledger,
            engine=self.engine,
            check_lock=lambda: self._lock.announce(job.name),
            patiently=self._patiently,
            outcome=lambda: self._outcome(job),
        )

    def _as_a_whole(self, job: MigrationJob, runner: str) -> Outcome:
        if self._together_by is not None and job.is_plain:
            return self._together(self._together_by, job, runner)
        with self.session.transaction(timeout=job.directives.lock_timeout):
            if job.function is not None:
                run_python(job, self.session)
            for statement in job.statements:
                self._statement(job, statement)
            outcome = self._outcome(job)
            for sql, values in self._record(job, outcome, runner):
                self.session.run(sql, values)
        return outcome

    def _together(self, engine: SendsTogether, job: MigrationJob, runner: str) -> Outcome:
        """The same in few round trips: what can be lost without harm, and then what ends in COMMIT."""
        connection, texts = self.session.connection, self._beginning(job)
        with self._undoing():
            for start in range(0, len(texts), _AT_ONCE):
                batch = texts[start : start + _AT_ONCE]
                self._hear(
                    lambda batch=batch: engine.together(connection, batch, runner),  # type: ignore[misc]
                    Safety.PART,
                    job,
                    first=start - 1,
                )
            uncommitted = _Uncommitted(job, self._outcome(job), runner)
            last = self._ending(uncommitted)
            self._hear_end(lambda: engine.together(connection, last, ""), uncommitted)
        return uncommitted.outcome

    def _beginning(self, job: MigrationJob) -> list[tuple[AnySql, Params]]:
        return [(self.session.engine.facts.begin, None), *((statement, None) for statement in job.statements)]

    def _ending(self, uncommitted: _Uncommitted) -> list[tuple[AnySql, Params]]:
        return [*self._record(*uncommitted), ("COMMIT", None)]

    @contextmanager
    def _undoing(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.session.roll_back(error)
            raise

    def _hear_end(self, reply: Reply, uncommitted: _Uncommitted) -> None:
        job = uncommitted.job
        self._hear(reply, Safety.WRITE, job, first=len(job.statements))

    def _hear(self, reply: Reply, safety: Safety, job: MigrationJob, *, first: int = -1) -> None:
        """Waits for the reply to a batch that began with the statement of number `first`, from 0 on; -1 is BEGIN."""
        index = 0
        try:
            with self.session.guarded(safety=safety):
                refused = reply()
                if refused is not None:
                    index, error = refused
                    raise error
        except RolledBack:
            raise
        except QueryError as error:
            at = min(max(first + index, 0), len(job.statements) - 1)
            raise self._failed(job, job.statements[at], error) from error

    def _record(self, job: MigrationJob, outcome: Outcome, runner: str) -> list[Recording]:
        if job.direction == "down":
            return [self.ledger.removing(job.version)]
        at, took = outcome.applied_at, outcome.duration_ms
        return self.ledger.recording(job.file, applied_at=at, duration_ms=took, runner=runner)

    def _statement(self, job: MigrationJob, statement: Statement) -> None:
        try:
            run_statement(self.session, job, statement)
        except RolledBack:
            raise
        except QueryError as error:
            raise self._failed(job, statement, error) from error

    def _failed(self, job: MigrationJob, statement: Statement, error: QueryError) -> StatementFailed:
        line = failed_line(self.session, statement, error)
        return StatementFailed(job.name, line=line, reason=str(error), kept="nothing of it was applied")

    def _outcome(self, job: MigrationJob) -> Outcome:
        took = round((self._clock.monotonic() - self._started) * 1000)
        return Outcome(job.version, job.name, job.direction, utc_text(self._clock), took)

    @contextmanager
    def _lock_timeout(self, job: MigrationJob) -> Iterator[None]:
        seconds, facts = job.directives.lock_timeout, self.engine.facts
        if seconds is None or not facts.set_lock_timeout:
            yield
            return
        self.session.run(
            facts.set_lock_timeout.format(ms=max(1, ceil(seconds * 1000)), seconds=max(1, ceil(seconds)))
        )
        yield
        self.session.run(facts.reset_lock_timeout)

    def _patiently(self, job: MigrationJob, attempt: Callable[[], T]) -> T:
        """Runs `attempt` again when a lock was not granted in time and the file says how long to wait."""
        repeats = Repeats(LOCK_RETRY, self._clock)
        while True:
            try:
                return attempt()
            except Unavailable as error:
                if not self.session.is_lock_wait(error):
                    raise
                left = self.session.deadline.remaining()
                pause = repeats.pause(remaining=left) if job.directives.lock_timeout is not None else None
                if pause is None:
                    raise Unavailable(self.session.name, f"migration {job.name}: {error.reason}") from error
                self._note(f"{job.name}: {error.reason}; retrying in {pause:.1f} s")
                self._clock.sleep(pause)


def run_python(job: MigrationJob, session: MigrationConnection) -> None:
    """Runs a function of a `.py` file in the transaction that is open."""
    assert job.function is not None
    with failing_as(job, "nothing of it was applied"):
        job.function(session.handle(Once()))
