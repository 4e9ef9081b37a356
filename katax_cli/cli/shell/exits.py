"""Exit codes: what they mean, and which error gives which; shown by `katax --help`."""

from __future__ import annotations

from enum import IntEnum

from katax_cli import errors


class ExitCode(IntEnum):
    """Part of the interface: a change is a breaking change."""

    DONE = 0
    NO = 1
    USAGE = 2
    UNAVAILABLE = 3
    REFUSED = 4
    LOCK_HELD = 5
    UNKNOWN = 6
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS: dict[ExitCode, str] = {
    ExitCode.DONE: "done, or the answer is yes",
    ExitCode.NO: "the answer is no, or the work failed",
    ExitCode.USAGE: "usage or configuration",
    ExitCode.UNAVAILABLE: "unavailable, may be retried",
    ExitCode.REFUSED: "refused: protected profile, missing confirmation, untrusted file",
    ExitCode.LOCK_HELD: "a lock is held by someone else",
    ExitCode.UNKNOWN: "outcome unknown: a write may or may not have been applied",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.TERMINATED: "terminated",
}

_BY_ERROR: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (errors.OutcomeUnknown, ExitCode.UNKNOWN),
    (errors.LockLost, ExitCode.UNKNOWN),
    (errors.LockHeld, ExitCode.LOCK_HELD),
    (errors.Refused, ExitCode.REFUSED),
    (errors.Unavailable, ExitCode.UNAVAILABLE),
    (errors.ConfigError, ExitCode.USAGE),
    (errors.UnsupportedArgument, ExitCode.USAGE),
    (errors.MisshapedRecord, ExitCode.USAGE),
    (ValueError, ExitCode.USAGE),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)


def exit_code_for(error: BaseException) -> ExitCode:
    """The exit code for an error; what the table does not name failed: 1."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.NO)


def worst(codes: list[ExitCode]) -> ExitCode:
    """One code for several results: the most urgent one."""
    order = [
        ExitCode.DONE,
        ExitCode.NO,
        ExitCode.UNAVAILABLE,
        ExitCode.USAGE,
        ExitCode.LOCK_HELD,
        ExitCode.REFUSED,
        ExitCode.UNKNOWN,
    ]
    return max(codes, key=order.index, default=ExitCode.DONE)
