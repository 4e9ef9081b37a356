"""The questions of a shell before a write is sent, or before it lasts, and what it writes into the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from katax_cli.cli.db.repl.languages import Dialogue, Request
from katax_cli.cli.db.review import ANSWER_SECONDS, counted_rows, refuse_unasked, review_of
from katax_cli.cli.shell.confirm import agreed, agrees
from katax_cli.cli.shell.journal import WriteRecord, recorded
from katax_cli.cli.shell.scope import Scope
from katax_cli.errors import KataxError, OutcomeUnknown, Refused


class Writes:
    """The writes of one shell: asked about as those of `db query`; of a transaction recorded when it has ended."""

    def __init__(self, chosen: Scope, dialogue: Dialogue) -> None:
        self._chosen = chosen
        self._settings = chosen.one
        self._dialogue = dialogue
        self._pending: list[tuple[ExitStack, WriteRecord]] = []

    def agree(self, request: Request) -> bool:
        """Returns when it may be sent; True when it is to be asked about again before it lasts. Raises Refused.

        A transaction of the one who types is the place to look at changes, so there nothing is asked again.
        """
        with ExitStack() as stack:
            if request.journal is not None:
                stack.enter_context(
                    recorded(self._chosen, self._settings, request.journal, refusals_only=True)
                )
            if request.harm is not None:
                self._chosen.confirm(*request.harm)
            if request.irrevocable:
                self._ask_first(request)
            statement = request.statement
            if statement is None or not statement.effect.changes_rows:
                return False
            if self._dialogue.state != "none":
                refuse_unasked(self._chosen, self._settings, max_rows=None)
                return False
            review = review_of(self._chosen, self._settings, [statement], max_rows=None)
            return review is not None and review.asks and review.in_transaction

    def _ask_first(self, request: Request) -> None:
        """Asks on production about a change that cannot be rolled back."""
        call, profile = self._chosen.call, self._chosen.profile
        refuse_unasked(self._chosen, self._settings, max_rows=None)
        if profile.role != "prod" or agreed(call, profile, self._settings) or self._settings.read_only:
            return
        what = f"{request.journal} on {profile.name}/{self._settings.name}"
        if not agrees(call, f"{what} cannot be rolled back; send it?"):
            raise Refused(f"{what}: not confirmed; nothing was sent")

    def settle(self, request: Request, changed: int | None, end: Callable[[str], object]) -> None:
        """Asks whether a change shall last, and ends its transaction. Raises Refused once it is rolled back."""
        verb = request.statement.effect.verb if request.statement is not None else ""
        name = f"{self._chosen.profile.name}/{self._settings.name}"
        question = f"{verb} on {name} changes {counted_rows(changed)}; commit within {ANSWER_SECONDS:g} s?"
        try:
            answer = agrees(self._chosen.call, question, within=ANSWER_SECONDS)
        except BaseException:
            end("ROLLBACK")
            raise
        if answer:
            end("COMMIT")
            return
        end("ROLLBACK")
        why = f"no answer in {ANSWER_SECONDS:g} s" if answer is None else "not confirmed"
        raise Refused(f"{verb} on {name!r}: {why}; rolled back")

    @contextmanager
    def recording(self, request: Request) -> Iterator[WriteRecord]:
        """Records a write; in an open transaction once that has ended, as which `ended` tells."""
        if request.journal is None:
            yield WriteRecord()
            return
        joins = self._dialogue.state == "open"
        with ExitStack() as stack:
            record = stack.enter_context(recorded(self._chosen, self._settings, request.journal))
            yield record
            if joins and self._dialogue.state in ("open", "failed"):
                self._pending.append((stack.pop_all(), record))

    def ended(self, *, committed: bool, error: BaseException | None = None) -> None:
        """Completes the entries of a transaction once it is no longer open."""
        if self._dialogue.state in ("open", "failed"):
            return
        pending, self._pending = self._pending, []
        for stack, record in pending:
            if isinstance(error, OutcomeUnknown):
                fate: KataxError | None = error
            else:
                fate = None if committed and error is None else Refused("rolled back")
                record.undoable = fate is not None
            with suppress(KataxError), stack:
                if fate is not None:
                    raise fate
