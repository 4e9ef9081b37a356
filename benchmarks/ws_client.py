"""Acknowledged events through katax's Socket.IO client beside python-socketio's own, on one server of katax's."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from harness import Work, compare, finish, present

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.services.ws.client import SocketClient, Where

CALLS = 200
SECONDS = 30.0
SERVER = """
import sys
from katax_cli import Katax
from katax_cli.profiles.load import load_profile
with Katax(load_profile("bench", cwd=sys.argv[1])) as katax:
    print(katax.socket(port=0).port, flush=True)
    sys.stdin.read()  # until the benchmark ends
"""


def main() -> int:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        path = Path(folder) / "profiles" / "bench.toml"
        path.parent.mkdir()
        path.write_text('role = "dev"\n[connections.main]\ntype = "sqlite"\nurl = "sqlite:///x.db"\n')
        server = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", SERVER, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(server.communicate)  # closes its input, and reads what it says at its end
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        client = stack.enter_context(SocketClient(Where(url)))
        compare(
            f"ws: {CALLS} events with acknowledgement",
            katax=repeated(lambda: client.call("join", "room", deadline=Deadline(SECONDS))),
            peers={"python-socketio Client": peer(url, stack)},
            runs=15,
        )
    return finish()


def repeated(call: Callable[[], object]) -> Work:
    def run() -> None:
        for _ in range(CALLS):
            call()

    return run


def peer(url: str, stack: ExitStack) -> Work | None:
    if not (present("requests") and present("websocket")):
        return None
    import socketio

    client = socketio.Client()
    client.connect(url, transports=["websocket"])
    stack.callback(client.disconnect)
    return repeated(lambda: client.call("join", "room", timeout=SECONDS))


if __name__ == "__main__":
    sys.exit(main())
