"""Daemons as processes of their own, and what they wrote."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from katax_cli.profiles.load import load_profile
from katax_cli.services.cron.ledger.values import Run
from katax_cli.services.cron.manage import Cron
from tests.waiting import connecting

PATIENCE = 60.0


class DaemonProcess:
    """`katax cron run-daemon` in `folder`, its log in a file."""

    def __init__(self, folder: Path, *words: str, environ: Mapping[str, str] | None = None) -> None:
        self._log = folder / f"daemon-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "katax_cli", "cron", "run-daemon", *words],
                cwd=folder,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def says(self, text: str) -> None:
        """Waits until it has said so."""
        until(lambda: text in self.log or self._process.poll() is not None)
        assert text in self.log, self.log

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self) -> int:
        """Its exit code, once it has one."""
        return self._process.wait(PATIENCE)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ended()

    def end(self) -> None:
        """Forces its end, with its jobs, unless it has ended."""
        self.signal(signal.SIGCONT)
        while self._process.poll() is None:
            self.signal(signal.SIGTERM)
            time.sleep(0.05)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)


def until(holds: Callable[[], object]) -> None:
    """Waits until something holds; fails when it never does."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def history(job: str | None = None) -> list[Run]:
    """The rows of the profile in the working directory, the earliest first."""
    with Cron(load_profile(None)) as cron:
        return cron.history(job, 1_000_000)[::-1]


def profile(folder: Path, jobs: str, *, state: str = "", extra: str = "") -> None:
    """A profile whose jobs are TOML."""
    file = folder / "profiles" / "test.toml"
    file.parent.mkdir(exist_ok=True)
    if state and not state.startswith("sqlite"):
        state += f"?connect_timeout={connecting(state):.0f}"
    told = f'[state]\nurl = "{state}"\n' if state else ""
    file.write_text(
        f'role = "dev"\n[shutdown]\ntimeout = {PATIENCE}\n{told}[cron]\ntimezone = "UTC"\n{extra}\n{jobs}\n'
        '[connections.main]\ntype = "sqlite"\nurl = "sqlite:///main.db"\n'
    )
