"""A way to a server through another machine, by the `ssh` executable: its configuration, agent and known hosts.

ssh forwards a socket in a folder of our own to the server; where the connection is encrypted to the server itself, a
port of the loopback, for drivers speak TLS over no other. A shell beside ssh reads from a pipe whose other end is
ours: whatever ends this process closes it, and then ssh ends.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from secrets import token_hex
from threading import Condition, Thread
from typing import IO, Any

from katax_cli.core.clock import SYSTEM
from katax_cli.core.settings import DEFAULT_PORTS, ConnectionSettings
from katax_cli.errors import ConfigError, Unavailable

START_SECONDS = 10.0
"""The time that a connection through a tunnel has at least, for ssh has a login of its own."""
_POLL_SECONDS = 0.005
_OPTIONS = (
    "BatchMode=yes",
    "ExitOnForwardFailure=yes",
    "StreamLocalBindMask=0177",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ControlMaster=no",
    "ControlPath=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=no",
)
# $1: our folder; the rest: ssh and its words. What ssh says goes to our pipe, which ends with it.
_BESIDE_SSH = """
folder=$1; shift
"$@" </dev/null >/dev/null & ssh=$!
trap '' HUP INT QUIT TERM
exec 2>/dev/null
read -r _
kill -9 "$ssh"
wait "$ssh"
rm -rf "$folder"
"""


class Tunnel:
    """One ssh for one connection: begun by the first that connects, begun again by the next after it died."""

    def __init__(self, settings: ConnectionSettings) -> None:
        if settings.ssh is None or settings.ssh.startswith("-"):
            raise ConfigError(f"{settings.name!r}: ssh is no destination; write ssh = 'user@host'")
        self._name = settings.name
        self._destination = settings.ssh
        self._changed = Condition()
        self._process: subprocess.Popen[str] | None = None
        self._said = ""
        self._folder = os.path.join(tempfile.gettempdir(), f"katax-ssh-{token_hex(8)}")
        self._target = settings
        self._port = free_port() if settings.tls and settings.tls.mode != "disable" else None

    @property
    def settings(self) -> ConnectionSettings:
        """The settings as the driver needs them: the near end of the tunnel."""
        target = self._target
        seconds = max(target.connect_timeout, START_SECONDS)
        near = replace(
            target,
            connect_timeout=seconds,
            ssh=None,
            through=f"{target.address} through {self._destination}",
            socket=self._path,
            nodes=(),
        )
        if self._port is None:
            return replace(near, host=None)
        # libpq checks a certificate against `host` and connects to `hostaddr`.
        by_name = target.type == "postgresql"
        host = str(target.host) if by_name else "127.0.0.1"
        options = {**target.options, "hostaddr": "127.0.0.1"} if by_name else target.options
        nodes = ((host, self._port),)
        return replace(near, host=host, port=self._port, nodes=nodes, socket=None, options=options)

    @property
    def _path(self) -> str:
        port = self._target.port or DEFAULT_PORTS[self._target.type]
        name = f".s.PGSQL.{port}" if self._target.type == "postgresql" else "server.sock"
        return os.path.join(self._folder, name)

    def up(self, timeout: float | None) -> None:
        """Returns when connecting can begin. Raises Unavailable when ssh ends or takes longer than that."""
        ends = SYSTEM.monotonic() + (START_SECONDS if timeout is None else timeout)
        with self._changed:
            if self._process is None:
                self._begin()
            process = self._process
        while not os.path.exists(self._ready):
            with self._changed:
                if self._process is not process:
                    raise Unavailable(self._name, f"ssh to {self._destination}: {self._said or 'it ended'}")
            if SYSTEM.monotonic() >= ends:
                raise Unavailable(self._name, f"ssh to {self._destination} is not connected yet")
            SYSTEM.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Ends ssh."""
        with self._changed:
            process, self._process = self._process, None
        if process is not None:
            _let_end(process)

    @property
    def _ready(self) -> str:
        """A socket that ssh makes after it listens on the other one; nothing ever connects to it."""
        return os.path.join(self._folder, "ready")

    def _begin(self) -> None:
        program = shutil.which("ssh")
        if program is None:
            raise ConfigError(
                f"{self._name!r} goes through ssh, and there is no ssh on PATH; install OpenSSH"
            )
        os.mkdir(self._folder, mode=0o700)
        options = [word for option in _OPTIONS for word in ("-o", option)]
        seconds = f"ConnectTimeout={START_SECONDS:.0f}"
        words = [program, *options, "-o", seconds, "-N", "-T", *self._forwards(), "--", self._destination]
        process = subprocess.Popen(
            ["/bin/sh", "-c", _BESIDE_SSH, "katax-ssh", self._folder, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._process, self._said = process, ""
        assert process.stderr is not None
        Thread(
            target=self._watch, args=(process, process.stderr), name=f"katax-ssh-{self._name}", daemon=True
        ).start()

    def _forwards(self) -> list[str]:
        target = self._target
        host = target.host or "localhost"
        host = f"[{host}]" if ":" in host else host
        far = target.socket or f"{host}:{target.port or DEFAULT_PORTS[target.type]}"
        near = self._path if self._port is None else f"127.0.0.1:{self._port}"
        return ["-L", f"{near}:{far}", "-L", f"{self._ready}:{far}"]

    def _watch(self, process: subprocess.Popen[str], stderr: IO[str]) -> None:
        """Reads what ssh says until it ends; the next `up` begins another."""
        with stderr:
            for line in stderr:
                self._said = " ".join(line.split()) or self._said
        with self._changed:
            if self._process is process:
                self._process = None
                _let_end(process)


def _let_end(process: subprocess.Popen[str]) -> None:
    """Closes the pipe: the shell ends ssh, and then itself."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def free_port() -> int:
    """A port of this machine that is free now; another may take it at once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def through_tunnel(settings: ConnectionSettings, create: Callable[[ConnectionSettings], Any]) -> Any:
    """The engine of a connection with `ssh`, whose connects begin with the tunnel."""
    tunnel = Tunnel(settings)
    engine = create(tunnel.settings)
    for name in ("connect", "connect_subscriber"):
        connect = getattr(engine, name, None)
        if connect is not None:
            setattr(engine, name, _after(tunnel, connect))
    engine.tunnel = tunnel
    return engine


def _after(tunnel: Tunnel, connect: Callable[[float | None], Any]) -> Callable[[float | None], Any]:
    def connect_through(timeout: float | None) -> Any:
        began = SYSTEM.monotonic()
        tunnel.up(timeout)
        return connect(None if timeout is None else max(timeout - (SYSTEM.monotonic() - began), 0.001))

    return connect_through
