"""Encryption, from a `tls` table or from the options that each driver's URLs use for it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from katax_cli.core.settings import TlsMode, TlsSettings

_MODES: Mapping[str, TlsMode] = {
    "disable": "disable",
    "disabled": "disable",
    "require": "require",
    "required": "require",
    "verify-ca": "verify-ca",
    "verify-full": "verify-full",
    "verify-identity": "verify-full",
}
_OPPORTUNISTIC = ("allow", "prefer", "preferred")
# Option (lower case, `-` as `_`) and value → mode, the strictest meaning first.
_FLAGS: Mapping[tuple[str, str], TlsMode] = {
    ("ssl", "false"): "disable",
    ("tls", "false"): "disable",
    ("ssl", "disable"): "disable",
    ("usessl", "false"): "disable",
    ("ssl", "require"): "require",
    ("usessl", "true"): "require",
    ("tls", "skip-verify"): "require",
    ("sslaccept", "accept_invalid_certs"): "require",
    ("ssl", "verify-ca"): "verify-ca",
    ("ssl", "verify-full"): "verify-full",
    ("sslaccept", "strict"): "verify-full",
    ("tlsinsecure", "true"): "require",
    ("tlsallowinvalidcertificates", "true"): "require",
    ("ssl_cert_reqs", "none"): "require",
    ("tlsallowinvalidhostnames", "true"): "verify-ca",
    ("ssl_check_hostname", "false"): "verify-ca",
    ("ssl", "true"): "verify-full",
    ("tls", "true"): "verify-full",
    ("tlsinsecure", "false"): "verify-full",
    ("tlsallowinvalidcertificates", "false"): "verify-full",
    ("ssl_cert_reqs", "required"): "verify-full",
    ("tlsallowinvalidhostnames", "false"): "verify-full",
    ("ssl_check_hostname", "true"): "verify-full",
}
_FILES = {
    "sslrootcert": "ca",
    "ssl_ca": "ca",
    "ssl_ca_certs": "ca",
    "tlscafile": "ca",
    "sslcert": "cert",
    "ssl_cert": "cert",
    "ssl_certfile": "cert",
    "tlscertificatekeyfile": "cert",
    "sslkey": "key",
    "ssl_key": "key",
    "ssl_keyfile": "key",
}


def tls_from_options(options: dict[str, str], folder: str, *, always: bool) -> TlsSettings | None:
    """Takes what concerns encryption out of a URL's options; `always` for schemes that imply it.

    libpq's `sslmode=prefer` and `allow` stay with it. Raises ValueError for an unknown mode.
    """
    files: dict[str, str] = {}
    modes: list[TlsMode] = []
    for option in list(options):
        name = option.lower().replace("-", "_")
        if name in _FILES:
            files[_FILES[name]] = _resolved(options.pop(option), folder)
        elif name in ("sslmode", "ssl_mode"):
            modes += _mode(option, options)
        elif (name, options[option].lower()) in _FLAGS:
            modes.append(_FLAGS[name, options.pop(option).lower()])
    if not (modes or files or always):
        return None
    return TlsSettings(_decided(modes), **files)


def _decided(modes: list[TlsMode]) -> TlsMode:
    """The loosest mode that was asked for: `ssl=true&tlsInsecure=true` is `require`."""
    order: tuple[TlsMode, ...] = ("disable", "require", "verify-ca", "verify-full")
    return min(modes, key=order.index, default="verify-full")


def _mode(option: str, options: dict[str, str]) -> list[TlsMode]:
    value = options[option].lower().replace("_", "-")
    if value in _OPPORTUNISTIC:
        if option != "sslmode":
            del options[option]
        return []
    if value not in _MODES:
        raise ValueError(f"has an unknown {option}, expected {', '.join((*_OPPORTUNISTIC[:2], *_MODES))}")
    del options[option]
    return [_MODES[value]]


def tls_from_table(table: Mapping[str, str], folder: str) -> TlsSettings | None:
    """The `tls` table of a connection; None when its mode is wrong (which is reported elsewhere)."""
    if "mode" not in table:
        return None
    files = {name: _resolved(table[name], folder) for name in ("ca", "cert", "key") if name in table}
    mode: TlsMode = _MODES[table["mode"]]
    return TlsSettings(mode, **files)


def _resolved(path: str, folder: str) -> str:
    # libpq's word for the certificate authorities of the system.
    return path if path == "system" else os.path.normpath(os.path.join(folder, path))
