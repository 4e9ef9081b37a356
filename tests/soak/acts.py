"""The common part of the soaks: servers behind wires, what may happen to them, and the command line."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import NamedTuple

from tests.servers.fleet import Fleet
from tests.servers.proxy import Proxy
from tests.servers.server import Server


class Place(NamedTuple):
    """A server and the wire by which the program reaches it."""

    server: Server
    wire: Proxy


def places_of(fleet: Fleet, engines: Sequence[str], stack: ExitStack) -> list[Place]:
    """A server of its own for each engine; their wires end with `stack`."""
    places = []
    for engine in engines:
        server = fleet.private(engine)
        wire = Proxy.for_url(server.url)
        stack.callback(wire.close)
        places.append(Place(server, wire))
    return places


def kill(server: Server, seconds: float) -> None:
    """Down for so many seconds."""
    server.kill()
    time.sleep(seconds)
    server.start()


def freeze(server: Server, seconds: float) -> None:
    server.stop_signal()
    time.sleep(seconds)
    server.resume()


def refuse(wire: Proxy, seconds: float) -> None:
    """Cuts what there is, and takes nothing new for so many seconds."""
    wire.refuse()
    wire.cut()
    time.sleep(seconds)
    wire.come_back()


def swallow(wire: Proxy, seconds: float) -> None:
    """Both directions stand still for so many seconds; what was sent arrives late."""
    wire.stall()
    time.sleep(seconds)
    wire.resume()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def tell(summary: str, problems: Sequence[str]) -> None:
    """The last lines of a soak: its figures, and the first of its problems."""
    say(f"{summary}; {len(problems)} problems")
    for problem in problems[:20]:
        say(f"  {problem}")


def parser_of(name: str, about: str | None, seconds: float) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m tests.soak.{name}", description=about)
    parser.add_argument("--seconds", type=float, default=seconds, help="for each engine that is named")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    return parser


def run(name: str, about: str | None, soak: Callable[[float, int, Fleet], bool], *, seconds: float) -> int:
    """Runs `soak(seconds, seed, fleet)` as the command line says; the exit code."""
    options = parser_of(name, about, seconds).parse_args()
    with closing(Fleet()) as fleet:
        return int(not soak(options.seconds, options.seed, fleet))
