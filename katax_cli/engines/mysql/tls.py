"""The TLS contexts of sessions: made once, since reading the authorities of the system takes longer than a login."""

from __future__ import annotations

import os
import ssl
from functools import cache, lru_cache

from katax_cli.core.settings import TlsSettings

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
