"""Programs that a command runs: what they print, or how they failed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from shutil import which
from typing import TypeVar

from katax_cli.errors import ConfigError, ProgramFailed

T = TypeVar("T")


def refuse_unknown(command: Sequence[str]) -> None:
    """Raises ConfigError when there is no such program."""
    if which(command[0]) is None:
        raise ConfigError(f"cannot run {command[0]!r}: no such program; name another")


def not_started(program: str, reason: str | None) -> ConfigError:
    """The error of a program that is there and cannot be run."""
    return ConfigError(f"cannot run {program!r}: {reason}; a script begins with #! and its interpreter")


def output_of(command: Sequence[str]) -> bytes:
    """The output of a program, without its last line ends.

    Its stdin and stderr are ours. Raises ProgramFailed; ConfigError when there is no such program.
    """
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    except OSError as error:
        raise ConfigError(f"cannot run {command[0]!r}: {error.strerror}; name a program") from error
    if done.returncode:
        raise ProgramFailed(command, shell_status(done.returncode))
    return done.stdout.rstrip(b"\r\n")


def or_status(work: Callable[[], T], tell: Callable[[str], object]) -> tuple[T | None, int]:
    """Returns what `work` returned and 0, or None and the exit status of its program that failed."""
    try:
        return work(), 0
    except ProgramFailed as failed:
        tell(str(failed))
        return None, failed.status


def shell_status(returncode: int) -> int:
    """The exit status of a process as a shell says it: 128 + the signal that ended it."""
    return 128 - returncode if returncode < 0 else returncode
