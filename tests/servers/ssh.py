"""An OpenSSH server of Debian's package, and an `ssh` on PATH that knows how to get in there."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.debian import PackageUnavailable, unpacked
from tests.servers.process import ServerProcess
from tests.servers.rooms import free_port, others_reach, service_account

_SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
UsePAM yes
StrictModes no
PidFile none
MaxStartups 100
Subsystem sftp internal-sftp
"""
_CLIENT = """
Host jump
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {keys}/user
  IdentitiesOnly yes
  UserKnownHostsFile {keys}/known
  StrictHostKeyChecking yes
Host stranger
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {keys}/user
  UserKnownHostsFile {keys}/none
  StrictHostKeyChecking yes
Host closed
  HostName 127.0.0.1
  Port {closed}
"""


@dataclass(frozen=True)
class Jump:
    """The server, to be killed and frozen, and the folder of the `ssh` that belongs on PATH."""

    server: ServerProcess
    path: Path


@contextmanager
def ssh_server(folder: Path, keys: Path) -> Iterator[Jump]:
    """Serves as `jump` of the client's configuration; `folder` must be within reach of the server's account."""
    account = service_account()
    port = free_port()
    for name in (folder / "host", keys / "user"):
        subprocess.run([_client("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", name], check=True)
    shutil.copy(keys / "user.pub", folder / "user.pub")
    host_key = (folder / "host.pub").read_text().split()[:2]
    (keys / "known").write_text(f"[127.0.0.1]:{port} {' '.join(host_key)}\n")
    (folder / "sshd_config").write_text(_SERVER.format(port=port, folder=folder))
    user = "nobody" if account else getpass.getuser()
    (keys / "config").write_text(_CLIENT.format(port=port, user=user, keys=keys, closed=free_port()))
    if account:
        account.own(folder, *folder.iterdir())
    program = keys / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {_client("ssh")} -F {keys}/config "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    command = (str(_program()), "-D", "-e", "-f", str(folder / "sshd_config"))
    server = ServerProcess("sshd", command, folder, lambda: _banner(port), account)
    server.start()
    try:
        yield Jump(server, program.parent)
    finally:
        if server.alive:
            server.kill()


def _client(name: str) -> str:
    return shutil.which(name) or str(_unpacked("openssh-client") / name)


def _unpacked(package: str) -> Path:
    try:
        return unpacked(package)
    except PackageUnavailable as error:
        pytest.skip(f"ssh: {error}")


def _program() -> Path:
    """sshd insists on an absolute path, which the script of the package is."""
    installed = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    program = Path(installed) if installed else _unpacked("openssh-server") / "sshd"
    assert others_reach(program)
    return program


def _banner(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=1) as wire:
        return wire.recv(100).decode().strip()
