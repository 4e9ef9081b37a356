"""`katax dashboard` on twenty connections beside pg_activity on one, each at one look a second; and 600 looks.

Both run on terminals of the same size, in turn. What counts is processor time, for an operator leaves a dashboard
open; katax may need no more for each connection than pg_activity for its one. The looks have nothing between them;
memory after all of them is compared with that after the first 150.
"""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from statistics import median
from threading import Thread

from harness import cpu_seconds, finish, row, server

from katax_cli.profiles.load import load_profile
from katax_cli.services.dashboard.collector import Collector
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.snapshot import Snapshot
from katax_cli.tui.app import CommandOutcome, Dashboard

CONNECTIONS = 20
SECONDS = 10.0
WARM_UP = 4.0
RUNS = 3
FIRST_LOOKS, LOOKS = 150, 600
GROWTH_ALLOWED = 1.1
LINES, COLUMNS = 40, 120


def main() -> int:
    with server("postgresql") as postgresql, server("redis") as redis, tempfile.TemporaryDirectory() as home:
        write_profile(Path(home), postgresql, redis)
        katax = [sys.executable, "-m", "katax_cli", "dashboard", "-p", "bench", "--interval", "1s"]
        mine, theirs = [], []
        activity = shutil.which("pg_activity", path=str(Path(sys.executable).parent))
        for _ in range(RUNS):
            mine.append(share(katax, home))
            if activity is not None:
                theirs.append(share([activity, "--refresh", "1", "--no-db-size", postgresql], home))
        row(
            f"dashboard: {SECONDS:g} s at 1 Hz, {CONNECTIONS} connections",
            katax_seconds=median(mine),
            peer_name="pg_activity, 1 connection",
            peer_seconds=median(theirs) if theirs else None,
            target=CONNECTIONS,
        )
        steady = remember(home)
    return max(finish(), int(not steady))


def write_profile(home: Path, postgresql: str, redis: str) -> None:
    urls = [postgresql if number % 2 else redis for number in range(CONNECTIONS)]
    tables = [f'[connections.c{number:02}]\nurl = "{url}"\n' for number, url in enumerate(urls)]
    (home / "profiles").mkdir()
    (home / "profiles" / "bench.toml").write_text("\n".join(['role = "dev"\n', *tables]))


def share(command: list[str], home: str) -> float:
    """Seconds of processor time in SECONDS of a program on a terminal of its own."""
    with ExitStack() as stack:
        terminal, its_end = pty.openpty()
        stack.callback(os.close, terminal)
        fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        process = subprocess.Popen(
            command,
            cwd=home,
            stdin=its_end,
            stdout=its_end,
            stderr=its_end,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(its_end)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        Thread(target=drain, args=(terminal,), daemon=True).start()
        time.sleep(WARM_UP)
        before = cpu_seconds(process.pid)
        time.sleep(SECONDS)
        return cpu_seconds(process.pid) - before


def drain(terminal: int) -> None:
    """Reads what is drawn, as a terminal does."""
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        return


def remember(home: str) -> bool:
    """Whether all looks need hardly more memory than the first of them."""
    command = [sys.executable, __file__, str(FIRST_LOOKS), str(LOOKS)]
    done = subprocess.run(command, cwd=home, check=True, capture_output=True, text=True)
    before, after = (int(line) / 1024 for line in done.stdout.split())
    print(f"dashboard: {before:.1f} MB after {FIRST_LOOKS} looks, {after:.1f} MB after {LOOKS}")
    return after <= before * GROWTH_ALLOWED


def look_on(first: int, last: int) -> None:
    """Takes looks, and writes this process's memory in kilobytes after `first` of them and after `last`."""
    with Runtime(load_profile("bench"), probing=True) as runtime:
        databases = [runtime.database(name) for name in runtime.profile.connections]
        with closing(Collector(runtime, databases)) as collector:
            looks = count(1)

            def look() -> Snapshot:
                number = next(looks)
                if number in (first, last):
                    # The application has the standard output; what it draws is not asked for here.
                    os.write(1, b"%d\n" % memory())
                if number == last:
                    app.call_from_thread(app.exit)
                return collector()

            app = Dashboard(look, interval=0.001, run=refused, read=refused)
            app.run(headless=True, size=(COLUMNS, LINES))


def refused(words: Sequence[str]) -> CommandOutcome:
    raise AssertionError(f"pressed no key, and {words} is to run")


def memory() -> int:
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])


if __name__ == "__main__":
    if sys.argv[1:]:
        look_on(*map(int, sys.argv[1:]))
    else:
        sys.exit(main())
