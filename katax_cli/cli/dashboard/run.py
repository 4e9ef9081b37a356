"""The part of `katax dashboard` that is about the terminal and about commands that its keys run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from threading import Lock

from katax_cli.cli.dashboard.collecting import collecting
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.errors import ConfigError
from katax_cli.tui.app import Outcome, run_dashboard

_END_SECONDS = 3.0
_SAID_AT_MOST = 200


def interactive(call: Invocation, *, every: float) -> int:
    """Shows the dashboard until it is left. Raises ConfigError without a terminal."""
    if call.streams.width is None or not call.streams.interactive:
        raise ConfigError("'dashboard' needs a terminal on stdin and stdout; print what is known with --once")
    if os.environ.get("TERM") == "dumb":
        raise ConfigError("TERM is 'dumb', and 'dashboard' draws; print what is known with --once")
    # A log line would be written across the panels.
    silent = replace(call, shared=call.shared._replace(log_level="off"))
    with collecting(silent) as collector, closing(Commands()) as commands:
        return run_dashboard(collector, interval=every, run=commands)


class Commands:
    """Runs each katax command in a process of its own: what a dashboard can do, the command line can do too."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = Lock()
        self._closed = False

    def __call__(self, words: Sequence[str]) -> Outcome:
        """Waits for its end; the outcome has the last line of its stderr, or why it could not be started."""
        try:
            process = self._started(words)
        except OSError as error:
            return Outcome(ExitCode.UNAVAILABLE, f"it could not be started: {error}")
        try:
            _, err = process.communicate()
        finally:
            with self._lock:
                self._running.discard(process)
        lines = err.strip().splitlines() or [f"exit {process.returncode}" if process.returncode else "done"]
        return Outcome(process.returncode, lines[-1][:_SAID_AT_MOST])

    def _started(self, words: Sequence[str]) -> subprocess.Popen[str]:
        """Raises OSError, after the end too."""
        with self._lock:
            if self._closed:
                raise OSError("the dashboard is being left")
            process = subprocess.Popen(
                # -P: what lies in this folder is no part of katax.
                [sys.executable, "-P", "-m", "katax_cli", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
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
