"""Asking a PostgreSQL server for TLS."""

from __future__ import annotations

import socket
import struct

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def ask_for_tls(wire: socket.socket) -> None:
    """Raises OSError for a server without TLS."""
    wire.sendall(_SSL_REQUEST)
    if wire.recv(1) != b"S":
        raise OSError("the server does not offer it")
