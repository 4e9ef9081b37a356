"""Records the writes of a command in the profile's journal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from katax_cli.core.clock import SYSTEM
from katax_cli.errors import OutcomeUnknown, Refused
from katax_cli.services.calls.journal import JournalEntry, WriteOutcome

if TYPE_CHECKING:
    from katax_cli.cli.shell.scope import Scope
    from katax_cli.core.settings import ConnectionSettings

MOST_TEXT = 4000


@dataclass(slots=True)
class WriteRecord:
    """The state of a write so far: the rows that it changed, and whether an error now would undo it."""

    rows: int | None = None
    undoable: bool = False


@contextmanager
def recorded(
    chosen: Scope, settings: ConnectionSettings, statement: str, *, refusals_only: bool = False
) -> Iterator[WriteRecord]:
    """Records the write that the body makes with these words, whatever becomes of it.

    `statement` holds no values. `refusals_only`: the body asks and writes nothing, so that its success is no write.
    """
    record, began, at = WriteRecord(), SYSTEM.monotonic(), datetime.fromtimestamp(SYSTEM.now()).astimezone()
    outcome: WriteOutcome = "done"
    try:
        yield record
    except BaseException as error:
        outcome = _outcome(error, record, asking=refusals_only)
        raise
    finally:
        if not (refusals_only and outcome == "done"):
            entry = JournalEntry(
                started_at=at.isoformat(timespec="milliseconds"),
                user=_user(),
                host=os.uname().nodename,
                profile=chosen.profile.name,
                role=chosen.profile.role,
                connection=settings.name,
                command=chosen.call.command,
                statement=statement if len(statement) <= MOST_TEXT else f"{statement[: MOST_TEXT - 1]}…",
                rows=None if outcome in ("refused", "failed") else record.rows,
                duration_ms=round((SYSTEM.monotonic() - began) * 1000, 3),
                outcome=outcome,
            )
            trouble = chosen.runtime.journal.add(entry)
            if trouble is not None:
                chosen.call.diagnostics.note(trouble)


def _outcome(error: BaseException, record: WriteRecord, *, asking: bool) -> WriteOutcome:
    if isinstance(error, OutcomeUnknown):
        return "unknown"
    if record.undoable and not (isinstance(error, Exception) and not isinstance(error, Refused)):
        return "rolled back"
    if isinstance(error, Refused) or asking:
        return "refused"
    # What an interrupt met was sent, and perhaps done.
    return "failed" if isinstance(error, Exception) else "unknown"


def _user() -> str:
    """The account that katax runs as; not what its environment says."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return str(os.getuid())
