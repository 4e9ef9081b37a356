"""A small TCP server that plays a script: one connection, one request line, one move of the script."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Literal

from katax_cli.core.resilience.failure import Failure, FailureKind

Move = Literal["answer", "hang", "drop", "busy", "deadlock", "overloaded", "syntax", "password", "read-only"]

KINDS: dict[bytes, FailureKind] = {
    b"busy": FailureKind.BUSY,
    b"deadlock": FailureKind.ROLLED_BACK,
    b"overloaded": FailureKind.OVERLOADED,
    b"syntax": FailureKind.REJECTED,
    b"password": FailureKind.AUTHENTICATION,
    b"read-only": FailureKind.READ_ONLY,
}


@dataclass
class LineServer:
    """Answers requests with the moves of `script` in order, then with `afterwards`; writes down requests.

    "hang" answers once `release` is set, "drop" hangs up without an answer.
    """

    port: int
    script: list[Move]
    afterwards: Move
    requests: list[bytes] = field(default_factory=list)
    release: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)

    def serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            line = lines.readline()
            if not line:
                return
            with self._lock:
                self.requests.append(line.strip())
                move = self.script.pop(0) if self.script else self.afterwards
            if move == "hang":
                self.release.wait()
            if move != "drop":
                with contextlib.suppress(OSError):  # nobody may be waiting any more
                    client.sendall(move.encode() + b"\n")


@contextlib.contextmanager
def line_server(*script: Move, afterwards: Move = "answer") -> Iterator[LineServer]:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        server = LineServer(listener.getsockname()[1], list(script), afterwards)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    Thread(target=server.serve, args=(client,), daemon=True).start()

        acceptor = Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield server
        finally:
            server.release.set()
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()


class Answered(Exception):
    """The server answered with an error."""


class HungUp(Exception):
    """The server closed the connection instead of answering."""


def classify(error: BaseException) -> Failure:
    """What a driver of the line protocol would say about its errors."""
    match error:
        case ConnectionRefusedError():
            return Failure(FailureKind.UNREACHABLE, "connection refused")
        case HungUp() | ConnectionResetError():
            return Failure(FailureKind.LOST, "the connection broke")
        case Answered():
            return Failure(KINDS[error.args[0]], error.args[0].decode(), "L01")
        case _:
            return Failure(FailureKind.UNKNOWN, "")


def ask(port: int, line: bytes, *, sending: Callable[[], None], sockets: Sequence[object] = ()) -> bytes:
    """One request; calls `sending` between connecting and writing, as attempts mark what they sent."""
    with socket.create_connection(("127.0.0.1", port)) as client, client.makefile("rb") as lines:
        if isinstance(sockets, list):
            sockets.append(client)
        sending()
        client.sendall(line + b"\n")
        answer = lines.readline().strip()
    if not answer:
        raise HungUp
    if answer in KINDS:
        raise Answered(answer)
    return answer
