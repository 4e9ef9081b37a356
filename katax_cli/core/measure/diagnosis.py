"""The most likely causes of a failing layer, as a table of values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from katax_cli.core.resilience.failure import FailureKind

LayerName = Literal["dns", "tcp", "tls", "auth", "read", "write_role", "lag"]
LAYERS: tuple[LayerName, ...] = ("dns", "tcp", "tls", "auth", "read", "write_role", "lag")
"""In the order in which a connection goes through them."""

_AUTH: Mapping[FailureKind, str] = {
    FailureKind.AUTHENTICATION: "the password was changed, or the user may not log in; check user and password",
    FailureKind.CONFIGURATION: "the server has no such database, or wants another kind of encryption",
    FailureKind.OVERLOADED: (
        "all connections of the server are taken; close idle ones, make pools smaller or raise its limit"
    ),
}
_READ: Mapping[FailureKind, str] = {
    FailureKind.LOST: "the connection broke: the server was restarted, or something between cut it",
    FailureKind.UNREACHABLE: "the connection broke: the server was restarted, or something between cut it",
    FailureKind.REJECTED: "the user may log in but not read; check its privileges",
}
_STUCK = "the server accepts connections and then does not answer: it hangs, is starting up, or is overloaded"
_NO_LOGIN = f"{_STUCK}; or it speaks another protocol, or expects TLS: check port, type and tls"
_NO_FILE = "the file or its folder is missing, or this user may not use it; check the path"


def likely_cause(layer: LayerName, kind: FailureKind, *, is_file: bool = False) -> str:
    """One line on the likely cause of a failed login (`auth`) or read."""
    if layer == "auth":
        return _NO_FILE if is_file else _AUTH.get(kind, _NO_LOGIN)
    return _READ.get(kind, _STUCK)
