"""The part of `katax dashboard` that is about the terminal and about commands that its keys run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from threading import Lock

from katax_cli.cli.dashboard.collecting import collecting
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.errors import ConfigError
from katax_cli.tui.app import CommandOutcome, run_dashboard

_END_SECONDS = 3.0
_SAID_AT_MOST = 200
_LINES_AT_MOST = 500


def interactive(call: Invocation, *, every: float) -> int:
    """Shows the dashboard until it is left. Raises ConfigError without a terminal."""
    if call.streams.width is None or not call.streams.interactive:
        raise ConfigError("'dashboard' needs a terminal on stdin and stdout; print one snapshot with --once")
    if os.environ.get("TERM") == "dumb":
        raise ConfigError("TERM is 'dumb', and 'dashboard' draws; print one snapshot with --once")
    # A log line would be written across the panels.
    silent = call._replace(shared=call.shared._replace(log_level="off"))
    with collecting(silent) as collector, closing(CommandRunner()) as commands:
        return run_dashboard(collector, interval=every, run=commands, read=commands.output)


class CommandRunner:
    """Runs each katax command in a process of its own: what a dashboard can do, the command line can do too."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = Lock()
        self._closed = False

    def __call__(self, words: Sequence[str]) -> CommandOutcome:
        """Waits for its end; the outcome has the last line of its stderr, or why it could not be started."""
        code, _, err = self._ran(words, stdout=subprocess.DEVNULL)
        lines = err.strip().splitlines() or [f"exit {code}" if code else "done"]
        return CommandOutcome(code, lines[-1][:_SAID_AT_MOST])

    def output(self, words: Sequence[str]) -> CommandOutcome:
        """The same for a command that reads: the outcome has the end of what it printed, or why it printed nothing."""
        code, out, err = self._ran(words, stdout=subprocess.PIPE)
        lines = (err if code else out or err).rstrip().splitlines() or ["nothing was printed"]
        left_out = len(lines) - _LINES_AT_MOST
        if left_out > 0:
            lines = [
                f"({left_out} lines before; all: {shlex.join(('katax', *words))})",
                *lines[-_LINES_AT_MOST:],
            ]
        return CommandOutcome(code, "\n".join(lines))

    def _ran(self, words: Sequence[str], *, stdout: int) -> tuple[int, str, str]:
        """The exit code, stdout and stderr."""
        try:
            process = self._started(words, stdout=stdout)
        except OSError as error:
            return ExitCode.UNAVAILABLE, "", f"it could not be started: {error}"
        try:
            out, err = process.communicate()
        finally:
            with self._lock:
                self._running.discard(process)
        return process.returncode, out or "", err

    def _started(self, words: Sequence[str], *, stdout: int) -> subprocess.Popen[str]:
        """Raises OSError, after the end too."""
        with self._lock:
            if self._closed:
                raise OSError("the dashboard is closing")
            process = subprocess.Popen(
                # -P: what lies in this folder is no part of katax.
                [sys.executable, "-P", "-m", "katax_cli", *words],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                # Ctrl-C at the dashboard's terminal is not meant for it.
                start_new_session=True,
            )
            self._running.add(process)
        return process

    def close(self) -> None:
        """Ends what still runs, as `katax` ends at TERM: with the tree of its job."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
