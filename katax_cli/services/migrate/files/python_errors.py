"""Errors of `.py` migrations, with the name and the line of their file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from katax_cli.errors import KataxError, QueryError, RolledBack, StatementFailed
from katax_cli.services.migrate.jobs import MigrationJob


@contextmanager
def failing_as(job: MigrationJob, kept: str) -> Iterator[None]:
    """Gives what a `.py` file raises the name of its migration; katax's own errors keep their meaning."""
    try:
        yield
    except RolledBack:
        raise
    except QueryError as error:
        raise StatementFailed(job.name, line=_line_of(job, error), reason=str(error), kept=kept) from error
    except KataxError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise StatementFailed(job.name, line=_line_of(job, error), reason=reason, kept=kept) from error


def _line_of(job: MigrationJob, error: BaseException | None) -> int:
    """The line of the migration in which an exception began.

    A driver's error that was given its meaning outside the file has the line in what it was made from.
    """
    line = 0
    while error is not None and line == 0:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == job.file.path:
                line = trace.tb_lineno
            trace = trace.tb_next
        error = error.__cause__
    return line
