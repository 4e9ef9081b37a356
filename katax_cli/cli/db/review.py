"""UPDATE and DELETE on production: shown while they can still be undone, committed after an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO

from katax_cli.cli.shell.confirm import agreed, agrees
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.output import OF_A_SERVER
from katax_cli.cli.shell.scope import Scope
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import AnySql, Statement
from katax_cli.core.text.text import counted
from katax_cli.engines.base import Params
from katax_cli.errors import QueryError, Refused, RolledBack
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.tables.protection import unprotected
from katax_cli.services.tables.scripts import refuse_uncounted

ANSWER_SECONDS = 20.0
"""Seconds for the answer: locks are held meanwhile."""
_SERVER_SECONDS = 30
"""After which the server itself ends the transaction of a katax that is stopped or cut off."""


_MARGIN = "  "
_WIDTH = 80
"""Cells of a terminal that is not the one of stdout."""


@dataclass(frozen=True)
class Review:
    """How the change of one connection is agreed to; `in_transaction` is False when it cannot be undone as a whole."""

    call: Invocation
    connection: str
    verbs: str
    asks: bool = False
    in_transaction: bool = True
    max_rows: int | None = None
    uncounted: bool = False
    """The server does not count all rows that the statements change."""

    def show(self, transaction: Transaction, query: tuple[AnySql, Params]) -> None:
        """Shows the rows that the change is about, as they are; locked, so that they stay so."""
        sql, params = query
        for lock in (" FOR UPDATE", "") if transaction.dialect != "sqlite" else ("",):
            try:
                with (
                    transaction.transaction() as savepoint,
                    savepoint.stream(f"{sql}{lock}", params, text=True) as rows,
                ):
                    show_rows(self.call, rows.columns, [row for batch in rows for row in batch])
                return
            except RolledBack:
                raise
            except QueryError as error:
                refused = error
        self.call.diagnostics.note(f"the rows as they are cannot be shown: {refused}")

    def settle(self, transaction: Transaction, changed: int | None) -> None:
        """Returns when the transaction may commit. Raises Refused once it is rolled back.

        `changed`: the rows that it changed, None when the server does not say.
        """
        if self.max_rows is not None and (changed is None or changed > self.max_rows):
            transaction.rollback()
            raise Refused(
                f"{self.verbs} on {self.connection!r} changes {counted_rows(changed)}, --max-rows-affected is "
                f"{self.max_rows}; rolled back"
            )
        if not self.asks:
            return
        transaction.limit_idling(_SERVER_SECONDS)
        rows = counted_rows(changed)
        question = f"{self.verbs} on {self.connection} changes {rows}; commit within {ANSWER_SECONDS:g} s?"
        with transaction.deadline.paused():
            answer = agrees(self.call, question, within=ANSWER_SECONDS)
        if answer:
            return
        transaction.rollback()
        why = f"no answer in {ANSWER_SECONDS:g} s" if answer is None else "not confirmed"
        raise Refused(f"{self.verbs} on {self.connection!r}: {why}; rolled back")


def show_rows(call: Invocation, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Shows rows as they are before a change."""
    if not rows or call.diagnostics.quiet:
        return
    buffer = BytesIO()
    width = (call.out.width or _WIDTH) - len(_MARGIN)
    plain = replace(call.out, stream=buffer, format="table", pager=None, columns=(), color=False, width=width)
    plain.rows(columns, [rows], OF_A_SERVER)
    call.diagnostics.note("as they are now:")
    for line in buffer.getvalue().decode("utf-8", "replace").splitlines():
        call.diagnostics.note(f"{_MARGIN}{line}")


def refuse_unasked(chosen: Scope, settings: ConnectionSettings, *, max_rows: int | None) -> None:
    """Raises Refused for UPDATE or DELETE on production that nobody can be asked about; before anything is sent."""
    call, profile = chosen.call, chosen.profile
    if profile.role != "prod" or settings.read_only or call.shared.dry_run:
        return
    if not (call.streams.interactive or max_rows is not None or agreed(call, profile, settings)):
        raise Refused(
            f"UPDATE and DELETE on '{profile.name}/{settings.name}', a prod connection, need confirmation; "
            "repeat with --yes or --max-rows-affected N"
        )


def review_of(
    chosen: Scope, settings: ConnectionSettings, statements: Sequence[Statement], *, max_rows: int | None
) -> Review | None:
    """How to agree to the UPDATE and DELETE among the statements; None where nothing is to be looked at.

    What no rollback undoes is said, and asked for, now. Raises Refused.
    """
    call, profile = chosen.call, chosen.profile
    if call.shared.dry_run or settings.read_only:
        return None
    if max_rows is not None:
        refuse_uncounted(statements)
    effects = [statement.effect for statement in statements]
    changes_rows = any(effect.changes_rows for effect in effects)
    concerns_prod = profile.role == "prod" and changes_rows
    writes = changes_rows or any(effect.kind in ("write", "copy", "unknown") for effect in effects)
    if not (concerns_prod or (max_rows is not None and writes)):
        return None
    written = dict.fromkeys(
        effect.verb for effect in effects if effect.kind == "write" or effect.changes_rows
    )
    name, verbs = f"{profile.name}/{settings.name}", " and ".join(written)
    uncounted = any(effect.uncounted for effect in effects)
    review = Review(call, name, verbs, max_rows=max_rows, uncounted=uncounted)
    if concerns_prod:
        refuse_unasked(chosen, settings, max_rows=max_rows)
    accepted = agreed(call, profile, settings)
    obstacle = unprotected(chosen.runtime.sql(settings), statements)
    if obstacle is None:
        return replace(review, asks=concerns_prod and call.streams.interactive and not accepted)
    what = f"{verbs} on {name} cannot be rolled back as a whole: {obstacle.reason}"
    if max_rows is not None and not obstacle.divides:
        raise Refused(f"{what}; leave --max-rows-affected out")
    if accepted:
        call.diagnostics.note(what)
    elif concerns_prod and not call.streams.interactive:
        raise Refused(f"{what}; repeat with --yes")
    elif concerns_prod and not agrees(call, f"{what}. Run it?"):
        raise Refused(f"{what}; not confirmed, nothing was sent")
    return replace(review, in_transaction=not obstacle.divides)


def counted_rows(count: int | None) -> str:
    """A number of rows, for people."""
    return "rows that the server does not count" if count is None else counted(count, "row")
