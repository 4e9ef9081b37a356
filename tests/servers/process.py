"""A server process that tests may kill, freeze and start again, and that never outlives the tests."""

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.rooms import Account
from tests.waiting import until

# The kernel's parent-death signal follows the *thread* that started the child, so one thread that lives as
# long as the interpreter starts them all; a test may then restart a server from any thread.
_STARTER = ThreadPoolExecutor(1, "test-servers")
_started: list["ServerProcess"] = []
_starting = threading.Lock()
# Process states of /proc: one that nobody has waited for yet (Z) holds nothing any more.
ENDED = "ZX"
STILL = "T" + ENDED


class NotReady(Exception):
    """A server did not become ready; says which, why, and the end of its log."""


@dataclass(eq=False)
class ServerProcess:
    """`greet` raises until the server answers; what it returns is the server's version."""

    name: str
    command: Sequence[str]
    folder: Path
    greet: Callable[[], str]
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    # What the kernel sends when the tests die, and we when the data no longer matters.
    farewell: signal.Signals = signal.SIGKILL
    start_timeout: float = 120.0
    _popen: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        """The running process; raises when there is none."""
        if self._popen is None or self._popen.poll() is not None:
            raise RuntimeError(f"the test's {self.name} is not running; call start()")
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> str:
        """Start and wait until it answers; returns its version. Raises NotReady with the end of the log."""
        if self.alive:
            raise RuntimeError(f"the test's {self.name} is running already")
        with _starting:
            if self not in _started:
                _started.append(self)
        self._popen = _STARTER.submit(self._spawn).result()
        return self._wait_until_ready()

    def kill(self) -> None:
        """SIGKILL, as `kill -9` or the kernel's memory killer: the server and the processes it made."""
        # Frozen first: a dying parent would hide its children, a living one replace them.
        family = self._signal_all(signal.SIGSTOP)
        for pid in family:
            _send(pid, signal.SIGKILL)
        self._reap()
        # PostgreSQL does not start again while a child of its last run still holds the shared memory.
        for pid in family:
            _wait(pid, ENDED)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `freeze`."""
        self._signal_all(signal.SIGCONT)

    def stop(self) -> None:
        """An orderly stop that does not wait for clients; kills what is not gone after thirty seconds."""
        if not self.alive:
            return
        # Children too: a PostgreSQL backend that is frozen would keep its postmaster waiting.
        self.resume()
        self._end(self.stop_signal)

    def restart(self) -> str:
        """Stop if it runs, then start on the same port with the same data."""
        self.stop()
        return self.start()

    def discard(self) -> None:
        """End it for good, in the quickest way that leaves nothing behind."""
        if self.alive:
            self.resume()
            self._end(self.farewell)
        if self in _started:
            _started.remove(self)

    def _end(self, which: signal.Signals) -> None:
        _send(self.pid, which)
        try:
            self._reap(30.0)
        except subprocess.TimeoutExpired:
            self.kill()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self._leash(), *self.command],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C in the terminal belongs to pytest; servers are stopped by us, after the tests.
                start_new_session=True,
                env=_environment(),
            )

    def _leash(self) -> list[str]:
        """setpriv (util-linux) execs: the process id stays. Where it is missing, atexit must do."""
        if not (setpriv := shutil.which("setpriv")):
            return []
        leash = [setpriv, "--pdeathsig", self.farewell.name.removeprefix("SIG")]
        if self.account:
            leash += ["--reuid", str(self.account.uid), "--regid", str(self.account.gid), "--clear-groups"]
        return leash

    def _wait_until_ready(self) -> str:
        give_up = time.monotonic() + self.start_timeout
        while True:
            try:
                return self.greet()
            except Exception as error:
                if not self.alive or time.monotonic() > give_up:
                    self._abandon()
                    raise NotReady(f"{self.name} did not start: {error}\n{self._log_end()}") from error
            time.sleep(0.02)

    def _abandon(self) -> None:
        if self.alive:
            self.kill()

    def _log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def _signal_all(self, which: signal.Signals) -> list[int]:
        """Signal the process, then its children and theirs; returns the ids."""
        family = [self.pid]
        for pid in family:
            _send(pid, which)
            if which is signal.SIGSTOP:
                # Until it stands still it may fork a child that is not in the list.
                _wait(pid, STILL)
            family += _children(pid)
        return family

    def _reap(self, timeout: float | None = None) -> None:
        assert self._popen is not None
        self._popen.wait(timeout)


def _send(pid: int, which: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, which)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _wait(pid: int, states: str) -> None:
    until(lambda: state_of(pid) in states)


def state_of(pid: int) -> str:
    """The kernel's letter for what a process does; X, as for a dead one, where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _environment() -> dict[str, str]:
    """Nothing of the developer's settings (PGDATA, MYSQL_HOME, …) reaches a server of the tests."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


@atexit.register
def stop_everything() -> None:
    """Kill all servers that this process started and that still run."""
    for process in _started:
        if process.alive:
            process.kill()
