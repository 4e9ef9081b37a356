"""Asks the servers of one name: a server alone answers itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, NamedTuple, Protocol

from katax_cli.core.clock import SYSTEM

Answerer = Callable[[str, Any], Any]
"""What a server knows about a question and its argument."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A server that takes part; `seen_at` is seconds since the epoch, by Redis' clock."""

    id: str
    host: str
    pid: int
    port: int
    seen_at: float


class Answer(NamedTuple):
    """The answer of one server, and its delay."""

    worker: str
    value: Any
    ack_ms: float


class Poll(NamedTuple):
    """The answers that came in time, and the servers that live but did not hear the question."""

    answers: list[Answer]
    deaf: list[Worker]
    workers: list[Worker]
    subscribers: int


class Cluster(Protocol):
    """The servers of one name."""

    @property
    def hears(self) -> bool:
        """False while messages of the others do not arrive."""
        ...

    def manager(self) -> Any:
        """python-socketio's client manager, None for its own."""
        ...

    def start(self, port: int) -> None: ...

    def ask(self, what: str, argument: Any, *, seconds: float = 2.0) -> Poll:
        """Asks all and waits until all have answered, or `seconds`. Blocks; not for the loop."""
        ...

    def close(self, seconds: float) -> None: ...


def this_worker(port: int) -> Worker:
    """This process, under an identity of its own for each server in it."""
    return Worker(token_hex(8), socket.gethostname(), os.getpid(), port, SYSTEM.now())


class SingleServer:
    """One server alone."""

    hears = True

    def __init__(self, answer: Callable[[str, Any], Any]) -> None:
        self._answer = answer
        self._worker = this_worker(0)

    def manager(self) -> Any:
        return None

    def start(self, port: int) -> None:
        self._worker = this_worker(port)

    def ask(self, what: str, argument: Any, *, seconds: float = 2.0) -> Poll:
        started = SYSTEM.monotonic()
        value = self._answer(what, argument)
        answer = Answer(self._worker.id, value, (SYSTEM.monotonic() - started) * 1000)
        return Poll([answer], [], [self._worker], 1)

    def close(self, seconds: float) -> None: ...
