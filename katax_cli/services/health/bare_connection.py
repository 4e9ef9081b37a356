"""The way to a server, tried bare: name, TCP, TLS, on one connection that is closed before anybody logs in.

Every step is bounded: a name lookup, which cannot be interrupted, runs in a daemon thread that is left behind.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from katax_cli.core.certificate import not_after
from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.settings import DEFAULT_PORTS, ConnectionSettings, TlsSettings
from katax_cli.engines.base import AsksForTls
from katax_cli.engines.registry import load
from katax_cli.services.calls.left_behind import BoundedCallTimeout, bounded
from katax_cli.services.health.probe import ms_since
from katax_cli.snapshot import Check, CheckStatus

EXPIRY_DAYS = 14.0
"""A certificate that ends within so many days degrades its connection."""
_DAY = 86400.0
_SHORTEST = 0.001
_GOODBYE_SECONDS = 0.25
# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_EXPIRED, _OTHER_NAME = 10, (62, 64)
_TCP_CAUSES = {
    "refused": "nothing listens there: the server is down, or the port is wrong",
    "did not answer in time": "a firewall drops packets, or the host is down",
}
_NO_TLS = "the server speaks no TLS there, or something between cuts it; check tls.mode and the port"

T = TypeVar("T")
SocketAddress = tuple[str, int]
Resolved = tuple[str, list[tuple[int, Any]]]


class Wire(NamedTuple):
    """The checks dns, tcp and tls, and the cause where one of them failed."""

    checks: tuple[Check, ...]
    certificate_days: float | None = None
    cause: str | None = None

    @property
    def failed(self) -> bool:
        return self.cause is not None


class _LayerFailed(Exception):
    """A layer that ended the way; `cause` is what it most likely means."""

    def __init__(self, seen: str, cause: str) -> None:
        super().__init__(seen)
        self.cause = cause


def try_wire(settings: ConnectionSettings, deadline: Deadline) -> Wire:
    """Goes as far as it comes within the deadline; sends no login. Raises nothing."""
    reason = _no_wire(settings)
    if reason:
        return Wire(tuple(Check(name, "skipped", None, reason) for name in ("dns", "tcp", "tls")))
    return _Trial(settings, deadline).run()


def _no_wire(settings: ConnectionSettings) -> str | None:
    if settings.path is not None:
        return "a file"
    if settings.through is not None:
        return "a tunnel"
    if settings.socket or settings.embedded:
        return "a local socket"
    return "a seed list, which the driver looks up" if settings.srv else None


class _Trial:
    def __init__(self, settings: ConnectionSettings, deadline: Deadline) -> None:
        self._settings = settings
        self._deadline = deadline
        self._checks: list[Check] = []

    def run(self) -> Wire:
        try:
            resolved = self._step("dns", self._resolve)
            with closing(self._step("tcp", lambda: self._connect(resolved))) as wire:
                days = self._step("tls", lambda: self._encrypt(wire))
                _hang_up(wire)
        except _LayerFailed as error:
            rest = ("dns", "tcp", "tls")[len(self._checks) :]
            skipped = (Check(name, "skipped", None, f"{self._checks[-1].name} failed") for name in rest)
            return Wire((*self._checks, *skipped), None, error.cause)
        return Wire(tuple(self._checks), days)

    def _step(self, name: str, work: Callable[[], tuple[T, CheckStatus, str | None]]) -> T:
        """Runs one layer and notes its check; raises _LayerFailed."""
        began = SYSTEM.monotonic()
        try:
            value, status, message = work()
        except _LayerFailed as error:
            self._checks.append(Check(name, "unhealthy", ms_since(began), str(error)))
            raise
        spent = None if status == "skipped" else ms_since(began)
        self._checks.append(Check(name, status, spent, message))
        return value

    def _resolve(self) -> tuple[list[Resolved], CheckStatus, str | None]:
        places = self._places()
        resolved: list[Resolved] = []
        missing: list[str] = []
        for host, port in places:
            try:
                look = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
                name = f"katax-dns-{self._settings.name}"
                answers = bounded(look, timeout=self._seconds(len(places)), name=name, discard=_nothing)
                resolved.append((host, [(family, address) for family, _, _, _, address in answers]))
            except BoundedCallTimeout:
                missing.append(f"{host!r} was not answered in time")
            except (OSError, UnicodeError):
                missing.append(f"{host!r} has no address")
        if not resolved:
            raise _LayerFailed("; ".join(missing), "the name is wrong, or no name server answers; check host")
        return resolved, "degraded" if missing else "healthy", "; ".join(missing) or None

    def _places(self) -> Sequence[SocketAddress]:
        settings = self._settings
        default = DEFAULT_PORTS[settings.type]
        return settings.nodes or ((settings.host or "localhost", settings.port or default),)

    def _connect(self, places: Sequence[Resolved]) -> tuple[socket.socket, CheckStatus, str | None]:
        """The first address that accepts; those before it that did not are reported."""
        silent: list[str] = []
        cause = ""
        left = sum(len(addresses) for _, addresses in places)
        for host, addresses in places:
            for family, address in addresses:
                try:
                    wire = _opened(family, address, self._seconds(left))
                except OSError as error:
                    why = _why(error)
                    silent.append(f"{address[0]}:{address[1]} {why}")
                    cause = _TCP_CAUSES.get(why, "the network or a firewall between here and there")
                    left -= 1
                else:
                    self._host = host
                    return wire, "degraded" if silent else "healthy", "; ".join(silent) or None
        raise _LayerFailed("; ".join(silent), cause)

    def _encrypt(self, wire: socket.socket) -> tuple[float | None, CheckStatus, str | None]:
        """Days until the certificate ends. `tls` of a profile only: what a driver tries by itself is its own."""
        tls = self._settings.tls
        if tls is None or tls.mode == "disable":
            return None, "skipped", "not asked for"
        wire.settimeout(self._seconds(1))
        try:
            engine = load(self._settings)
            if isinstance(engine, AsksForTls):
                engine.ask_for_tls(wire)
            with _context(self._settings, tls).wrap_socket(wire, server_hostname=self._host) as encrypted:
                end = not_after(encrypted.getpeercert(binary_form=True) or b"").timestamp()
                days = round((end - SYSTEM.now()) / _DAY, 1)
                _hang_up(encrypted)
        except ssl.SSLCertVerificationError as error:
            raise _LayerFailed(
                f"certificate refused: {error.verify_message}", _certificate_cause(error)
            ) from error
        except (OSError, ValueError) as error:
            raise _LayerFailed(f"no TLS: {_why(error)}", _NO_TLS) from error
        ends = f"ends in {days:g} days" if days >= 0 else f"ended {-days:g} days ago"
        return days, "degraded" if days < EXPIRY_DAYS else "healthy", f"the certificate {ends}"

    def _seconds(self, shares: int) -> float:
        left = min(self._deadline.remaining(), self._settings.connect_timeout * shares)
        return max(left / shares, _SHORTEST)


def _opened(family: int, address: Any, seconds: float) -> socket.socket:
    wire = socket.socket(family, socket.SOCK_STREAM)
    try:
        wire.settimeout(seconds)
        wire.connect(address)
    except BaseException:
        wire.close()
        raise
    return wire


def _hang_up(wire: socket.socket) -> None:
    """Waits a moment for the server to close too: its place must be free before the login needs one."""
    with suppress(OSError):
        wire.shutdown(socket.SHUT_WR)
        wire.settimeout(_GOODBYE_SECONDS)
        while wire.recv(4096):
            pass


def _context(settings: ConnectionSettings, tls: TlsSettings) -> ssl.SSLContext:
    """Never stricter than the driver: `require` trusts anybody, as does what libpq finds its own files for."""
    try:
        context = ssl.create_default_context(cafile=None if tls.ca in (None, "system") else tls.ca)
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:
        raise _LayerFailed(
            f"tls files cannot be used: {_why(error)}", "a path of the tls settings is wrong"
        ) from error
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = tls.mode == "verify-full"
    libpq_looks = settings.type == "postgresql" and tls.mode == "verify-ca" and tls.ca is None
    if tls.mode == "require" or libpq_looks:
        context.verify_mode = ssl.CERT_NONE
    return context


def _certificate_cause(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _EXPIRED:
        return "the server's certificate has expired; renew it"
    if error.verify_code in _OTHER_NAME:
        return "the certificate is for another host; connect by the name in it"
    return "the certificate is not signed by an authority that this profile trusts; check tls.ca"


def _why(error: Exception) -> str:
    """Without addresses and numbers of errors, which say nothing to people."""
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError):
        return "the connection was reset"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "handshake failed").lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)


def _nothing(_: object) -> None: ...
