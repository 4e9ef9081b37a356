"""Whether a server still answers a new connection: without a name lookup, a login, or a place in a pool."""

from __future__ import annotations

import os
import socket
from errno import EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH

from katax_cli.core.clock import SYSTEM

_UNREACHABLE = frozenset({EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH})
_TRY_AGAIN = 0.5


def greeted(connected: int, hello: bytes, seconds: float) -> bool:
    """False when the peer of the socket `connected` (a descriptor) sends nothing to a new connection.

    Connecting may take so many seconds, and the first byte after `hello` as many again. A host that cannot be reached
    for so long is silent, too: of one that vanished from the same network this machine learns no more. Whatever else
    ends the try (a refusal, a socket file that was removed, no descriptor left here) says nothing against the server:
    if it is gone, the open connection says so itself.
    """
    ends = SYSTEM.monotonic() + seconds
    while (answer := _first_answer(connected, hello, seconds)) is None:
        if SYSTEM.monotonic() >= ends:
            return False
        SYSTEM.sleep(_TRY_AGAIN)
    return answer


def _first_answer(connected: int, hello: bytes, seconds: float) -> bool | None:
    """None when there is no way to the peer at the moment."""
    try:
        with socket.socket(fileno=os.dup(connected)) as own:
            family, peer = own.family, own.getpeername()
        with socket.socket(family, socket.SOCK_STREAM) as wire:
            wire.settimeout(seconds)
            # The kernel connects for a frozen server too; only a byte is the server's own.
            wire.connect(peer)
            wire.sendall(hello)
            wire.recv(1)
    except TimeoutError:
        return False
    except OSError as error:
        return None if error.errno in _UNREACHABLE else True
    return True
