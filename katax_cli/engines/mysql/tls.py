"""Asking for TLS, and the contexts of sessions.

They are made once, since reading the authorities of the system takes longer than a login.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
from functools import cache, lru_cache

from katax_cli.core.settings import TlsSettings

_SSL, _CAPABILITIES = 0x800, 0x8A00  # with CLIENT_PROTOCOL_41 and CLIENT_SECURE_CONNECTION
_UTF8 = 45

_Stamp = tuple[str, int, int, int]


def verifying(tls: TlsSettings) -> ssl.SSLContext:
    """The TLS context of the settings, made again when one of its files changed. Raises OSError for unusable files."""
    system = ssl.get_default_verify_paths().cafile if tls.ca is None else None
    files = (tls.ca, tls.cert, tls.key, system)
    return _verifying(tls, tuple(_stamp(file) for file in files if file is not None))


@lru_cache(maxsize=32)
def _verifying(tls: TlsSettings, _stamps: tuple[_Stamp, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca)
    # The certificates that MySQL makes for itself lack what Python 3.13 asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = tls.mode == "verify-full"
    context.verify_mode = ssl.CERT_NONE if tls.mode == "require" else ssl.CERT_REQUIRED
    if tls.cert:
        context.load_cert_chain(tls.cert, tls.key)
    return context


def _stamp(file: str) -> _Stamp:
    seen = os.stat(file)
    return file, seen.st_mtime_ns, seen.st_size, seen.st_ino


@cache
def trusting() -> ssl.SSLContext:
    """Encrypts and trusts anybody, as PyMySQL does where nothing was said about TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ask_for_tls(wire: socket.socket) -> None:
    """Reads the server's greeting and asks. Raises OSError for a server without TLS, ValueError for no greeting."""
    header = _exactly(wire, 4)
    greeting = _exactly(wire, int.from_bytes(header[:3], "little"))
    if greeting[:1] == b"\xff":
        code = int.from_bytes(greeting[1:3], "little")
        raise OSError(f"the server refused the connection with error {code}")
    after_version = greeting.index(b"\0", 1) + 1
    # Connection id, 8 bytes of a nonce and a filler precede the lower half of what the server can.
    able = int.from_bytes(greeting[after_version + 13 : after_version + 15], "little")
    if not able & _SSL:
        raise OSError("the server does not offer it")
    request = struct.pack("<IIB23x", _CAPABILITIES, 2**24 - 1, _UTF8)
    wire.sendall(len(request).to_bytes(3, "little") + b"\x01" + request)


def _exactly(wire: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = wire.recv(size - len(received))
        if not piece:
            raise OSError("the server hung up")
        received += piece
    return received
